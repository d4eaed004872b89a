//! A node comes and another one goes, while the devices report.
use kvarter_api::v1::ClusterStatus;

use crate::feed;
use crate::fleet::Fleet;
use crate::replicas;
use crate::sensors::Sensors;

/// Exit code of a node that was removed.
const REMOVED: i32 = 3;

pub(crate) fn is_at_rest(status: &ClusterStatus) -> bool {
    status.shards.iter().all(|shard| !shard.moving && shard.leader.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_another_is_removed_under_load() {
    let mut fleet = Fleet::start().await;
    let cursors = feed::cursors(fleet.client()).await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    sensors.send_round().await;
    sensors.acknowledged().await;

    fleet.join(4);
    let has_replicas = async || {
        sensors.send_round().await;
        let status = fleet.client().cluster_status().await.ok()?;
        let joined = status.nodes.iter().find(|node| node.id == 4)?;
        (joined.replicas == 3 && is_at_rest(&status)).then_some(())
    };
    fleet.eventually("the fourth node has three of twelve replicas", has_replicas).await;

    fleet.command(&["cluster", "node", "remove", "2"]).await;
    let is_gone = async || {
        sensors.send_round().await;
        let status = fleet.only(4).cluster_status().await.ok()?;
        (status.removed_nodes == [2] && is_at_rest(&status)).then_some(())
    };
    fleet.eventually("the second node is removed", is_gone).await;
    assert_eq!(fleet.ended(2).await.code(), Some(REMOVED));
    sensors.send_round().await;
    sensors.acknowledged().await;

    for node in [1, 3, 4] {
        sensors.check_twins(&fleet.only(node)).await;
        feed::check(&fleet.only(node), &cursors, &sensors.observations()).await;
    }
    replicas::check_equal(&fleet, &[1, 3, 4]).await;
    // Starting it again is of no use, and says so.
    fleet.restart(2);
    assert_eq!(fleet.ended(2).await.code(), Some(REMOVED));
}
