//! A node is asked to end.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvarter_api::v1::ClusterStatus;
use tokio::time::Instant;

use crate::fleet::{Fleet, NODES};
use crate::sensors::Sensors;

fn leaders(status: &ClusterStatus) -> BTreeSet<Option<u64>> {
    status.shards.iter().map(|shard| shard.leader).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_has_handed_its_shards_over_when_it_ends() {
    let mut fleet = Fleet::start().await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    sensors.send_round().await;
    sensors.acknowledged().await;
    let leads = async || {
        let status = fleet.client().cluster_status().await.ok()?;
        status.nodes.iter().find(|node| node.shards_led > 0).map(|node| node.id)
    };
    let drained = fleet.eventually("a node leads a shard", leads).await;

    sensors.send_round().await;
    let status = fleet.terminate(drained).await;
    assert!(status.success(), "{status}");
    for node in NODES.into_iter().filter(|node| *node != drained) {
        let leaders = leaders(&fleet.only(node).cluster_status().await.expect("a status"));
        assert!(!leaders.contains(&None) && !leaders.contains(&Some(drained)), "node {node} sees {leaders:?}");
    }
    sensors.send_round().await;
    sensors.acknowledged().await;
    sensors.check_twins(fleet.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_leads_nothing_until_that_is_undone() {
    let fleet = Fleet::start().await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    let led = async || {
        let status = fleet.client().cluster_status().await.ok()?;
        let is_led = status.shards.iter().all(|shard| shard.leader.is_some());
        let nodes = status.nodes.iter().map(|node| (node.id, (node.shards_led, node.drained)));
        is_led.then(|| nodes.collect::<BTreeMap<_, _>>())
    };
    let leader = async || led().await?.into_iter().find(|(_, (shards, _))| *shards > 0).map(|(node, _)| node);
    let drained = fleet.eventually("a node leads a shard", leader).await;

    // Asked of another node.
    let other = NODES.into_iter().find(|node| *node != drained).unwrap();
    fleet.only(other).drain_node(drained, false).await.expect("drained");
    let is_relieved = async || (led().await?[&drained] == (0, true)).then_some(());
    fleet.eventually("the node leads nothing", is_relieved).await;
    // Leaderships go back to those who are preferred after 2 s, one by one.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        sensors.send_round().await;
        sensors.acknowledged().await;
        if let Some(led) = led().await {
            assert_eq!(led[&drained], (0, true));
        }
    }
    fleet.command(&["cluster", "drain", &drained.to_string(), "--undo"]).await;
    let leads_again = async || {
        let (shards, is_drained) = led().await?[&drained];
        (shards > 0 && !is_drained).then_some(())
    };
    fleet.eventually("the node leads again", leads_again).await;
    sensors.check_twins(fleet.client()).await;
}
