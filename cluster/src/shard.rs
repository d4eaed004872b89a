//! A local replica of a shard, as the application uses it: propose, read, follow the feed, watch the leadership.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::feed::{FeedReader, first_index};
use crate::log::GroupLog;
use crate::peer::freshness::Confirmed;
use crate::raft::{LeaderId, Payload, Types};
use crate::replica::{Replica, ReplicaStore};
use crate::state::state_hash;
use crate::{LogIndex, NodeId, ShardId, StateMachine, Term, View};

/// How long a leader waits between two tries to confirm itself, or to write.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) type Raft<S> = openraft::Raft<Types, ReplicaStore<S>>;

/// Who leads a shard, as a replica knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The last known leader, of `term`.
    pub leader: Option<NodeId>,
    pub term: Term,
    /// This replica leads `term` and has applied everything committed before it: it may propose.
    pub is_ready: bool,
}

/// Why an entry was not applied here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied.
    #[error("{shard} is not led by this node in term {term}")]
    NotLeader { shard: ShardId, term: Term },
    /// Perhaps applied.
    #[error("{shard}: whether the entry commits is unknown")]
    Unknown { shard: ShardId },
}

/// Why a read could not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{shard} is not led by this node")]
    NotLeader { shard: ShardId },
    #[error("{shard}: too few replicas confirmed the leadership")]
    Unconfirmed { shard: ShardId },
}

/// A local replica of a shard. Clones are the same replica.
pub struct ShardHandle<S: StateMachine> {
    shard: ShardId,
    node: NodeId,
    pub(crate) raft: Raft<S>,
    pub(crate) replica: Arc<Replica<S>>,
    pub(crate) log: GroupLog,
    leadership: watch::Receiver<Leadership>,
    /// After which a proposal or a confirmation is given up.
    outcome_timeout: Duration,
}

impl<S: StateMachine> Clone for ShardHandle<S> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard,
            node: self.node,
            raft: self.raft.clone(),
            replica: Arc::clone(&self.replica),
            log: self.log.clone(),
            leadership: self.leadership.clone(),
            outcome_timeout: self.outcome_timeout,
        }
    }
}

impl<S: StateMachine> ShardHandle<S> {
    pub(crate) fn new(
        shard: ShardId,
        node: NodeId,
        raft: Raft<S>,
        replica: Arc<Replica<S>>,
        log: GroupLog,
        leadership: watch::Receiver<Leadership>,
        outcome_timeout: Duration,
    ) -> Self {
        Self { shard, node, raft, replica, log, leadership, outcome_timeout }
    }

