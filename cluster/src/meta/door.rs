//! Changes the meta group, from any node: on the leader a change is decided on the applied state and committed, elsewhere
//! it is handed to the leader.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};

use super::decide::{Decision, decide};
use super::{MetaError, MetaState, MetaView};
use crate::peer::{Peers, is_in_doubt};
use crate::wire::meta_change::Change;
use crate::{LogIndex, NodeId, ProposeError, ShardHandle, Term, wire};

/// Time that a change of the meta group, or a look at it, may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The way to the meta group.
pub(crate) struct MetaDoor {
    peers: Arc<Peers>,
    /// Set once the group is open.
    group: OnceLock<ShardHandle<MetaState>>,
    /// One change is decided at a time, on the state that has the one before. Tells whether it is unknown what became of
    /// that one.
    in_doubt: tokio::sync::Mutex<bool>,
}

impl MetaDoor {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, group: OnceLock::new(), in_doubt: tokio::sync::Mutex::new(false) }
    }

    pub(crate) fn open(&self, group: ShardHandle<MetaState>) {
        if self.group.set(group).is_err() {
            tracing::error!("the meta group was opened twice");
        }
    }

    /// The state as this node has applied it.
    pub(crate) fn view(&self) -> MetaView {
        self.group.get().map(|group| group.view().state.view()).unwrap_or_default()
    }

    /// The group, which this node must lead.
    fn led_here(&self) -> Result<(&ShardHandle<MetaState>, Term), Status> {
        let not_leader = || Status::unavailable("this node does not lead the meta group");
        let group = self.group.get().ok_or_else(not_leader)?;
        let leadership = *group.leadership().borrow();
        if leadership.is_ready { Ok((group, leadership.term)) } else { Err(not_leader()) }
    }

    /// Decides and commits `change` on this node, which must lead the meta group.
    pub(crate) async fn change_here(&self, change: wire::MetaChange) -> Result<wire::MetaChanged, Status> {
        let change = change.change.ok_or_else(|| Status::invalid_argument("the change is empty or not known here"))?;
        let mut in_doubt = self.in_doubt.lock().await;
        let (group, term) = self.led_here()?;
        if *in_doubt {
            // The change in doubt stands in the log before this empty one or nowhere.
            commit(group, term, &wire::MetaChange::default()).await?;
            *in_doubt = false;
        }
        let decided = match decide(&group.view().state.view(), change)? {
            Decision::Commit(change) => wire::MetaChange { change: Some(change) },
            Decision::Answer(answer) => return Ok(answer),
        };
        // Before the wait: the caller may give up meanwhile.
        *in_doubt = true;
        commit(group, term, &decided).await?;
        *in_doubt = false;
        let shard = match &decided.change {
            Some(Change::District(assigned)) => assigned.shard,
            _ => 0,
        };
        let version = group.view().state.view().documents_version;
        Ok(wire::MetaChanged { documents_version: Some(version), shard })
    }

    /// Commits `change` through whoever leads; retries while it is certain that nothing was applied, or harmless if it was.
    pub(crate) async fn change(&self, change: Change) -> Result<wire::MetaChanged, MetaError> {
        let is_repeatable = matches!(change, Change::District(_) | Change::Admitted(_) | Change::Leaving(_));
        let change = wire::MetaChange { change: Some(change) };
        let ask = |leader: NodeId| {
            let change = change.clone();
            async move {
                if leader == self.peers.own.node {
                    return self.change_here(change).await;
                }
                let request = self.peers.request(leader, None, change);
                let changed = self.peers.client(leader)?.change_meta(request).await.map(tonic::Response::into_inner);
                changed.map_err(|status| match is_in_doubt(&status) {
                    true if !is_repeatable => Status::aborted(status.message()),
                    _ => status,
                })
            }
        };
        match self.ask_leader(ask).await {
            Some(Ok(changed)) => Ok(changed),
            Some(Err(status)) => Err(match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied => {
                    MetaError::Refused { reason: status.message().to_owned() }
                }
                Code::NotFound => MetaError::NotFound { reason: status.message().to_owned() },
                _ => MetaError::Unknown,
            }),
            None => Err(MetaError::Unknown),
        }
    }

    /// The index up to which the meta group is committed; this node must lead it.
    pub(crate) async fn read_here(&self) -> Result<LogIndex, Status> {
        let (group, _) = self.led_here()?;
        group.read_index().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// The state with everything in it that was committed before the call.
    pub(crate) async fn read(&self) -> Result<MetaView, MetaError> {
        let ask = |leader: NodeId| async move {
            if leader == self.peers.own.node {
                return self.read_here().await;
            }
            let request = self.peers.request(leader, None, wire::ReadMetaRequest {});
            let read = self.peers.client(leader)?.read_meta(request).await?;
            Ok(LogIndex(read.into_inner().index))
        };
        let unavailable = |reason: &str| MetaError::Unavailable { reason: reason.to_owned() };
        let read = async {
            let index = match self.ask_leader(ask).await {
                Some(Ok(index)) => index,
                Some(Err(status)) => return Err(unavailable(status.message())),
                None => return Err(unavailable("no answer in time")),
            };
            let group = self.group.get().ok_or_else(|| unavailable("the group is not open here"))?;
            let mut applied = group.replica.applied();
            let reached = applied.wait_for(|applied| *applied >= index).await;
            reached.map_err(|_closed| unavailable("the node is shutting down"))?;
            Ok(group.view().state.view())
        };
        tokio::time::timeout(CHANGE_TIMEOUT, read).await.unwrap_or_else(|_late| Err(unavailable("no answer in time")))
    }

    /// What the meta group's leader answers; asks again while it is `Unavailable`. `None`: not in time.
    async fn ask_leader<T, Answer: Future<Output = Result<T, Status>>>(
        &self,
        ask: impl Fn(NodeId) -> Answer,
    ) -> Option<Result<T, Status>> {
        let attempts = async {
            loop {
                let leader = self.group.get().and_then(|group| group.leadership().borrow().leader);
                let answer = match leader {
                    None => Err(Status::unavailable("no leader is known")),
                    Some(leader) => ask(leader).await,
                };
                match answer {
                    Err(status) if status.code() == Code::Unavailable => {
                        tracing::debug!(%status, "the meta group is asked again");
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                    answer => return answer,
                }
            }
        };
        tokio::time::timeout(CHANGE_TIMEOUT, attempts).await.ok()
    }
}

/// Commits `change` in the leadership of `term`: `Unavailable` when it certainly is not, `Aborted` when that is unknown.
async fn commit(group: &ShardHandle<MetaState>, term: Term, change: &wire::MetaChange) -> Result<(), Status> {
    match group.propose(term, change.encode_to_vec().into()).await {
        Ok(_index) => Ok(()),
        Err(error @ ProposeError::NotLeader { .. }) => Err(Status::unavailable(error.to_string())),
        Err(error @ ProposeError::Unknown { .. }) => Err(Status::aborted(error.to_string())),
    }
}
