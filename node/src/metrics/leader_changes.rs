//! Counts how often the shards' leaders change: many are the sign of a cluster that is not at rest.

use std::collections::BTreeMap;

use kvarter_actors::{City, ShardState};
use kvarter_cluster::{Leadership, NodeId, ShardHandle, ShardId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Counts on `meter` the leader changes that the replicas of this node see, until `stop`.
pub(crate) async fn count_leader_changes(meter: Meter, city: City, stop: CancellationToken) {
    let changes = meter
        .u64_counter("kvarter.shard.leader_changes")
        .with_description("Leader changes seen by this node's replica, the first leader included")
        .build();
    let mut replicas = city.cluster().shards();
    let mut counted: BTreeMap<ShardId, ShardHandle<ShardState>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let placed = replicas.borrow_and_update().clone();
        for (id, replica) in &placed {
            // A replica may have left this node and come back.
            if !counted.get(id).is_some_and(|before| before.is_same(replica)) {
                tasks.spawn(count(changes.clone(), *id, replica.leadership()));
            }
        }
        counted = placed;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => {}
            changed = replicas.changed() => if changed.is_err() { break },
        }
    }
    tasks.shutdown().await;
}

async fn count(changes: Counter<u64>, shard: ShardId, mut leadership: watch::Receiver<Leadership>) {
    let label = [KeyValue::new("shard", i64::from(shard.0))];
    let mut last = None;
    loop {
        let leader = leadership.borrow_and_update().leader;
        if is_change(&mut last, leader) {
            changes.add(1, &label);
        }
        if leadership.changed().await.is_err() {
            break;
        }
    }
}

/// Whether `leader` is another than the last that was known; being without one is no change yet.
fn is_change(last: &mut Option<NodeId>, leader: Option<NodeId>) -> bool {
    match leader {
        Some(_) if *last != leader => {
            *last = leader;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_comes_back_is_no_change() {
        let mut last = None;
        let seen = [None, Some(1), None, Some(1), Some(2), Some(2), Some(1)];
        let changes = seen.map(|leader| is_change(&mut last, leader.map(NodeId)));
        assert_eq!(changes, [false, true, false, false, true, false, true]);
    }
}
