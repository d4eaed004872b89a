//! Which nodes vote in the meta group. Every node is a member of it; those that do not vote follow as learners.

use std::collections::BTreeSet;

use super::Layout;
use crate::NodeId;

/// Voters of a meta group at most. More would make each of its commits slower and no loss of nodes more bearable.
const VOTERS_MAX: usize = 5;

/// The nodes that are to vote, given those that do: an odd number of them, in as many zones as there are, and no other change
/// than necessary. Two nodes both vote, so that either has everything.
pub(crate) fn meta_voters(layout: &Layout, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let candidates = layout.sites.iter().filter(|(node, site)| {
        // A node that nobody hears from may vote on, but is not made a voter.
        !site.is_leaving && (site.is_reachable || voters.contains(node))
    });
    let candidates: Vec<NodeId> = candidates.map(|(node, _)| *node).collect();
    let count = match candidates.len() {
        few @ 0..=2 => few,
        many => (many - (many + 1) % 2).min(VOTERS_MAX),
    };
    let mut chosen: Vec<NodeId> = Vec::new();
    while chosen.len() < count {
        let next = candidates
            .iter()
            .copied()
            .filter(|node| !chosen.contains(node))
            .min_by_key(|node| (layout.neighbours(*node, &chosen), !voters.contains(node), *node));
        let Some(next) = next else { break };
        chosen.push(next);
    }
    chosen.into_iter().collect()
}
