//! The Raft library's client side: one bidirectional stream of appends per group and target.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use std::marker::PhantomData;
use tonic::{Code, Status};

use crate::peer::Peers;
use crate::peer::freshness::Teller;
use crate::peer::promise::{self, Promises};
use crate::peer::snapshot::{self, SNAPSHOT_TIMEOUT, Snapshot};
use crate::raft::{self, Types, Vote};
use crate::{NodeId, ShardId, StateMachine, wire};

/// A follower that owes an answer for longer is given up; the next try opens a new stream.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a node that is gone is asked again: it costs little, and its return is noticed soon.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// Makes links to the other replicas of one group.
pub(crate) struct Network<S> {
    pub(crate) shard: ShardId,
    pub(crate) peers: Arc<Peers>,
    pub(crate) promises: Promises,
    pub(crate) teller: Teller,
    pub(crate) state: PhantomData<fn() -> S>,
}

/// The way from this replica to one other.
pub(crate) struct Link<S> {
    shard: ShardId,
    target: NodeId,
    peers: Arc<Peers>,
    promises: Promises,
    teller: Teller,
    state: PhantomData<fn() -> S>,
}

impl<S: StateMachine> RaftNetworkFactory<Types> for Network<S> {
    type Network = Link<S>;

    /// A replica that comes anew, or back after it was removed, has promised nothing yet. One that stays says again what it has
    /// with its next answer to a heartbeat.
    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link<S> {
        self.promises.lock().remove(&NodeId(target));
        self.link(target)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Link<S> {
        self.link(target)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &EmptyNode) -> Link<S> {
        self.link(target)
    }
}

impl<S> Network<S> {
    fn link(&self, target: u64) -> Link<S> {
        let (peers, promises) = (Arc::clone(&self.peers), Arc::clone(&self.promises));
        let teller = self.teller.clone();
        Link { shard: self.shard, target: NodeId(target), peers, promises, teller, state: PhantomData }
    }
}

fn rpc_error(status: &Status) -> RPCError<Types> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::NotFound => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn damaged(error: &crate::DamagedBytes) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

/// `call`, given up after `limit`.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RPCError<Types>> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(rpc_error(&status)),
        Err(_elapsed) => Err(rpc_error(&Status::deadline_exceeded("no answer in time"))),
    }
}

impl<S: StateMachine> NetBackoff<Types> for Link<S> {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE)))
    }
}

pub(crate) fn append_to_wire(
    request: &AppendEntriesRequest<Types>,
    word: Option<wire::QuorumWord>,
) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(raft::vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(raft::log_id_to_wire),
        entries: request.entries.iter().map(raft::entry_to_wire).collect(),
        leader_commit: request.leader_commit.as_ref().map(raft::log_id_to_wire),
        word,
    }
}

pub(crate) fn append_result(response: wire::AppendResponse) -> Result<StreamAppendResult<Types>, crate::DamagedBytes> {
    use wire::append_response::Result as Answer;
    Ok(match response.result {
        Some(Answer::Stored(stored)) => Ok(stored.last.map(raft::log_id_from_wire)),
        Some(Answer::Conflict(at)) => Err(StreamAppendError::Conflict(raft::log_id_from_wire(at))),
        Some(Answer::HigherVote(vote)) => Err(StreamAppendError::HigherVote(raft::vote_from_wire(Some(vote))?)),
        None => return Err(crate::DamagedBytes { reason: "an append answer is empty".to_owned() }),
    })
}

