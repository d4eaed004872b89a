//! The serving side: checks who calls, finds the group, hands over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::meta::{MetaDoor, MetaError, node_to_wire};
use crate::peer::freshness::Stamper;
use crate::peer::{Peers, removed_status, snapshot};
use crate::raft::{self, Types};
use crate::replica::Replica;
use crate::shard::Raft;
use crate::wire::meta_change::Change;
use crate::wire::{self, peer_server::Peer};
use crate::{DamagedBytes, LogIndex, NodeId, ShardId, StateMachine, Term};

/// Answers calls from peers: the application's half of the node-to-node transport.
#[tonic::async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// The answer to `request`; bytes from a peer are hostile and never panic.
    async fn handle(&self, from: NodeId, request: Bytes) -> Bytes;
}

/// Every group that this node has a replica of.
pub(crate) type Groups = Arc<RwLock<BTreeMap<ShardId, Arc<dyn GroupDoor>>>>;

type Appends = BoxStream<'static, Result<wire::AppendResponse, Status>>;
type SnapshotParts = BoxStream<'static, Result<wire::SnapshotPart, Status>>;

/// A group behind its state machine's type.
#[tonic::async_trait]
pub(crate) trait GroupDoor: Send + Sync {
    fn append(&self, requests: Streaming<wire::AppendRequest>) -> Appends;
    async fn vote(&self, request: wire::VoteRequest) -> Result<wire::VoteResponse, Status>;
    async fn install_snapshot(
        &self,
        header: wire::SnapshotHeader,
        parts: Streaming<wire::SnapshotPart>,
    ) -> Result<wire::SnapshotInstalled, Status>;
    /// The state as this replica has it, unless it has not applied `applied_min`.
    async fn fetch_snapshot(&self, applied_min: LogIndex) -> Result<SnapshotParts, Status>;
    async fn transfer_leader(&self, request: wire::TransferLeaderRequest) -> Result<bool, Status>;
    /// The term in which this replica leads, if it does.
    fn led_term(&self) -> Option<Term>;
}

/// The door to a group of one state machine.
pub(crate) struct Door<S: StateMachine> {
    pub(crate) shard: ShardId,
    pub(crate) raft: Raft<S>,
    pub(crate) replica: Arc<Replica<S>>,
    pub(crate) stamper: Stamper,
}

fn malformed(error: &DamagedBytes) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(crate) fn append_from_wire(request: wire::AppendRequest) -> Result<AppendEntriesRequest<Types>, DamagedBytes> {
    Ok(AppendEntriesRequest {
        vote: raft::vote_from_wire(request.vote)?,
        prev_log_id: request.previous.map(raft::log_id_from_wire),
        entries: request.entries.into_iter().map(raft::entry_from_wire).collect(),
        leader_commit: request.leader_commit.map(raft::log_id_from_wire),
    })
}

/// The requests up to the first that is damaged or lost, with what the leader knows; the answer to the last good one tells the
/// leader where to go on.
fn well_formed(
    requests: Streaming<wire::AppendRequest>,
) -> impl Stream<Item = (AppendEntriesRequest<Types>, Option<wire::QuorumWord>)> + Send + 'static {
    futures::stream::unfold(requests, |mut requests| async move {
        match requests.next().await? {
            Ok(mut request) => match (request.word.take(), append_from_wire(request)) {
                (word, Ok(request)) => Some(((request, word), requests)),
                (_, Err(error)) => {
                    tracing::warn!(%error, "a peer sent a malformed append");
                    None
                }
            },
            Err(_disconnected) => None,
        }
    })
}

