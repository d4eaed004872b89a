//! One replica's state: applied entries, the published view, checkpoints, and the newest decoded entries for the feed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::peer::freshness::Confirmed;
use crate::peer::snapshot::Snapshot;
use crate::ports::storage::off_threads;
use crate::raft::{self, Applied, LogId, SnapshotMeta, StoredMembership, Types};
use crate::state::{StateMachine, View};
use crate::{LogIndex, ShardId, Storage};

/// Decoded entries kept for readers, and their payload bytes.
const RECENT_ENTRIES_MAX: usize = 1024;
const RECENT_BYTES_MAX: usize = 4 << 20;
/// What is replayed at a start, at most: a tenth of a second for each group, or as much as the checkpoint itself is long.
const REPLAY_ENTRIES_MAX: u64 = 2_000;
const REPLAY_BYTES_MAX: u64 = 4 << 20;

/// The state of one replica, shared by the Raft core, readers and the checkpoint.
pub(crate) struct Replica<S: StateMachine> {
    shard: ShardId,
    checkpoints: CheckpointStore,
    view: RwLock<Arc<View<S>>>,
    position: Mutex<Position>,
    applied: watch::Sender<LogIndex>,
    recent: Mutex<Recent<S>>,
    /// The last moment of which it is known that everything committed by then is applied here.
    fresh: Mutex<Option<Instant>>,
    closed: CancellationToken,
    /// Snapshots that were installed, and the first index behind the last of them.
    installed: AtomicU64,
    installed_end: AtomicU64,
    /// Held while a checkpoint is written: building one and installing a snapshot may come at the same time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Position {
    last: Option<LogId>,
    membership: StoredMembership,
    checkpoint: Option<LogIndex>,
    /// Payload bytes applied in this process, and those of them that the checkpoint shows.
    applied_bytes: u64,
    checkpoint_applied_bytes: u64,
    /// What the last checkpoint wrote.
    checkpoint_bytes: u64,
}

impl Position {
    fn snapshot<S: StateMachine>(self, state: S) -> Snapshot<S> {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership };
        Snapshot::<S> { meta, snapshot: state }
    }
}

struct Recent<S: StateMachine> {
    entries: VecDeque<(LogIndex, Arc<S::Entry>, usize)>,
    bytes: usize,
    /// Everything behind this index is in `entries`, blank entries aside.
    after: LogIndex,
}

impl<S: StateMachine> Replica<S> {
    /// Restores the replica from its checkpoint; it is empty without one, or with a damaged one. Blocks.
    pub(crate) fn open(shard: ShardId, checkpoints: CheckpointStore) -> Result<Arc<Self>, CheckpointError> {
        let (state, position) = match Self::restore(shard, &checkpoints) {
            Err(error @ CheckpointError::Damaged { .. }) => {
                tracing::error!(%shard, %error, "the replica is rebuilt from its log, or from a peer's state");
                (S::default(), Position::default())
            }
            restored => restored?,
        };
        let applied = position.checkpoint.unwrap_or_default();
        Ok(Arc::new(Self {
            shard,
            checkpoints,
            view: RwLock::new(Arc::new(View { applied, state })),
            position: Mutex::new(position),
            applied: watch::Sender::new(applied),
            recent: Mutex::new(Recent { entries: VecDeque::new(), bytes: 0, after: applied }),
            fresh: Mutex::new(None),
            closed: CancellationToken::new(),
            installed: AtomicU64::new(0),
            installed_end: AtomicU64::new(0),
            writing: tokio::sync::Mutex::default(),
        }))
    }

    fn restore(shard: ShardId, checkpoints: &CheckpointStore) -> Result<(S, Position), CheckpointError> {
        let Some(checkpoint) = checkpoints.read(shard)? else { return Ok((S::default(), Position::default())) };
        let state = S::restore(&mut checkpoint.pages.into_iter())
            .map_err(|error| CheckpointError::Damaged { shard, reason: error.reason })?;
        let index = checkpoint.last.map(|last| LogIndex(last.index()));
        let membership = checkpoint.membership;
        Ok((state, Position { last: checkpoint.last, membership, checkpoint: index, ..Position::default() }))
    }