impl<S: StateMachine> NetStreamAppend<Types> for Link<S> {
    fn stream_append<'s, Input>(
        &'s mut self,
        input: Input,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        Input: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let sent = Arc::new(AtomicU64::new(0));
            // All requests of a stream are one leader's.
            let term = Arc::new(AtomicU64::new(0));
            let (counted, led) = (Arc::clone(&sent), Arc::clone(&term));
            let (shard, target, teller) = (self.shard, self.target, self.teller.clone());
            let requests = input.map(move |request| {
                counted.fetch_add(1, Ordering::Relaxed);
                led.store(request.vote.leader_id().term, Ordering::Relaxed);
                append_to_wire(&request, Some(teller.word(target)))
            });
            let mut client = self.peers.client(self.target).map_err(|status| rpc_error(&status))?;
            let request = self.peers.request(self.target, Some(self.shard), requests);
            let limit = option.soft_ttl().max(PROGRESS_TIMEOUT);
            let responses = match within(limit, client.append(request)).await {
                Ok(responses) => responses,
                Err(error) => {
                    // The library pauses before the requests of a stream, never before it opens the next stream.
                    tokio::time::sleep(UNREACHABLE_PAUSE).await;
                    return Err(error);
                }
            };
            let (peers, promises) = (Arc::clone(&self.peers), Arc::clone(&self.promises));
            let teller = self.teller.clone();
            let answers = futures::stream::unfold(Some((responses, 0u64)), move |state| {
                let (sent, peers) = (Arc::clone(&sent), Arc::clone(&peers));
                let (term, promises, teller) = (Arc::clone(&term), Arc::clone(&promises), teller.clone());
                async move {
                    let (mut responses, answered) = state?;
                    let next = loop {
                        match tokio::time::timeout(limit, responses.next()).await {
                            Ok(next) => break next?,
                            Err(_idle) if sent.load(Ordering::Relaxed) <= answered => {}
                            Err(_stuck) => break Err(Status::deadline_exceeded("appends are not answered")),
                        }
                    };
                    match next {
                        Ok(response) => {
                            peers.heard_from(target);
                            teller.keep(target, response.stamp);
                            let result = append_result(response).map_err(|error| damaged(&error));
                            let term = term.load(Ordering::Relaxed);
                            let result =
                                result.and_then(|answer| promise::keep(&promises, shard, target, term, answer));
                            let ends = !matches!(result, Ok(Ok(_)));
                            Some((result, (!ends).then_some((responses, answered + 1))))
                        }
                        Err(status) => Some((Err(rpc_error(&status)), None)),
                    }
                }
            });
            Ok(answers.boxed())
        })
    }
}

impl<S: StateMachine> Link<S> {
    async fn ask_for_vote(
        &self,
        rpc: &VoteRequest<Types>,
        pre_vote: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let message = wire::VoteRequest {
            shard: self.shard.0,
            vote: Some(raft::vote_to_wire(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(raft::log_id_to_wire),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let mut client = self.peers.client(self.target).map_err(|status| rpc_error(&status))?;
        let request = self.peers.request(self.target, Some(self.shard), message);
        let response = within(option.soft_ttl(), client.vote(request)).await?;
        let vote = raft::vote_from_wire(response.vote).map_err(|error| damaged(&error))?;
        Ok(VoteResponse::new(vote, response.last.map(raft::log_id_from_wire), response.granted))
    }
}

impl<S: StateMachine> NetVote<Types> for Link<S> {
    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(&rpc, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(&rpc, true, &option).await
    }
}

impl<S: StateMachine> NetSnapshot<Types> for Link<S> {
    type SnapshotData = S;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<S>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let parts = futures::stream::iter(snapshot::parts(self.shard, Some(&vote), &snapshot));
        let mut client = self.peers.client(self.target).map_err(|status| rpc_error(&status))?;
        let request = self.peers.request(self.target, Some(self.shard), parts);
        let installed = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            installed = within(SNAPSHOT_TIMEOUT, client.install_snapshot(request)) => installed?,
        };
        let vote = raft::vote_from_wire(installed.vote).map_err(|error| damaged(&error))?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl<S: StateMachine> NetTransferLeader<Types> for Link<S> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let message = wire::TransferLeaderRequest {
            shard: self.shard.0,
            from: Some(raft::vote_to_wire(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(raft::log_id_to_wire),
        };
        let mut client = self.peers.client(self.target).map_err(|status| rpc_error(&status))?;
        let request = self.peers.request(self.target, Some(self.shard), message);
        let response = within(option.soft_ttl(), client.transfer_leader(request)).await?;
        if response.accepted {
            Ok(Ok(()))
        } else {
            Err(RPCError::Network(NetworkError::from_string("the transfer was refused")))
        }
    }
}