#[tonic::async_trait]
impl<S: StateMachine> GroupDoor for Door<S> {
    fn append(&self, requests: Streaming<wire::AppendRequest>) -> Appends {
        use wire::append_response::Result as Answer;
        let (replica, stamper) = (Arc::clone(&self.replica), self.stamper);
        // The Raft core answers one by one and in order, and takes no more before the oldest few dozen are answered.
        let heard = Arc::new(Mutex::new(VecDeque::new()));
        let hearing = Arc::clone(&heard);
        let requests = well_formed(requests).map(move |(request, word)| {
            hearing.lock().push_back(word);
            request
        });
        let raft = self.raft.clone();
        // The library answers in a task of its own, which draws no random numbers.
        let answers = raft::seeded(0, async move { raft.stream_append(requests).boxed() });
        futures::stream::once(answers)
            .flatten()
            .map(move |answer| match answer {
                Ok(result) => {
                    let (now, heard) = (Instant::now(), heard.lock().pop_front());
                    match (&result, heard) {
                        (Ok(_), Some(Some(word))) => {
                            if let Some(confirmed) = stamper.read(&word, now) {
                                replica.hear(confirmed);
                            }
                        }
                        // A leader of an older program, which does not tell.
                        (Ok(_), Some(None)) => replica.hear_nothing(),
                        (Err(_), _) | (Ok(_), None) => {}
                    }
                    let result = match result {
                        Ok(last) => Answer::Stored(wire::Stored { last: last.as_ref().map(raft::log_id_to_wire) }),
                        Err(StreamAppendError::Conflict(at)) => Answer::Conflict(raft::log_id_to_wire(&at)),
                        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(raft::vote_to_wire(&vote)),
                    };
                    Ok(wire::AppendResponse { result: Some(result), stamp: Some(stamper.stamp(now)) })
                }
                Err(fatal) => Err(Status::unavailable(fatal.to_string())),
            })
            .boxed()
    }

    async fn vote(&self, request: wire::VoteRequest) -> Result<wire::VoteResponse, Status> {
        let rpc = VoteRequest {
            vote: raft::vote_from_wire(request.vote).map_err(|error| malformed(&error))?,
            last_log_id: request.last.map(raft::log_id_from_wire),
            leadership_transfer: request.leadership_transfer,
        };
        let response = if request.pre_vote { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
        let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(wire::VoteResponse {
            vote: Some(raft::vote_to_wire(&response.vote)),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(raft::log_id_to_wire),
        })
    }

    async fn install_snapshot(
        &self,
        header: wire::SnapshotHeader,
        parts: Streaming<wire::SnapshotPart>,
    ) -> Result<wire::SnapshotInstalled, Status> {
        let vote = raft::vote_from_wire(header.vote).map_err(|error| malformed(&error))?;
        let snapshot = snapshot::read_pages(self.replica.storage(), header, parts).await?;
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let installed = installed.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(wire::SnapshotInstalled { vote: Some(raft::vote_to_wire(&installed.vote)) })
    }

    async fn fetch_snapshot(&self, applied_min: LogIndex) -> Result<SnapshotParts, Status> {
        let current = self.raft.with_state_machine(|store| {
            let current = store.0.current_snapshot();
            Box::pin(std::future::ready(current))
        });
        let current = current.await.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        let applied = LogIndex(current.meta.last_log_id.map_or(0, |last| last.index()));
        if applied < applied_min {
            return Err(Status::failed_precondition(format!("this replica has applied {applied}, not {applied_min}")));
        }
        Ok(futures::stream::iter(snapshot::parts(self.shard, None, &current).map(Ok)).boxed())
    }

    async fn transfer_leader(&self, request: wire::TransferLeaderRequest) -> Result<bool, Status> {
        let from = raft::vote_from_wire(request.from).map_err(|error| malformed(&error))?;
        let rpc = TransferLeaderRequest::new(from, request.to, request.last.map(raft::log_id_from_wire));
        let answer = self.raft.handle_transfer_leader(rpc).await;
        Ok(answer.map_err(|fatal| Status::unavailable(fatal.to_string()))?.is_ok())
    }

    fn led_term(&self) -> Option<Term> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.state.is_leader().then(|| Term(metrics.vote.leader_id().term))
    }
}

/// The service that peers call.
pub(crate) struct PeerService {
    pub(crate) peers: Arc<Peers>,
    pub(crate) groups: Groups,
    pub(crate) meta: Arc<MetaDoor>,
    pub(crate) handler: Arc<dyn PeerHandler>,
    /// The application's runtime: its work must not hold up Raft's.
    pub(crate) application: tokio::runtime::Handle,
}