    pub(crate) fn view(&self) -> Arc<View<S>> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.checkpoints.storage
    }

    /// Ends its readers: nothing is applied here any more.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Set once the replica has left this node.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The last entry that the state shows.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.position.lock().last
    }

    /// Index of the last checkpoint.
    pub(crate) fn checkpoint(&self) -> LogIndex {
        self.position.lock().checkpoint.unwrap_or_default()
    }

    /// Whether so much was applied behind the last checkpoint that a start would take long.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        let position = self.position.lock();
        let applied = position.last.map_or(0, |last| last.index());
        // A state that is being installed is durable before it shows.
        let entries = applied.saturating_sub(position.checkpoint.unwrap_or_default().0);
        let bytes = position.applied_bytes - position.checkpoint_applied_bytes;
        entries >= REPLAY_ENTRIES_MAX || bytes >= REPLAY_BYTES_MAX.max(position.checkpoint_bytes)
    }

    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.fresh.lock().map(|fresh| fresh.elapsed())
    }

    /// Takes the word of a leader. What was true of a moment stays true, so that words may come in any order.
    pub(crate) fn hear(&self, confirmed: Confirmed) {
        if *self.applied.borrow() >= confirmed.committed {
            let mut fresh = self.fresh.lock();
            *fresh = (*fresh).max(Some(confirmed.at));
        }
    }

    /// The leader does not tell, so nobody knows from now on.
    pub(crate) fn hear_nothing(&self) {
        *self.fresh.lock() = None;
    }

    /// Recent entries behind `after`, if none between was dropped, and the index up to which they are complete.
    pub(crate) fn recent(&self, after: LogIndex, entries_max: usize) -> Option<Recents<S>> {
        let recent = self.recent.lock();
        if after < recent.after {
            return None;
        }
        // One that is being applied may be there before its index is published: it belongs to the next answer.
        let applied = *self.applied.borrow();
        let behind = |upto: LogIndex| recent.entries.partition_point(|(index, _, _)| *index <= upto);
        let entries: Vec<_> = recent
            .entries
            .range(behind(after)..behind(applied.max(after)))
            .take(entries_max)
            .map(|(index, entry, _)| (*index, Arc::clone(entry)))
            .collect();
        let through = match entries.last() {
            Some((index, _)) if entries.len() == entries_max => *index,
            _ => applied,
        };
        Some((entries, through.max(after)))
    }

    fn apply_payload(&self, log_id: LogId, payload: &raft::Payload) -> io::Result<()> {
        let index = LogIndex(log_id.index());
        let entry = S::decode(&payload.0)
            .map_err(|error| io::Error::other(format!("{}: entry {index} does not decode: {error}", self.shard)))?;
        {
            let mut view = self.view.write();
            let view = Arc::make_mut(&mut view);
            view.state.apply(index, &entry);
            view.applied = index;
        }
        self.position.lock().applied_bytes += payload.0.len() as u64;
        let mut recent = self.recent.lock();
        recent.bytes += payload.0.len();
        recent.entries.push_back((index, Arc::new(entry), payload.0.len()));
        while recent.entries.len() > RECENT_ENTRIES_MAX || recent.bytes > RECENT_BYTES_MAX {
            let Some((index, _, bytes)) = recent.entries.pop_front() else { break };
            recent.bytes -= bytes;
            recent.after = index;
        }
        Ok(())
    }

    fn advance(&self, log_id: LogId, membership: Option<StoredMembership>) {
        let mut position = self.position.lock();
        position.last = Some(log_id);
        if let Some(membership) = membership {
            position.membership = membership;
        }
        drop(position);
        let index = LogIndex(log_id.index());
        if self.view.read().applied != index {
            Arc::make_mut(&mut self.view.write()).applied = index;
        }
    }

    /// The state and the position that it shows. Consistent in the apply task alone, since no other changes either.
    fn current(&self) -> (Position, S) {
        let position = self.position.lock().clone();
        (position, self.view().state.clone())
    }

    /// [`Replica::current`] as a snapshot; call it in the apply task too.
    pub(crate) fn current_snapshot(&self) -> Snapshot<S> {
        let (position, state) = self.current();
        position.snapshot(state)
    }

    /// Replaces the state by that of a snapshot. Durable on return.
    pub(crate) async fn install(&self, snapshot: Snapshot<S>) -> io::Result<()> {
        let Snapshot::<S> { meta, snapshot: state } = snapshot;
        let position =
            Position { last: meta.last_log_id, membership: meta.last_membership, ..self.position.lock().clone() };
        let index = position.last.map_or(LogIndex(0), |last| LogIndex(last.index()));
        self.store(position.clone(), state.clone(), None).await?;
        // Before anybody can see the index: what the log has at or below it may never have been committed.
        self.installed_end.store(index.0 + 1, Ordering::SeqCst);
        let mut current = self.position.lock();
        (current.last, current.membership) = (position.last, position.membership);
        drop(current);
        *self.view.write() = Arc::new(View { applied: index, state });
        *self.recent.lock() = Recent { entries: VecDeque::new(), bytes: 0, after: index };
        self.applied.send_replace(index);
        self.installed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Snapshots of others that took the place of the state since it was opened.
    pub(crate) fn installed(&self) -> u64 {
        self.installed.load(Ordering::Relaxed)
    }

    /// The first entry behind those that a snapshot of another replica stands for. They can not be read here, also while the log
    /// still has some of its own in their place.
    pub(crate) fn installed_end(&self) -> LogIndex {
        LogIndex(self.installed_end.load(Ordering::SeqCst))
    }

    /// Makes `state` durable as this replica's checkpoint, unless that shows a newer one already.
    async fn store(&self, position: Position, state: S, since: Option<LogIndex>) -> io::Result<()> {
        let (checkpoints, shard) = (self.checkpoints.clone(), self.shard);
        let (index, applied_bytes) = (position.last.map(|last| LogIndex(last.index())), position.applied_bytes);
        let _written_alone = self.writing.lock().await;
        if index < self.position.lock().checkpoint {
            return Ok(());
        }
        let storage = Arc::clone(&checkpoints.storage);
        let written = off_threads(&*storage, move || {
            checkpoints.write(shard, position.last, &position.membership, &state.pages(), since)
        })
        .await
        .and_then(|written| written.map_err(io::Error::other))
        .inspect_err(|error| storage.fail(&format!("the checkpoint of {shard} can not be written: {error}")))?;
        let mut current = self.position.lock();
        current.checkpoint = index;
        current.checkpoint_applied_bytes = applied_bytes;
        current.checkpoint_bytes = written;
        Ok(())
    }
}

