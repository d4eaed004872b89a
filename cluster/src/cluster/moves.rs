//! Changes of the groups' members: what `placement.rs` plans, done one step at a time by whoever leads.
//!
//! Nothing is remembered here. Where replicas are to be stands in the meta group, where they are in each group's membership, so
//! a leader that takes over, at whatever point, goes on from there. Three rules keep two leaders from undoing each other's work,
//! and a replica from being dropped while its group counts on it:
//!
//! - A step rests on a state of the meta group that was read for it, with everything committed before the read. A leader of a
//!   later term so never follows an older placement than a leader before it.
//! - It is taken only while membership and leadership are those that it was decided on (openraft's preconditions).
//! - That a placement is reached is told after the leadership was confirmed, on a membership that is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EmptyNode};

use super::{Core, upkeep};
use crate::meta::{MetaView, Phase};
use crate::placement::{Goal, Group, Layout, Step, meta_voters, next_placement, next_step};
use crate::raft::{LeaderId, LogId, Types};
use crate::wire::meta_change::Change;
use crate::{NodeId, ShardHandle, ShardId, StateMachine, wire};

/// Between two looks at the groups.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A step that takes longer is left to the group: it may still be done, and the next look shows it.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// A member that lacks no more entries than this is caught up.
const LAG_MAX: u64 = 128;

/// Takes the steps of the groups that this node leads, for as long as the node runs.
pub(super) async fn drive<S: StateMachine>(core: Arc<Core<S>>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if core.draining.is_cancelled() {
            return;
        }
        let shards: Vec<_> = core.shards.borrow().values().cloned().collect();
        let shards = futures::future::join_all(shards.iter().map(|group| move_shard(&core, group)));
        tokio::join!(shards, move_meta(&core));
    }
}

/// A group's membership at a moment at which this node led it.
struct Seen {
    group: Group,
    membership: Option<LogId>,
    /// The membership is committed; until then no other is proposed.
    is_committed: bool,
    leader: LeaderId,
}

async fn look<S: StateMachine, G: StateMachine>(core: &Core<S>, handle: &ShardHandle<G>) -> Option<Seen> {
    let leadership = *handle.leadership().borrow();
    if !leadership.is_ready {
        return None;
    }
    // From the Raft core itself, behind everything that was asked of it before: what it publishes lags.
    let state = handle.raft.with_raft_state(|state| {
        let effective = state.membership_state.effective();
        (*effective.log_id(), effective.membership().clone(), state.local_committed().copied())
    });
    let (log_id, membership, committed) = state.await.ok()?;
    let lags: BTreeMap<u64, u64> = {
        let metrics = handle.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.iter().flatten();
        replication
            .filter_map(|(node, matched)| Some((*node, last.saturating_sub(matched.as_ref()?.index()))))
            .collect()
    };
    let own = core.config.node;
    let is_caught_up = |node: &NodeId| {
        *node == own || core.peers.is_reachable(*node) && lags.get(&node.0).is_some_and(|lag| *lag <= LAG_MAX)
    };
    let caught_up: BTreeSet<_> = membership.nodes().map(|(node, _)| NodeId(*node)).filter(is_caught_up).collect();
    let may_lead = upkeep::may_lead(core);
    let voters = membership.get_joint_config().iter().map(|voters| voters.iter().copied().map(NodeId).collect());
    let group = Group {
        leader: own,
        voters: voters.collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        heirs: caught_up.iter().copied().filter(|node| may_lead(*node)).collect(),
        caught_up,
    };
    let leader = LeaderId { term: leadership.term.0, node_id: own.0 };
    Some(Seen { group, membership: log_id, is_committed: log_id <= committed, leader })
}

/// Brings one shard a step nearer to its placement.
async fn move_shard<S: StateMachine>(core: &Core<S>, handle: &ShardHandle<S>) {
    let shard = handle.id();
    let goal = |view: &MetaView| view.shards.get(&shard).map(|record| Goal::replicas(&record.replicas));
    let Some(seen) = look(core, handle).await else { return };
    {
        let view = core.meta_view.borrow();
        let is_settled = view.shards.get(&shard).is_some_and(|record| record.phase == Phase::Settled);
        let Some(goal) = goal(&view) else { return };
        if is_settled && next_step(&seen.group, &goal) == Step::Settled {
            return;
        }
    }
    let Ok(view) = core.meta_door.read().await else { return };
    if handle.read_index().await.is_err() {
        return;
    }
    let (Some(record), Some(goal), Some(seen)) = (view.shards.get(&shard), goal(&view), look(core, handle).await)
    else {
        return;
    };
    match next_step(&seen.group, &goal) {
        Step::Settled if seen.is_committed && record.phase != Phase::Settled => {
            let settled = wire::ReplicasSettled { shard: shard.0, version: record.version };
            tell(core, Change::Settled(settled)).await;
        }
        step => take(handle, seen, step).await,
    }
}