impl PeerService {
    fn group(&self, shard: u32) -> Result<Arc<dyn GroupDoor>, Status> {
        let groups = self.groups.read();
        let group = groups.get(&ShardId(shard));
        group.cloned().ok_or_else(|| Status::not_found(format!("no replica of {} here", ShardId(shard))))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = Appends;
    type FetchSnapshotStream = SnapshotParts;

    async fn identify(&self, request: Request<wire::IdentifyRequest>) -> Result<Response<wire::Identity>, Status> {
        let from = self.peers.authenticate(&request)?;
        self.peers.heard_from(from);
        let groups = self.groups.read();
        let led = groups.iter().filter_map(|(shard, group)| Some((shard, group.led_term()?)));
        let led = led.map(|(shard, term)| wire::LedShard { shard: shard.0, term: term.0 }).collect();
        Ok(Response::new(wire::Identity { led, ..self.peers.identity_for(from) }))
    }

    async fn append(&self, request: Request<Streaming<wire::AppendRequest>>) -> Result<Response<Appends>, Status> {
        self.peers.authenticate(&request)?;
        let shard = request.metadata().get("kvarter-shard").and_then(|shard| shard.to_str().ok()?.parse().ok());
        let shard = shard.ok_or_else(|| Status::invalid_argument("kvarter-shard is missing"))?;
        Ok(Response::new(self.group(shard)?.append(request.into_inner())))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteResponse>, Status> {
        self.peers.authenticate(&request)?;
        let request = request.into_inner();
        Ok(Response::new(self.group(request.shard)?.vote(request).await?))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotInstalled>, Status> {
        self.peers.authenticate(&request)?;
        let mut parts = request.into_inner();
        let header = snapshot::read_header(&mut parts).await?;
        Ok(Response::new(self.group(header.shard)?.install_snapshot(header, parts).await?))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<wire::FetchSnapshotRequest>,
    ) -> Result<Response<SnapshotParts>, Status> {
        self.peers.authenticate(&request)?;
        let request = request.into_inner();
        let applied_min = LogIndex(request.applied_min);
        Ok(Response::new(self.group(request.shard)?.fetch_snapshot(applied_min).await?))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        self.peers.authenticate(&request)?;
        let request = request.into_inner();
        let accepted = self.group(request.shard)?.transfer_leader(request).await?;
        Ok(Response::new(wire::TransferLeaderResponse { accepted }))
    }

    async fn call(&self, request: Request<wire::CallRequest>) -> Result<Response<wire::CallResponse>, Status> {
        let from = self.peers.authenticate(&request)?;
        let (handler, request) = (Arc::clone(&self.handler), request.into_inner().request);
        // Ends with the caller's deadline: the handler answers in bounded time, and a lost caller needs no answer.
        let mut work = tokio::task::JoinSet::new();
        work.spawn_on(async move { handler.handle(from, request).await }, &self.application);
        match work.join_next().await {
            Some(Ok(response)) => Ok(Response::new(wire::CallResponse { response })),
            Some(Err(_)) | None => Err(Status::aborted("the request failed here, its outcome is unknown")),
        }
    }

    async fn change_meta(&self, request: Request<wire::MetaChange>) -> Result<Response<wire::MetaChanged>, Status> {
        self.peers.authenticate(&request)?;
        Ok(Response::new(self.meta.change_here(request.into_inner()).await?))
    }

    async fn read_meta(&self, request: Request<wire::ReadMetaRequest>) -> Result<Response<wire::MetaRead>, Status> {
        self.peers.authenticate(&request)?;
        Ok(Response::new(wire::MetaRead { index: self.meta.read_here().await?.0 }))
    }

    async fn join(&self, request: Request<wire::Identity>) -> Result<Response<wire::Admitted>, Status> {
        let node = self.peers.authenticate_newcomer(&request)?;
        let identity = wire::Identity { cluster: Bytes::new(), clock_us: 0, ..request.into_inner() };
        let disk = identity.disk.clone();
        let mut view = self.meta.view();
        if view.removed.contains_key(&node) {
            return Err(removed_status(node));
        }
        // Who was admitted before is told without asking anybody: the meta group may lack just this node's vote.
        if view.nodes.get(&node).is_none_or(|known| known.disk.0.to_be_bytes()[..] != disk[..]) {
            let admitted = Change::Admitted(wire::NodeAdmitted { node: Some(identity) });
            self.meta.change(admitted).await.map_err(|error| match error {
                MetaError::Refused { .. } if self.meta.view().removed.contains_key(&node) => removed_status(node),
                MetaError::Refused { reason } | MetaError::NotFound { reason } => Status::permission_denied(reason),
                error @ (MetaError::Unavailable { .. } | MetaError::Unknown | MetaError::Conflict) => {
                    Status::unavailable(error.to_string())
                }
            })?;
            tracing::info!(%node, "a node was admitted to the cluster");
            view = self.meta.view();
        }
        Ok(Response::new(wire::Admitted { nodes: view.nodes.values().map(node_to_wire).collect() }))
    }
}
