//! Where replicas belong, and how a group gets there. Pure: the driver in `cluster/moves.rs` looks, asks here, and acts.
//!
//! [`next_placement`] (`placement/plan.rs`) says which shard is to have which replicas next, [`meta_voters`]
//! (`placement/voters.rs`) which nodes vote in the meta group, [`next_step`] (`placement/step.rs`) what a group's leader does
//! to its membership. None has a memory: each looks at what is, so whoever leads next goes on. The rule and its reasons are in
//! `docs/placement.md`.

mod plan;
mod step;
#[cfg(test)]
mod tests;
mod voters;

use std::collections::{BTreeMap, BTreeSet};

use crate::meta::{MetaView, Phase, ShardRecord};
use crate::{NodeId, ShardId};

pub(crate) use plan::next_placement;
pub(crate) use step::{Goal, Group, Step, next_step};
pub(crate) use voters::meta_voters;

/// A node as a place for replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) zone: String,
    pub(crate) is_leaving: bool,
    /// A node that nobody hears from keeps what it has and gets nothing.
    pub(crate) is_reachable: bool,
}

/// What is placed where.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) sites: BTreeMap<NodeId, Site>,
    pub(crate) shards: BTreeMap<ShardId, ShardRecord>,
    pub(crate) replication_factor: usize,
}

impl Layout {
    pub(crate) fn of(view: &MetaView, is_reachable: impl Fn(NodeId) -> bool) -> Self {
        let site = |node: &crate::NodeRecord| Site {
            zone: node.zone.clone(),
            is_leaving: node.is_leaving,
            is_reachable: is_reachable(node.id),
        };
        Self {
            sites: view.nodes.values().map(|node| (node.id, site(node))).collect(),
            shards: view.shards.clone(),
            replication_factor: view.replication_factor(),
        }
    }

    fn stays(&self, node: NodeId) -> bool {
        self.sites.get(&node).is_some_and(|site| !site.is_leaving)
    }

    /// Nodes that may get replicas.
    fn receivers(&self) -> impl Iterator<Item = NodeId> {
        self.sites.iter().filter(|(_, site)| !site.is_leaving && site.is_reachable).map(|(node, _)| *node)
    }

    fn staying(&self) -> impl Iterator<Item = NodeId> {
        self.sites.iter().filter(|(_, site)| !site.is_leaving).map(|(node, _)| *node)
    }

    fn zone(&self, node: NodeId) -> &str {
        self.sites.get(&node).map_or("", |site| site.zone.as_str())
    }

    /// Replicas in the zone of `node`, itself not counted.
    fn neighbours(&self, node: NodeId, replicas: &[NodeId]) -> usize {
        replicas.iter().filter(|other| **other != node && self.zone(**other) == self.zone(node)).count()
    }

    /// Replicas that are placed on `node`.
    fn load(&self, node: NodeId) -> usize {
        self.shards.values().filter(|shard| shard.replicas.contains(&node)).count()
    }

    /// Shards that `node` is the preferred leader of.
    fn leads(&self, node: NodeId) -> usize {
        self.shards.values().filter(|shard| shard.replicas.first() == Some(&node)).count()
    }

    fn settled(&self) -> impl Iterator<Item = (ShardId, &ShardRecord)> {
        self.shards.iter().filter(|(_, shard)| shard.phase == Phase::Settled).map(|(shard, record)| (*shard, record))
    }

    /// Whether as many shards are under way as may be at a time.
    fn is_busy(&self) -> bool {
        self.shards.values().filter(|shard| shard.phase == Phase::Moving).count() >= plan::MOVES_MAX
    }
}

/// `replicas` with `new` in the place of `old`.
fn with(replicas: &[NodeId], old: NodeId, new: NodeId) -> Vec<NodeId> {
    replicas.iter().map(|node| if *node == old { new } else { *node }).collect()
}

fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

impl Goal {
    /// Exactly these replicas, all of them voters.
    pub(crate) fn replicas(replicas: &[NodeId]) -> Self {
        Self { voters: set(replicas), learners: BTreeSet::new() }
    }
}
