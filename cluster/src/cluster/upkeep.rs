//! What goes on beside the traffic: checkpoints, retention of the log, leaders spread evenly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::clocks::far_clocks;
use super::retention::{Samples, later};
use super::{Core, moves};
use crate::shard::Raft;
use crate::{LogIndex, NodeId, ShardHandle, ShardId, StateMachine, Timestamp};

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(60);
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);
/// While the disk is full.
const RETENTION_INTERVAL_FULL: Duration = Duration::from_secs(2);
const SPREAD_INTERVAL: Duration = Duration::from_secs(2);
/// So many times as long as anything else is kept what a reader of the state still needs.
const READERS_WAIT: u32 = 2;
const CLOCK_INTERVAL: Duration = Duration::from_millis(500);
/// Who answers asks twice a second, who is gone need not be waited for.
const UNFIT_KNOWN_MAX: Duration = Duration::from_secs(1);
/// A preferred leader takes over only when it lacks fewer entries than this.
const TRANSFER_LAG_MAX: u64 = 16;

pub(super) fn start<S: StateMachine>(core: &Arc<Core<S>>) {
    core.spawn(checkpoint(Arc::clone(core)));
    core.spawn(retain(Arc::clone(core)));
    core.spawn(spread_leaders(Arc::clone(core)));
    core.spawn(follow_on_a_wrong_clock(Arc::clone(core)));
    core.spawn(moves::drive(Arc::clone(core)));
}

fn handles<S: StateMachine>(core: &Core<S>) -> Vec<ShardHandle<S>> {
    core.shards.borrow().values().cloned().collect()
}

/// Writes checkpoints, one shard at a time.
async fn checkpoint<S: StateMachine>(core: Arc<Core<S>>) {
    loop {
        tokio::time::sleep(CHECKPOINT_INTERVAL).await;
        checkpoint_group(&core.meta).await;
        for shard in handles(&core) {
            checkpoint_group(&shard).await;
        }
    }
}

async fn checkpoint_group<S: StateMachine>(group: &ShardHandle<S>) {
    if group.replica.is_checkpoint_due() {
        write_checkpoint(group).await;
    }
}

async fn write_checkpoint<S: StateMachine>(group: &ShardHandle<S>) {
    let before = group.replica.checkpoint();
    if group.view().applied <= before || group.raft.trigger().snapshot().await.is_err() {
        return;
    }
    let written = async {
        while group.replica.checkpoint() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(CHECKPOINT_TIMEOUT, written).await.is_err() {
        tracing::warn!(shard = %group.id(), "a checkpoint is not done after {CHECKPOINT_TIMEOUT:?}");
    }
}

/// Writes a checkpoint, then purges the log behind it, up to `upto` at most.
pub(super) async fn compact<S: StateMachine>(group: &ShardHandle<S>, upto: LogIndex) {
    write_checkpoint(group).await;
    purge(group, upto).await;
}

/// Never past the checkpoint.
async fn purge<S: StateMachine>(group: &ShardHandle<S>, upto: LogIndex) {
    let upto = upto.min(group.replica.checkpoint());
    if upto >= group.first_index() && upto.0 > 0 && group.raft.trigger().purge_log(upto.0).await.is_err() {
        tracing::debug!(shard = %group.id(), "the group is stopping");
    }
}

/// Purges the logs by age, entries and bytes, never past a checkpoint.
async fn retain<S: StateMachine>(core: Arc<Core<S>>) {
    let mut seen = Instant::now();
    let age = core.config.retention_age;
    let mut limits = Limits { now: core.ports.clock.now(), age, entries_max: 0, over: Vec::new() };
    loop {
        let is_full = core.disk.borrow().is_full;
        tokio::time::sleep(if is_full { RETENTION_INTERVAL_FULL } else { RETENTION_INTERVAL }).await;
        // The clock was read once. From then on time goes evenly: a clock that jumps makes no entry older.
        let elapsed = seen.elapsed();
        seen += elapsed;
        limits.now = later(limits.now, elapsed);
        let groups = handles(&core);
        limits.entries_max = core.config.retention_entries / (groups.len() as u64 + 1);
        limits.over = core.log.purge_files().unwrap_or_else(|error| {
            tracing::error!(%error, "old log files can not be dropped");
            Vec::new()
        });
        if core.disk.borrow().is_full {
            limits.over = groups.iter().map(ShardHandle::id).collect();
        }
        retain_group(&core.meta, &mut limits).await;
        for group in groups {
            retain_group(&group, &mut limits).await;
        }
    }
}

/// What a log may keep.
struct Limits {
    /// Never before any group's last sample.
    now: Timestamp,
    age: Duration,
    entries_max: u64,
    /// Groups whose old entries keep more bytes than may be kept, or than the disk has room for.
    over: Vec<ShardId>,
}

async fn retain_group<G: StateMachine>(group: &ShardHandle<G>, limits: &mut Limits) {
    let applied = group.view().applied;
    let mut samples = Samples::decode(&group.log.samples()).unwrap_or_else(|error| {
        tracing::error!(shard = %group.id(), %error, "how old the log is must be learned anew");
        Samples::default()
    });
    limits.now = limits.now.max(samples.newest());
    if samples.add(limits.now, applied, limits.age.saturating_mul(READERS_WAIT)) {
        group.log.note_samples(samples.encode());
    }
    let old = |times: u32| {
        let surplus = applied.0.saturating_sub(limits.entries_max.saturating_mul(u64::from(times)));
        LogIndex(surplus).max(samples.older_than(limits.now, limits.age.saturating_mul(times)))
    };
    let mut upto = old(1);
    if let Some(read) = group.view().state.read_by_all() {
        // A reader that is behind holds the log up, but not for ever.
        upto = upto.min(read).max(old(READERS_WAIT));
    }
    if limits.over.contains(&group.id()) {
        // The older half goes.
        upto = upto.max(LogIndex(group.first_index().0.midpoint(applied.0)));
    }
    purge(group, upto).await;
}

/// How far each other voter is behind, as the leader of the group knows it. Learners can not lead.
fn lags<S: StateMachine>(raft: &Raft<S>) -> Vec<(NodeId, u64)> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let last = metrics.last_log_index.unwrap_or(0);
    let Some(replication) = &metrics.replication else { return Vec::new() };
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    replication
        .iter()
        .filter(|(node, _)| **node != metrics.id && voters.contains(node))
        .map(|(node, matched)| (NodeId(*node), last.saturating_sub(matched.as_ref().map_or(0, openraft::LogId::index))))
        .collect()
}