/// Brings the meta group's own members a step nearer, then plans what is next for the shards and for nodes that leave.
async fn move_meta<S: StateMachine>(core: &Core<S>) {
    let Some(seen) = look(core, &core.meta).await else { return };
    // On a leader that is ready this is not older than what any leader before it did.
    let view = core.meta.view().state.view();
    if view.cluster.is_none() {
        return;
    }
    let layout = Layout::of(&view, |node| core.peers.is_reachable(node));
    let voters = meta_voters(&layout, &seen.group.voters.iter().flatten().copied().collect());
    let learners = view.nodes.keys().copied().filter(|node| !voters.contains(node)).collect();
    let empty = empty_leaver(&view, &voters, &seen);
    match next_step(&seen.group, &Goal { voters, learners }) {
        Step::Settled => {}
        step => take(&core.meta, seen, step).await,
    }
    if let Some(version) = view.next_version(|node| core.peers.version(node)) {
        let nodes = view.nodes.keys().map(|node| node.0).collect();
        tell(core, Change::VersionRaised(wire::VersionRaised { version, nodes })).await;
    }
    if let Some(node) = empty {
        tell(core, Change::Removed(wire::NodeRemoved { node: node.0 })).await;
        tracing::info!(%node, "the node is removed from the cluster");
    }
    if let Some((shard, replicas)) = next_placement(&layout) {
        let replaces = view.shards.get(&shard).map_or(0, |record| record.version);
        tracing::info!(%shard, ?replicas, "the shard is placed anew");
        let replicas = replicas.into_iter().map(|node| node.0).collect();
        tell(core, Change::Placed(wire::ReplicasPlaced { shard: shard.0, replicas, replaces })).await;
    }
}

/// A leaving node that has lost its replicas and its vote.
fn empty_leaver(view: &MetaView, voters: &BTreeSet<NodeId>, seen: &Seen) -> Option<NodeId> {
    let votes = |node: NodeId| voters.contains(&node) || seen.group.voters.iter().any(|voters| voters.contains(&node));
    let mut leavers = view.nodes.values().filter(|node| node.is_leaving).map(|node| node.id);
    leavers.find(|node| seen.is_committed && !votes(*node) && view.replicas_on(*node) == 0)
}

async fn tell<S: StateMachine>(core: &Core<S>, change: Change) {
    if let Err(error) = core.meta_door.change(change).await {
        tracing::debug!(%error, "a placement is told again");
    }
}

/// Takes one step, and waits until it is committed or overtaken.
async fn take<G: StateMachine>(handle: &ShardHandle<G>, seen: Seen, step: Step) {
    let shard: ShardId = handle.id();
    let ids = |nodes: BTreeSet<NodeId>| nodes.into_iter().map(|node| node.0).collect::<BTreeSet<u64>>();
    let change = match &step {
        Step::Settled | Step::Wait => return,
        // The change that is under way is ended by whoever began it, unless that one is gone.
        _ if !seen.is_committed => return,
        Step::HandOver(to) => return upkeep::hand_over(handle, *to).await,
        Step::FinishChange => ChangeMembers::AddVoterIds(BTreeSet::new()),
        Step::AddLearner(node) => ChangeMembers::AddNodes([(node.0, EmptyNode::default())].into()),
        Step::SetVoters(voters) => ChangeMembers::ReplaceAllVoters(ids(voters.clone())),
        Step::RemoveLearner(node) => ChangeMembers::RemoveNodes([node.0].into()),
    };
    let preconditions: [Precondition<Types>; 2] = [
        Precondition::LastMembershipLogId { last_membership_log_id: seen.membership },
        Precondition::CommittedLeaderId { committed_leader_id: seen.leader },
    ];
    tracing::info!(%shard, ?step, "the group's members change");
    let changed = handle.raft.change_membership_if(change, true, preconditions);
    match tokio::time::timeout(STEP_TIMEOUT, changed).await {
        Ok(Ok(_response)) => {}
        Ok(Err(error)) => tracing::debug!(%shard, ?step, %error, "the step was not taken"),
        Err(_late) => tracing::warn!(%shard, ?step, "the step is not committed after {STEP_TIMEOUT:?}"),
    }
}