/// Entries with their indexes, and the index up to which they are complete.
pub(crate) type Recents<S> = (Vec<(LogIndex, Arc<<S as StateMachine>::Entry>)>, LogIndex);

/// The replica as the Raft core sees it.
pub(crate) struct ReplicaStore<S: StateMachine>(pub(crate) Arc<Replica<S>>);

/// Builds a snapshot of the state at one position.
pub(crate) struct Builder<S: StateMachine> {
    replica: Arc<Replica<S>>,
    position: Position,
    state: S,
}

impl<S: StateMachine> RaftSnapshotBuilder<Types> for Builder<S> {
    type SnapshotData = S;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<S>> {
        let since = self.position.checkpoint;
        self.replica.store(self.position.clone(), self.state.clone(), since).await?;
        Ok(self.position.clone().snapshot(self.state.clone()))
    }
}

impl<S: StateMachine> RaftStateMachine<Types> for ReplicaStore<S> {
    type SnapshotData = S;
    type SnapshotBuilder = Builder<S>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.0.position.lock();
        Ok((position.last, position.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> io::Result<()>
    where
        Entries: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let membership = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(payload) => {
                    self.0.apply_payload(entry.log_id, payload)?;
                    None
                }
                EntryPayload::Membership(membership) => {
                    Some(StoredMembership::new(Some(entry.log_id), membership.clone()))
                }
            };
            self.0.advance(entry.log_id, membership);
            self.0.applied.send_replace(LogIndex(entry.log_id.index()));
            if let Some(responder) = responder {
                responder.send(Applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<S> {
        let (position, state) = self.0.current();
        Builder { replica: Arc::clone(&self.0), position, state }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: S) -> io::Result<()> {
        self.0.install(Snapshot::<S> { meta: meta.clone(), snapshot }).await
    }

    /// The newest applied state serves as the current snapshot: it covers at least what the log no longer has.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<S>>> {
        let (position, state) = self.0.current();
        if position.last.is_none() || position.checkpoint.is_none() {
            return Ok(None);
        }
        Ok(Some(position.snapshot(state)))
    }
}

#[cfg(test)]
mod tests;
