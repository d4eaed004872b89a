//! Kinds that are put, used and removed.

use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{CallContext, City, Kind};
use kvarter_cluster::ShardId;

use crate::fleet::{Fleet, call, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_can_be_added_and_extended_but_not_changed() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let lamp = city.catalog().borrow().kind("luminaire").unwrap().as_ref().clone();
    let mut bench = lamp.clone();
    bench.name = "bench".to_owned();
    city.put_kind(bench.clone()).await.unwrap();
    assert!(city.catalog().borrow().kind("bench").is_some());
    bench.attributes.truncate(1);
    bench.safe_state.clear();
    let failure = city.put_kind(bench).await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::Invalid);
    fleet.stop_all().await;
}

/// Removes the kind for a caller who waits far longer than that takes.
async fn delete_kind(city: &City, kind: &str) -> Result<(), Failure> {
    let context = CallContext { deadline: Duration::from_secs(30), ..CallContext::default() };
    city.delete_kind(kind, context).await
}

/// Why the device is not registered; empty: it is.
async fn register(city: &City, shard: ShardId, name: &str, kind: &str) -> String {
    let device = message::DeviceRegistration { name: name.to_owned(), kind: kind.to_owned(), ..Default::default() };
    let request = Request::RegisterDevices(message::RegisterDevices { devices: vec![device] });
    match call(city, shard, request).await.unwrap() {
        Reply::DevicesRegistered(registered) => registered.outcomes.into_iter().next().unwrap().error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_devices_are_of_can_not_be_removed_and_one_without_can_be_until_it_is_put_again() {
    const GONE: &str = "kind `bench` is not in the catalog";
    let mut fleet = Fleet::new(3);
    fleet.start_all().await;
    eventually("the built-in kinds and the version that removes them", async || {
        (1..=3)
            .map(|node| fleet.city(node))
            .all(|city| city.catalog().borrow().kind("luminaire").is_some() && city.cluster().meta().version() >= 4)
    })
    .await;
    let city = fleet.city(1).clone();
    let bench = Kind { name: "bench".to_owned(), ..Kind::clone(city.catalog().borrow().kind("luminaire").unwrap()) };
    city.put_kind(bench.clone()).await.unwrap();
    // Two districts, and so two shards.
    let devices = ["a/bench", "b/bench"];
    let mut shards = Vec::new();
    for name in devices {
        let shard = city.assign_district(&name[..1]).await.unwrap();
        eventually("the kind at the shard's leader", async || register(&city, shard, name, "bench").await.is_empty())
            .await;
        shards.push(shard);
    }
    assert_ne!(shards[0], shards[1]);

    let failure = delete_kind(&city, "bench").await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::InUse);
    assert_eq!(failure.message, "kind `bench` can not be removed: 2 devices are of it");
    assert!(city.catalog().borrow().current("bench").is_some());
    let retire = |name: &str| Request::RetireDevice(message::RetireDevice { name: name.to_owned() });
    for (name, shard) in devices.into_iter().zip(&shards) {
        let more = format!("{name}-2");
        eventually("the kind is used on", async || register(&city, *shard, &more, "bench").await.is_empty()).await;
        call(&city, *shard, retire(name)).await.unwrap();
        call(&city, *shard, retire(&more)).await.unwrap();
    }

    // As a removal leaves it that is broken off by the death of its node.
    let retired = Kind { is_retired: true, ..bench.clone() };
    city.cluster().put_documents(vec![(retired.document_key(), Some(retired.to_document()))], None).await.unwrap();
    delete_kind(&city, "bench").await.unwrap();
    assert!(city.catalog().borrow().current("bench").is_none());
    for shard in &shards {
        assert_eq!(register(&city, *shard, "a/late", "bench").await, GONE);
    }
    delete_kind(fleet.city(2), "bench").await.unwrap();
    assert_eq!(delete_kind(&city, "settle").await.unwrap_err().reason(), FailureReason::NotFound);
    assert_eq!(delete_kind(&city, "No Kind").await.unwrap_err().reason(), FailureReason::Invalid);

    let changed = Kind { attributes: bench.attributes[..1].to_vec(), safe_state: BTreeMap::new(), ..bench.clone() };
    assert_eq!(city.put_kind(changed).await.unwrap_err().reason(), FailureReason::Invalid);
    city.put_kind(bench).await.unwrap();
    eventually("the kind is back", async || register(&city, shards[0], "a/bench", "bench").await.is_empty()).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_whose_devices_can_not_be_counted_is_not_removed() {
    let mut fleet = Fleet::new(5);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds and the version that removes them", async || {
        city.catalog().borrow().kind("bus").is_some() && city.cluster().meta().version() >= 4
    })
    .await;
    // Two of a shard's three replicas are gone, and three of the meta group's five are left.
    let replicas = city.cluster().meta().shards[&ShardId(1)].replicas.clone();
    let gone: Vec<u64> = replicas.iter().map(|node| node.0).filter(|node| *node != 1).take(2).collect();
    for node in gone {
        fleet.stop(node).await;
    }
    let bench = Kind { name: "bench".to_owned(), ..Kind::clone(city.catalog().borrow().kind("bus").unwrap()) };
    eventually("the meta group is led", async || city.put_kind(bench.clone()).await.is_ok()).await;
    let context = CallContext { deadline: Duration::from_secs(4), ..CallContext::default() };
    let failure = city.delete_kind("bench", context).await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::NotLeader, "{failure:?}");
    assert!(failure.message.starts_with("the devices of kind `bench` were not counted: "), "{failure:?}");
    assert!(city.catalog().borrow().current("bench").is_some());
    drop(city);
    fleet.stop_all().await;
}
