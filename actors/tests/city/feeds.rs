//! Feeds and services where logs are dropped or damaged.

use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::message::{self, FailureReason};
use kvarter_actors::{AttributeNumber, City, ValueRef};
use kvarter_cluster::{LogIndex, MemoryStorage, ShardId};

use crate::fleet::{Fleet, eventually};
use crate::gateway::Gateway;
use crate::{FLOW, LAMP, MIDNIGHT_US, MINUTE_US, SENSOR, figures};

/// Commits an entry without facts, of `bytes`, in which `needle` stands as it is.
async fn commit_padding(city: &City, shard: ShardId, needle: &str, bytes: usize) -> LogIndex {
    let handle = city.cluster().shard(shard).unwrap();
    let term = handle.leadership().borrow().term;
    let traceparents = vec![needle.to_owned(), "x".repeat(bytes)];
    let facts = message::Facts { format: 1, traceparents, ..message::Facts::default() };
    handle.propose(term, prost::Message::encode_to_vec(&facts).into()).await.unwrap()
}

/// Drops the log up to `last`, again while the leader still sends some of it to a follower.
async fn drop_log(city: &City, shard: ShardId, last: LogIndex) {
    eventually("the entry is applied", async || city.view(shard).unwrap().applied >= last).await;
    eventually("the log is dropped", async || {
        assert!(city.cluster().compact(shard, last).await);
        city.cluster().shard(shard).unwrap().first_index() > last
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_came_by_snapshot_leads_with_services_and_readers_attached() {
    let mut fleet = Fleet::new(3);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 6, &[LAMP, SENSOR]).await;
    let flow = |sensor, minutes: i64, flow| {
        let mut readings = message::Readings::default();
        readings.push(sensor, AttributeNumber(FLOW), MIDNIGHT_US + minutes * MINUTE_US, ValueRef::Integer(flow));
        readings
    };
    eventually("the service runs", async || figures(&city, shard).await.contains_key("lamps")).await;
    gateway.submit_columns(flow(gateway.devices[1], 0, 100)).await;
    let (lamp, ordered) = gateway.command().await;
    gateway.acknowledge(lamp, &ordered.id).await;
    drop((gateway, city));

    let away = fleet.follower(shard).await;
    fleet.stop(away).await;
    let leader = fleet.leader(shard).await;
    let last = commit_padding(fleet.city(leader), shard, "while it was away", 1 << 10).await;
    let others: Vec<_> = (1..=3).filter(|node| *node != away).collect();
    for node in &others {
        drop_log(fleet.city(*node), shard, last).await;
    }
    fleet.start(away).await;
    let city = fleet.city(away).clone();
    eventually("its replica is in step", async || city.view(shard).is_some_and(|view| view.applied >= last)).await;
    assert!(city.cluster().shard(shard).unwrap().first_index() > last, "it came by snapshot");

    let names = [LAMP, SENSOR].map(|(name, _)| name.to_owned()).to_vec();
    let mut gateway = Gateway::connect(&city, shard, 7, names).await;
    let mut feed = city.feed(shard, last);
    for node in others {
        fleet.city(node).cluster().transfer_leaders(Duration::from_secs(30)).await;
    }
    eventually("it leads", async || {
        city.cluster().shard(shard).is_some_and(|shard| shard.leadership().borrow().is_ready)
    })
    .await;
    gateway.submit_columns(flow(gateway.devices[1], 60, 0)).await;
    let (device, ordered) = gateway.command().await;
    assert_eq!(device, lamp);
    let level = ordered.arguments[0].value.as_ref().unwrap().kind.clone();
    assert_eq!(level, Some(message::value::Kind::Number(30.0)), "the service goes on where it was");
    gateway.acknowledge(device, &ordered.id).await;
    let applied = city.view(shard).unwrap().applied;
    let mut indexes = Vec::new();
    while feed.position() < applied {
        indexes.extend(feed.next().await.unwrap().into_iter().map(|entry| entry.index));
    }
    assert!(indexes.is_sorted() && indexes.first() > Some(&last) && indexes.last() >= Some(&applied), "{indexes:?}");
    drop((gateway, city, feed));
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_local_log_is_damaged_is_served_by_another_replica() {
    let mut fleet = Fleet::new(3);
    let disk = MemoryStorage::blocking();
    fleet.storage = Arc::new(disk.clone());
    fleet.start_all().await;
    let shard = ShardId(1);
    let leader = fleet.leader(shard).await;
    let city = fleet.city(leader).clone();
    let mut indexes = Vec::new();
    // More than is kept in memory.
    for number in 0..20 {
        indexes.push(commit_padding(&city, shard, &format!("needle-{number}-"), 512 << 10).await);
    }
    assert!(disk.damage(&fleet.log_directory(leader), b"needle-3-").unwrap() > 0);

    let mut feed = city.feed(shard, indexes[2]);
    let mut read = Vec::new();
    while read.last() != indexes.last() {
        let entries = feed.next().await.unwrap();
        read.extend(entries.into_iter().map(|entry| entry.index).filter(|index| indexes.contains(index)));
    }
    assert_eq!(read, indexes[3..]);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_whose_entries_are_gone_says_so_although_a_replica_does_not_answer() {
    let mut fleet = Fleet::new(3);
    fleet.start_all().await;
    let shard = ShardId(1);
    let silent = fleet.follower(shard).await;
    let leader = fleet.city(fleet.leader(shard).await).clone();
    let mut last = LogIndex(0);
    // More than is kept in memory.
    for _entry in 0..10 {
        last = commit_padding(&leader, shard, "needle", 512 << 10).await;
    }
    fleet.stop(silent).await;
    let left: Vec<_> = (1..=3).filter(|node| *node != silent).collect();
    for node in &left {
        drop_log(fleet.city(*node), shard, last).await;
    }
    let gone = fleet.city(left[0]).feed(shard, LogIndex(1)).next().await.unwrap_err();
    assert_eq!(gone.reason(), FailureReason::Gone, "{gone:?}");
    fleet.stop_all().await;
}
