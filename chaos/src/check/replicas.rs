//! Promise 7: replicas of a shard at the same applied index have the same state hash.
use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, Violations};

/// What one node says about its replica of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaHash {
    pub shard: u32,
    pub node: u64,
    pub applied_index: u64,
    /// Hex.
    pub hash: String,
}

/// Compares all hashes taken at one index of a shard, however many times a replica was asked. `placed` names the nodes that are
/// to have a replica of each shard: each shard must have one index at which all of them were seen; otherwise, and where none are
/// named, nothing was compared, and that is a failure. Replicas at other nodes, as of a move, are compared too.
pub fn check_replicas(hashes: &[ReplicaHash], placed: &BTreeMap<u32, BTreeSet<u64>>) -> Violations {
    let mut by_index: BTreeMap<(u32, u64), BTreeMap<u64, &str>> = BTreeMap::new();
    let mut violations = Violations::default();
    for seen in hashes {
        let at_index = by_index.entry((seen.shard, seen.applied_index)).or_default();
        let differing = at_index.iter().find(|(_, hash)| **hash != seen.hash);
        if let Some((other_node, other_hash)) = differing {
            violations.add(Violation::ReplicasDiffer {
                shard: seen.shard,
                applied_index: seen.applied_index,
                node: seen.node,
                hash: seen.hash.clone(),
                other_node: *other_node,
                other_hash: (*other_hash).to_owned(),
            });
        }
        at_index.insert(seen.node, &seen.hash);
    }
    let is_compared = |(shard, replicas): &(&u32, &BTreeSet<u64>)| {
        let at_indexes = by_index.range((**shard, 0)..=(**shard, u64::MAX));
        let mut at_indexes = at_indexes.map(|(_, nodes)| nodes);
        !replicas.is_empty() && at_indexes.any(|nodes| replicas.iter().all(|node| nodes.contains_key(node)))
    };
    let compared = placed.iter().filter(is_compared).count();
    violations.require("replicas", "shards with all replicas at one index", compared as u64, placed.len() as u64);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards on the same three of five nodes.
    fn placed() -> BTreeMap<u32, BTreeSet<u64>> {
        (1..=2).map(|shard| (shard, BTreeSet::from([1, 2, 3]))).collect()
    }

    /// Each seen at one index.
    fn hashes() -> Vec<ReplicaHash> {
        let replica =
            |shard: u32, node: u64| ReplicaHash { shard, node, applied_index: 90, hash: format!("{shard:032x}") };
        (1..=2).flat_map(|shard| (1..=3).map(move |node| replica(shard, node))).collect()
    }

    #[test]
    fn equal_hashes_pass() {
        assert_eq!(check_replicas(&hashes(), &placed()), Violations::default());
    }

    #[test]
    fn a_differing_hash_is_caught() {
        let mut hashes = hashes();
        hashes[4].hash = "f".repeat(32);
        let found = check_replicas(&hashes, &placed()).first;
        assert!(matches!(found[0], Violation::ReplicasDiffer { shard: 2, applied_index: 90, node: 2, .. }));
    }

    #[test]
    fn hashes_at_different_indexes_prove_nothing() {
        let mut hashes = hashes();
        hashes[4].applied_index = 91;
        hashes[4].hash = "f".repeat(32);
        let found = check_replicas(&hashes, &placed()).first;
        assert!(matches!(found[..], [Violation::TooLittleSeen { checker: "replicas", seen: 1, expected: 2, .. }]));
    }

    #[test]
    fn a_missing_replica_is_not_a_pass() {
        let hashes = &hashes()[..5];
        assert!(matches!(check_replicas(hashes, &placed()).first[..], [Violation::TooLittleSeen { seen: 1, .. }]));
    }

    #[test]
    fn a_replica_at_a_node_that_is_to_have_none_stands_for_no_other_and_is_compared() {
        let mut hashes = hashes();
        hashes[5].node = 4;
        let found = check_replicas(&hashes, &placed()).first;
        assert!(matches!(found[..], [Violation::TooLittleSeen { seen: 1, .. }]));
        hashes[5].hash = "f".repeat(32);
        assert!(matches!(check_replicas(&hashes, &placed()).first[0], Violation::ReplicasDiffer { node: 4, .. }));
    }

    #[test]
    fn a_shard_whose_replicas_nobody_names_is_not_a_pass() {
        let mut placed = placed();
        placed.insert(2, BTreeSet::new());
        let found = check_replicas(&hashes(), &placed).first;
        assert!(matches!(found[..], [Violation::TooLittleSeen { seen: 1, expected: 2, .. }]));
    }
}
