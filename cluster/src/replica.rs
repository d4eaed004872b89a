//! One replica's state: applied entries, the published view, checkpoints, and the newest decoded entries for the feed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, TryStreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::raft::{self, Applied, LogId, SnapshotMeta, StoredMembership, Types};
use crate::state::{StateMachine, View};
use crate::{LogIndex, ShardId};

/// Decoded entries kept for readers, and their payload bytes.
const RECENT_ENTRIES_MAX: usize = 1024;
const RECENT_BYTES_MAX: usize = 4 << 20;

type Snapshot<S> = openraft::alias::SnapshotOf<Types, S>;

/// The state of one replica, shared by the Raft core, readers and the checkpoint.
pub(crate) struct Replica<S: StateMachine> {
    shard: ShardId,
    checkpoints: CheckpointStore,
    view: RwLock<Arc<View<S>>>,
    position: Mutex<Position>,
    applied: watch::Sender<LogIndex>,
    recent: Mutex<Recent<S>>,
    /// When this replica last held all that its leader had committed, if it did since it was opened.
    fresh: Mutex<Option<Instant>>,
}

#[derive(Clone, Default)]
struct Position {
    last: Option<LogId>,
    membership: StoredMembership,
    checkpoint: Option<LogIndex>,
}

struct Recent<S: StateMachine> {
    entries: VecDeque<(LogIndex, Arc<S::Entry>, usize)>,
    bytes: usize,
    /// Everything behind this index is in `entries`, blank entries aside.
    after: LogIndex,
}

impl<S: StateMachine> Replica<S> {
    /// Restores the replica from its checkpoint. Blocks.
    pub(crate) fn open(shard: ShardId, checkpoints: CheckpointStore) -> Result<Arc<Self>, CheckpointError> {
        let (state, position) = match checkpoints.read(shard)? {
            None => (S::default(), Position::default()),
            Some(checkpoint) => {
                let state = S::restore(&mut checkpoint.pages.into_iter())
                    .map_err(|error| CheckpointError::Damaged { shard, reason: error.reason })?;
                let index = checkpoint.last.map(|last| LogIndex(last.index()));
                (state, Position { last: checkpoint.last, membership: checkpoint.membership, checkpoint: index })
            }
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
        }))
    }

    pub(crate) fn view(&self) -> Arc<View<S>> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    /// Index of the last checkpoint.
    pub(crate) fn checkpoint(&self) -> LogIndex {
        self.position.lock().checkpoint.unwrap_or_default()
    }

    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.fresh.lock().map(|fresh| fresh.elapsed())
    }

    /// The leader said at `heard` that it has committed up to `committed`.
    pub(crate) fn heard_from_leader(&self, heard: Instant, committed: LogIndex) {
        if *self.applied.borrow() >= committed {
            *self.fresh.lock() = Some(heard);
        }
    }

    /// Recent entries behind `after`, if none between was dropped, and the index up to which they are complete.
    pub(crate) fn recent(&self, after: LogIndex, entries_max: usize) -> Option<Recents<S>> {
        let recent = self.recent.lock();
        if after < recent.after {
            return None;
        }
        let start = recent.entries.partition_point(|(index, _, _)| *index <= after);
        let entries: Vec<_> = recent
            .entries
            .range(start..)
            .take(entries_max)
            .map(|(index, entry, _)| (*index, Arc::clone(entry)))
            .collect();
        let through = match entries.last() {
            Some((index, _)) if entries.len() == entries_max => *index,
            _ => *self.applied.borrow(),
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

    fn meta(position: &Position) -> SnapshotMeta {
        SnapshotMeta { last_log_id: position.last, last_membership: position.membership.clone() }
    }

    /// The state and the position that it shows. Consistent, since only the apply task changes either.
    fn current(&self) -> (Position, S) {
        let position = self.position.lock().clone();
        (position, self.view().state.clone())
    }

    /// Makes `state` durable as this replica's checkpoint.
    async fn store(&self, position: Position, state: S, since: Option<LogIndex>) -> io::Result<()> {
        let (checkpoints, shard) = (self.checkpoints.clone(), self.shard);
        let index = position.last.map(|last| LogIndex(last.index()));
        tokio::task::spawn_blocking(move || {
            checkpoints.write(shard, position.last, &position.membership, &state.pages(), since)
        })
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
        self.position.lock().checkpoint = index;
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
        let since = self.replica.position.lock().checkpoint;
        self.replica.store(self.position.clone(), self.state.clone(), since).await?;
        Ok(Snapshot { meta: Replica::<S>::meta(&self.position), snapshot: self.state.clone() })
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
        let position = Position { last: meta.last_log_id, membership: meta.last_membership.clone(), checkpoint: None };
        let index = position.last.map_or(LogIndex(0), |last| LogIndex(last.index()));
        self.0.store(position.clone(), snapshot.clone(), None).await?;
        {
            let mut current = self.0.position.lock();
            *current = Position { checkpoint: Some(index), ..position };
        }
        *self.0.view.write() = Arc::new(View { applied: index, state: snapshot });
        *self.0.recent.lock() = Recent { entries: VecDeque::new(), bytes: 0, after: index };
        self.0.applied.send_replace(index);
        Ok(())
    }

    /// The newest applied state serves as the current snapshot: it covers at least what the log no longer has.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<S>>> {
        let (position, state) = self.0.current();
        if position.last.is_none() || position.checkpoint.is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot { meta: Self::snapshot_meta(&position), snapshot: state }))
    }
}

impl<S: StateMachine> ReplicaStore<S> {
    fn snapshot_meta(position: &Position) -> SnapshotMeta {
        Replica::<S>::meta(position)
    }
}
