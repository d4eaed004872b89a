//! Promise 7: replicas of a shard at the same applied index have the same state hash.
use std::collections::BTreeMap;

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

/// Compares all hashes taken at one index of a shard, however many times a replica was asked. Each of `shards` shards must
/// have one index at which `replicas` nodes were seen; otherwise nothing was compared, and that is a failure.
pub fn check_replicas(hashes: &[ReplicaHash], shards: u64, replicas: usize) -> Violations {
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
    let mut compared: Vec<u32> =
        by_index.iter().filter(|(_, nodes)| nodes.len() >= replicas).map(|((shard, _), _)| *shard).collect();
    compared.dedup();
    violations.require("replicas", "shards with all replicas at one index", compared.len() as u64, shards);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards on three nodes, each seen at one index.
    fn hashes() -> Vec<ReplicaHash> {
        let replica =
            |shard: u32, node: u64| ReplicaHash { shard, node, applied_index: 90, hash: format!("{shard:032x}") };
        (1..=2).flat_map(|shard| (1..=3).map(move |node| replica(shard, node))).collect()
    }

    #[test]
    fn equal_hashes_pass() {
        assert_eq!(check_replicas(&hashes(), 2, 3), Violations::default());
    }

    #[test]
    fn a_differing_hash_is_caught() {
        let mut hashes = hashes();
        hashes[4].hash = "f".repeat(32);
        let found = check_replicas(&hashes, 2, 3).first;
        assert!(matches!(found[0], Violation::ReplicasDiffer { shard: 2, applied_index: 90, node: 2, .. }));
    }

    #[test]
    fn hashes_at_different_indexes_prove_nothing() {
        let mut hashes = hashes();
        hashes[4].applied_index = 91;
        hashes[4].hash = "f".repeat(32);
        let found = check_replicas(&hashes, 2, 3).first;
        assert!(matches!(found[..], [Violation::TooLittleSeen { checker: "replicas", seen: 1, expected: 2, .. }]));
    }

    #[test]
    fn a_missing_replica_is_not_a_pass() {
        let hashes = &hashes()[..5];
        assert!(matches!(check_replicas(hashes, 2, 3).first[..], [Violation::TooLittleSeen { seen: 1, .. }]));
    }
}
