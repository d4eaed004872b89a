//! Whose clock is wrong: a leader's time decides what has expired, so a node whose clock is far from the others' must not lead.

use std::collections::{BTreeMap, BTreeSet};

use crate::NodeId;
use crate::peer::Peers;

/// Nodes further from the median are wrong, microseconds: the bound that receivers of commands allow for.
const FAR_US: u64 = 500_000;

/// The nodes whose clocks are far from the median of all, given how far each is ahead of one of them, microseconds.
///
/// Of fewer than three clocks nobody can say which one is wrong.
pub(super) fn far_clocks(ahead_us: &BTreeMap<NodeId, i64>) -> BTreeSet<NodeId> {
    let mut sorted: Vec<i64> = ahead_us.values().copied().collect();
    sorted.sort_unstable();
    if sorted.len() < 3 {
        return BTreeSet::new();
    }
    // Of an even number either middle one may be right.
    let middles = [sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]];
    let is_far = |ahead_us: i64| middles.iter().all(|middle| ahead_us.abs_diff(*middle) > FAR_US);
    ahead_us.iter().filter(|(_, ahead_us)| is_far(**ahead_us)).map(|(node, _)| *node).collect()
}

/// Whether the clock of `node` is far from those that `peers` know.
pub(super) fn is_far(peers: &Peers, node: NodeId) -> bool {
    far_clocks(&peers.clocks_ahead()).contains(&node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(ahead_us: &[i64]) -> Vec<u64> {
        let clocks = (1..).map(NodeId).zip(ahead_us.iter().copied()).collect();
        far_clocks(&clocks).into_iter().map(|node| node.0).collect()
    }

    #[test]
    fn the_clock_that_the_others_contradict_is_far() {
        assert_eq!(far(&[0, 600_000_000, 20]), [2]);
        assert_eq!(far(&[0, -600_000_000, -600_000_100]), [1]);
        assert!(far(&[0, 499_000, -499_000]).is_empty());
        assert_eq!(far(&[0, 1_000_000, -1_000_000]), [2, 3]);
    }

    #[test]
    fn where_opinions_are_split_nobody_is_far() {
        assert!(far(&[]).is_empty());
        assert!(far(&[0, 600_000_000]).is_empty());
        assert!(far(&[0, 0, 600_000_000, 600_000_000]).is_empty());
        assert_eq!(far(&[0, i64::MAX, i64::MIN]), [2, 3]);
    }
}
