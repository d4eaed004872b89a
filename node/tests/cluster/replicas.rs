//! Holds the replicas of each shard against each other.
use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::{Fleet, SHARDS};

/// Waits until all replicas of each shard, of which every one of `members` has one, were seen at one common index, and demands equal state hashes at every index that
/// two of them were seen at.
pub(crate) async fn check_equal(fleet: &Fleet, members: &[u64]) {
    // Hash and nodes by shard and index.
    let mut seen: BTreeMap<(u32, u64), (String, BTreeSet<u64>)> = BTreeMap::new();
    let look = async || {
        for node in members.iter().copied() {
            let answer = fleet.only(node).local_replicas(true).await.ok()?;
            for replica in answer.replicas {
                let at = (replica.shard, replica.applied_index);
                let (hash, nodes) = seen.entry(at).or_insert_with(|| (replica.state_hash.clone(), BTreeSet::new()));
                assert_eq!(*hash, replica.state_hash, "node {node} and {nodes:?} at shard and index {at:?}");
                nodes.insert(node);
            }
        }
        let complete = seen.iter().filter(|(_, (_, nodes))| nodes.len() == members.len()).map(|((shard, _), _)| *shard);
        let complete = complete.filter(|shard| *shard > 0).collect::<BTreeSet<_>>();
        (complete.len() == usize::try_from(SHARDS).unwrap()).then_some(())
    };
    fleet.eventually("all replicas at one index", look).await;
}