    /// Whether `other` is a clone of this. A replica that left the node and came back is another one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.replica, &other.replica)
    }

    pub fn id(&self) -> ShardId {
        self.shard
    }

    /// Who leads, and whether this replica may propose.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Commits `payload` as one entry in the leadership of `term`, and returns its index once it is applied here.
    ///
    /// Ends when the entry is applied, the leadership is lost, or as unknown some leases of the leader later: a leader that is
    /// cut off from the others keeps its term, and the entry, until it hears from them. An entry proposed after it in the same
    /// term is applied only behind it. Dropping the future does not withdraw the entry.
    pub async fn propose(&self, term: Term, payload: Bytes) -> Result<LogIndex, ProposeError> {
        let unknown = ProposeError::Unknown { shard: self.shard };
        let leads = || {
            let leadership = self.leadership.borrow();
            leadership.is_ready && leadership.term == term
        };
        let outcome = async {
            loop {
                match self.write(term, payload.clone()).await {
                    // Refused by a leader whose lease has run out, as just after an election, or that is handing over: it
                    // may lead on.
                    Err(ProposeError::NotLeader { .. }) if leads() => tokio::time::sleep(CONFIRM_INTERVAL).await,
                    outcome => return outcome,
                }
            }
        };
        tokio::time::timeout(self.outcome_timeout, outcome).await.unwrap_or(Err(unknown))
    }

    async fn write(&self, term: Term, payload: Bytes) -> Result<LogIndex, ProposeError> {
        let shard = self.shard;
        let (responder, complete) = ProgressResponder::complete_only();
        let leader = LeaderId { term: term.0, node_id: self.node.0 };
        let write = self.raft.write(Payload(payload)).responder(responder).with_leader(leader);
        write.await.map_err(|_stopped| ProposeError::Unknown { shard })?;
        match complete.await {
            Ok(Ok(response)) => Ok(LogIndex(response.log_id.index())),
            Ok(Err(
                ClientWriteError::ForwardToLeader(_)
                | ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(_),
            )) => Err(ProposeError::NotLeader { shard, term }),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) | Err(_) => Err(ProposeError::Unknown { shard }),
        }
    }

    /// Confirms leadership (ReadIndex) and waits until everything committed before the call is applied here. Ends as
    /// unconfirmed when that takes as long as a proposal may.
    pub async fn read_index(&self) -> Result<LogIndex, ReadError> {
        let shard = self.shard;
        let confirmed = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let Ok(confirmed) = tokio::time::timeout(self.outcome_timeout, confirmed).await else {
            return Err(ReadError::Unconfirmed { shard });
        };
        match confirmed {
            Ok(read) => Ok(LogIndex(read.index())),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadError::Unconfirmed { shard })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) | RaftError::Fatal(_)) => {
                Err(ReadError::NotLeader { shard })
            }
        }
    }

    /// The state at the last applied index; immutable. Hold it briefly: pages that change meanwhile are copied.
    pub fn view(&self) -> Arc<View<S>> {
        self.replica.view()
    }

    /// How old this replica's state is at most: the time since a moment of which it has all that was committed by then. On the
    /// leader and on a follower, such a moment is one at which a quorum confirmed the leader: one that is cut off from the
    /// others grows old like everybody, and so does who hears it alone. What was on its way counts, and so does a process that
    /// stood still; no wall clock is asked (`peer/freshness.rs`). Not counted is the time for which a whole machine stood still
    /// with its steady clock, as one that is suspended.
    ///
    /// `None`: nobody has told since this node started, or the leader's program is of a version that does not tell.
    pub fn staleness(&self) -> Option<Duration> {
        if self.leadership.borrow().is_ready {
            self.hear_from_quorum();
        }
        self.replica.staleness()
    }

    /// Notes when this leader last was one for certain.
    fn hear_from_quorum(&self) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let is_alone = metrics.state.is_leader() && metrics.membership_config.voter_ids().eq([self.node.0]);
        // A group of one needs nobody's word.
        let confirmed = if is_alone {
            let committed = metrics.cluster_committed.map_or(LogIndex(0), |id| LogIndex(id.index()));
            Some(Confirmed { at: Instant::now(), committed })
        } else {
            Confirmed::of(&metrics)
        };
        if let Some(confirmed) = confirmed {
            self.replica.hear(confirmed);
        }
    }

    /// A reader of the entries behind `after`.
    pub fn feed(&self, after: LogIndex) -> FeedReader<S> {
        FeedReader::new(self.shard, Arc::clone(&self.replica), self.log.clone(), after)
    }

    /// First index that the feed can be read from on this replica.
    pub fn first_index(&self) -> LogIndex {
        first_index(&self.replica, &self.log)
    }

    /// Snapshots that this replica took over from others since this node opened it.
    pub fn snapshots_installed(&self) -> u64 {
        self.replica.installed()
    }

    /// The applied index and XXH3-128 over the state's pages there. Encodes the whole state: call it off the async threads.
    pub fn state_hash(&self) -> (LogIndex, u128) {
        let view = self.view();
        (view.applied, state_hash(&view.state.pages()))
    }
}

/// Why the Raft core has ended; `None`: it was told to.
pub(crate) fn failure<S: StateMachine>(raft: &Raft<S>) -> Option<Fatal<Types>> {
    match &raft.metrics().borrow_watched().running_state {
        Err(Fatal::Stopped) => None,
        Err(fatal) => Some(fatal.clone()),
        // It had no time to say anything.
        Ok(()) => Some(Fatal::Panicked),
    }
}

/// Follows the Raft core and publishes the leadership until `stop`, or until the core ends. None begins while `is_clock_wrong`:
/// it is given up.
pub(crate) async fn follow_leadership<S: StateMachine>(
    raft: Raft<S>,
    node: NodeId,
    published: watch::Sender<Leadership>,
    is_clock_wrong: impl Fn() -> bool,
    stop: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let (seen, leads) = {
            let metrics = metrics.borrow_watched();
            let leader = metrics.current_leader.map(NodeId);
            let term = Term(metrics.vote.leader_id().term);
            let leads = leader == Some(node) && metrics.vote.is_committed() && metrics.state.is_leader();
            (Leadership { leader, term, is_ready: false }, leads)
        };
        let was_ready = {
            let published = published.borrow();
            published.is_ready && published.term == seen.term && leads
        };
        if !was_ready {
            published.send_if_modified(|known| std::mem::replace(known, seen) != seen);
        }
        let confirm = async {
            if !leads || was_ready {
                std::future::pending::<()>().await;
            }
            // The blank entry of this term must be applied before anything is decided on the state.
            while is_clock_wrong() || raft.ensure_linearizable(ReadPolicy::ReadIndex).await.is_err() {
                tokio::time::sleep(CONFIRM_INTERVAL).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            changed = metrics.changed() => if changed.is_err() { break },
            () = confirm => {
                let still = {
                    let metrics = metrics.borrow_watched();
                    metrics.state.is_leader() && metrics.vote.leader_id().term == seen.term.0
                };
                if still {
                    published.send_replace(Leadership { is_ready: true, ..seen });
                }
            }
        }
    }
    published.send_replace(Leadership::default());
}