pub(super) async fn hand_over<S: StateMachine>(group: &ShardHandle<S>, to: NodeId) {
    tracing::debug!(shard = %group.id(), %to, "the leadership is handed over");
    if group.raft.trigger().transfer_leader(to.0).await.is_err() {
        tracing::debug!(shard = %group.id(), "the group is stopping");
    }
}

/// Whom a leadership may be handed to now: who answers, is fit for leading, and has a clock that is near the others'. Of a node
/// whose own clock is wrong also one that is unfit: it leads better.
pub(super) fn may_lead<S: StateMachine>(core: &Core<S>) -> impl Fn(NodeId) -> bool {
    let far = far_clocks(&core.peers.clocks_ahead());
    let own_is_far = far.contains(&core.config.node);
    move |node| {
        let is_fit = || core.peers.is_fit(node) || own_is_far;
        core.peers.is_reachable(node) && !far.contains(&node) && is_fit()
    }
}

/// Gives leaderships back to the preferred leaders, one a round.
async fn spread_leaders<S: StateMachine>(core: Arc<Core<S>>) {
    loop {
        tokio::time::sleep(SPREAD_INTERVAL).await;
        if core.draining.is_cancelled() {
            return;
        }
        let placed = core.meta_view.borrow().shards.clone();
        let may_lead = may_lead(&core);
        for group in handles(&core) {
            let Some(leader) = placed.get(&group.id()).and_then(|shard| shard.replicas.first()).copied() else {
                continue;
            };
            let misplaced = group.leadership().borrow().is_ready && leader != core.config.node;
            let is_near = || lags(&group.raft).iter().any(|(node, lag)| *node == leader && *lag <= TRANSFER_LAG_MAX);
            if misplaced && may_lead(leader) && is_near() {
                hand_over(&group, leader).await;
                break;
            }
        }
    }
}

/// Gives all leaderships away for as long as this node's clock is far from the others'.
async fn follow_on_a_wrong_clock<S: StateMachine>(core: Arc<Core<S>>) {
    let mut was_far = false;
    loop {
        tokio::time::sleep(CLOCK_INTERVAL).await;
        let ahead_us = core.peers.clocks_ahead();
        let is_far = far_clocks(&ahead_us).contains(&core.config.node);
        if is_far && !was_far {
            tracing::error!(?ahead_us, "this node's clock is wrong: it leads no shard until the clock is set right");
        }
        if is_far {
            give_up_leaders_once(&core).await;
        }
        was_far = is_far;
    }
}

/// Hands every leadership of this node to the reachable replica that lacks least; ends when none is left, and the others know that
/// they are to give none back.
pub(super) async fn give_up_leaders<S: StateMachine>(core: &Core<S>) {
    let begun = Instant::now();
    while give_up_leaders_once(core).await || !core.peers.know_unfit() && begun.elapsed() < UNFIT_KNOWN_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether this node led a group that somebody else could lead.
pub(super) async fn give_up_leaders_once<S: StateMachine>(core: &Core<S>) -> bool {
    let mut left = give_up_leader(core, &core.meta).await;
    for group in handles(core) {
        left |= give_up_leader(core, &group).await;
    }
    left
}

/// Whether the group was led by this node and somebody else could.
async fn give_up_leader<S: StateMachine, G: StateMachine>(core: &Core<S>, group: &ShardHandle<G>) -> bool {
    if group.leadership().borrow().leader != Some(core.config.node) {
        return false;
    }
    let may_lead = may_lead(core);
    let candidates = lags(&group.raft).into_iter().filter(|(node, _)| may_lead(*node));
    let Some((to, _)) = candidates.min_by_key(|(node, lag)| (!core.peers.is_fit(*node), *lag)) else { return false };
    hand_over(group, to).await;
    true
}
