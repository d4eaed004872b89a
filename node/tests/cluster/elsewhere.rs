//! The feed at nodes that have no replica of a shard.
use kvarter_api::Client;
use kvarter_api::v1::{ErrorReason, Fact, Position, SubscribeRequest, fact};
use tokio::time::timeout;

use crate::feed;
use crate::fleet::{Fleet, PATIENCE};
use crate::members::is_at_rest;
use crate::sensors::Sensors;

/// The facts behind `cursors` until so many devices were retired, by their positions. Without those about connections, which
/// tell of the devices that a stream has when they are read.
async fn until_retired(client: &Client, cursors: &[Position], devices: usize) -> Vec<Fact> {
    let request = SubscribeRequest { cursors: cursors.to_vec(), ..SubscribeRequest::default() };
    let mut feed = client.subscribe(request).await.expect("a subscription");
    let mut facts = Vec::new();
    let is_retired = |fact: &&Fact| matches!(fact.fact, Some(fact::Fact::DeviceRetired(_)));
    while facts.iter().filter(is_retired).count() < devices {
        let message = timeout(PATIENCE, feed.next()).await;
        let message = message.unwrap_or_else(|_| panic!("the feed stands still behind {} facts", facts.len()));
        let told = message.expect("a message").facts.into_iter();
        facts.extend(told.filter(|fact| !matches!(fact.fact, Some(fact::Fact::ConnectivityChanged(_)))));
    }
    facts.sort_by_key(|fact| fact.position.map(|at| (at.shard, at.index, at.ordinal)));
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_the_same_facts_also_of_devices_that_are_retired_since() {
    let mut fleet = Fleet::start().await;
    fleet.join(4);
    let is_spread = async || {
        let status = fleet.client().cluster_status().await.ok()?;
        let joined = status.nodes.iter().find(|node| node.id == 4)?;
        (joined.replicas == 3 && is_at_rest(&status)).then_some(())
    };
    fleet.eventually("every node lacks one of four shards", is_spread).await;
    let ahead = Position { shard: 1, index: 1_000_000, ordinal: 0 };
    for node in [1, 2, 3, 4] {
        let request = SubscribeRequest { cursors: vec![ahead], ..SubscribeRequest::default() };
        let refused = fleet.only(node).subscribe(request).await.expect_err("no feed is so long");
        assert_eq!(refused.reason(), Some(ErrorReason::Invalid), "node {node}: {refused}");
    }

    let mut sensors = Sensors::connect(fleet.client()).await;
    let cursors = feed::cursors(fleet.client()).await;
    sensors.send_round().await;
    sensors.acknowledged().await;
    for device in sensors.devices() {
        fleet.client().retire(device).await.expect("retired");
    }
    let devices = sensors.devices().len();
    let expected = until_retired(&fleet.only(1), &cursors, devices).await;
    assert_eq!(expected.len(), 2 * devices, "a reading and the end of each device");
    for node in [2, 3, 4] {
        let facts = until_retired(&fleet.only(node), &cursors, devices).await;
        assert!(facts == expected, "node {node} tells {facts:?}, node 1 {expected:?}");
    }
}
