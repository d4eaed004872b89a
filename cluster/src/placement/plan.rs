//! Which shard is to have which replicas next.

use super::{Layout, with};
use crate::meta::Phase;
use crate::{NodeId, ShardId};

/// Shards that change their replicas at a time. Each copies a state over the network and the disks; more at once would be felt
/// by everybody.
pub(super) const MOVES_MAX: usize = 2;

/// The next shard whose replicas are to be others, or in another order, and which; one replica at a time.
///
/// First what must be: leaving nodes lose their replicas, missing replicas are added. Then what is better: zones apart, then
/// loads even, then preferred leaders even. Each of these strictly improves what comes first in that order and worsens nothing
/// before it, so that repeating it ends.
pub(crate) fn next_placement(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    let placed = evacuate(layout);
    if placed.is_some() || layout.is_busy() {
        return placed;
    }
    grow(layout).or_else(|| spread(layout)).or_else(|| balance(layout)).or_else(|| even_leaders(layout))
}

/// The best node to have another replica beside `replicas`: in the emptiest zone, then the least loaded one.
fn receiver(layout: &Layout, replicas: &[NodeId]) -> Option<NodeId> {
    layout
        .receivers()
        .filter(|node| !replicas.contains(node))
        .min_by_key(|node| (layout.neighbours(*node, replicas), layout.load(*node), *node))
}

/// Replicas that a shard is to have.
fn wanted(layout: &Layout) -> usize {
    layout.replication_factor.min(layout.staying().count())
}

/// Gives another node the place of one that leaves; also where a move is under way, since its target may be what leaves.
fn evacuate(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    let mut movable = layout.shards.iter().filter(|(_, shard)| match shard.phase {
        Phase::Founding => false,
        Phase::Moving => true,
        Phase::Settled => !layout.is_busy(),
    });
    movable.find_map(|(shard, record)| {
        let leaver = *record.replicas.iter().find(|node| !layout.stays(**node))?;
        let others: Vec<_> = record.replicas.iter().copied().filter(|node| *node != leaver).collect();
        if let Some(receiver) = receiver(layout, &others) {
            return Some((*shard, with(&record.replicas, leaver, receiver)));
        }
        (others.len() >= wanted(layout)).then_some((*shard, others))
    })
}

fn grow(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    let mut short = layout.settled().filter(|(_, record)| record.replicas.len() < wanted(layout));
    short.find_map(|(shard, record)| {
        let receiver = receiver(layout, &record.replicas)?;
        Some((shard, record.replicas.iter().copied().chain([receiver]).collect()))
    })
}

/// Moves a replica out of a zone that has another one, to a zone that has none.
fn spread(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    layout.settled().find_map(|(shard, record)| {
        let crowded = record.replicas.iter().copied().filter(|node| layout.neighbours(*node, &record.replicas) > 0);
        let giver = crowded.max_by_key(|node| (layout.load(*node), *node))?;
        let receiver = receiver(layout, &record.replicas)?;
        let is_alone = layout.neighbours(receiver, &record.replicas) == 0;
        is_alone.then(|| (shard, with(&record.replicas, giver, receiver)))
    })
}

/// Moves a replica to a node that has at least two fewer, where that brings no zone's replicas together.
fn balance(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    let mut pairs: Vec<(usize, NodeId, NodeId)> = Vec::new();
    for giver in layout.staying() {
        for receiver in layout.receivers() {
            let surplus = layout.load(giver).saturating_sub(layout.load(receiver));
            if surplus >= 2 {
                pairs.push((surplus, giver, receiver));
            }
        }
    }
    pairs.sort_by_key(|(surplus, giver, receiver)| (std::cmp::Reverse(*surplus), *giver, *receiver));
    pairs.into_iter().find_map(|(_, giver, receiver)| {
        layout.settled().find_map(|(shard, record)| {
            let is_possible = record.replicas.contains(&giver) && !record.replicas.contains(&receiver);
            let replicas = with(&record.replicas, giver, receiver);
            let is_as_apart = layout.neighbours(receiver, &replicas) <= layout.neighbours(giver, &record.replicas);
            (is_possible && is_as_apart).then_some((shard, replicas))
        })
    })
}

/// Prefers another of a shard's replicas as leader, where one is preferred for at least two shards fewer.
fn even_leaders(layout: &Layout) -> Option<(ShardId, Vec<NodeId>)> {
    layout.settled().find_map(|(shard, record)| {
        let leader = *record.replicas.first()?;
        let fewest = record.replicas.iter().copied().min_by_key(|node| (layout.leads(*node), *node))?;
        if layout.leads(leader) < layout.leads(fewest) + 2 {
            return None;
        }
        let others = record.replicas.iter().copied().filter(|node| *node != fewest);
        Some((shard, [fewest].into_iter().chain(others).collect()))
    })
}
