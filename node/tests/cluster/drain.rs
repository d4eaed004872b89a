//! A node is asked to end.
use std::collections::BTreeSet;

use kvarter_api::v1::ClusterStatus;

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
