//! Bringing a request to a node that can answer it: here, or one hop away, within the caller's deadline.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kvarter_cluster::{CallError, Leadership, LogIndex, MetaView, NodeId, ShardId};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::city::answer::{Here, is_read, read_feed, staleness_max};
use crate::city::kinds::RETIREMENT_VERSION;
use crate::city::{CallContext, FeedBounds, Forwarding, Inner};
use crate::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};

/// How long a leader that another node has followed is still waited for: its answer may be on its way.
const DEPOSED_GRACE: Duration = Duration::from_millis(100);

/// How long a call waits at a node that no other replica answers: a connection may just be coming back.
const CUT_OFF_PATIENCE: Duration = Duration::from_secs(1);

const RETRY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(500) };

/// What an attempt came to.
enum Attempt {
    Done(Result<Reply, Failure>),
    /// Certainly not applied: worth another attempt.
    Again(Box<message::ShardRequest>, Failure),
}

/// Why no replica gave entries of a feed.
pub(super) struct Unserved {
    pub(super) failure: Failure,
    /// Most replicas do not have them, and of one at least they are gone.
    pub(super) is_gone_at_most: bool,
}

impl Inner {
    pub(super) async fn call(
        &self,
        mut request: Box<message::ShardRequest>,
        context: CallContext,
    ) -> Result<Reply, Failure> {
        let deadline = Instant::now() + context.deadline;
        if request.traceparent.is_empty() {
            request.traceparent = context.traceparent;
        }
        if let (0, Some(criticality)) = (request.criticality, context.criticality) {
            request.criticality = criticality.to_message();
        }
        if let Some(Request::ReadFeed(read)) = request.request {
            let answer = self.read_feed_anywhere(ShardId(request.shard), read, deadline).await;
            return answer.map(Reply::FeedRead).map_err(|unserved| unserved.failure);
        }
        let shard = ShardId(request.shard);
        let mut leadership = self.cluster.shard(shard).map(|handle| handle.leadership());
        leadership.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let mut failures = 0;
        let mut cut_off_since = None;
        loop {
            let failure = match self.attempt(request, deadline, &context.forwarding).await {
                Attempt::Done(outcome) => return outcome,
                Attempt::Again(back, failure) => {
                    request = back;
                    failure
                }
            };
            cut_off_since = self.is_cut_off(shard).then(|| cut_off_since.unwrap_or_else(Instant::now));
            if cut_off_since.is_some_and(|since| since.elapsed() >= CUT_OFF_PATIENCE) {
                return Err(failure);
            }
            failures += 1;
            let delay = RETRY_BACKOFF.delay(failures, self.cluster.ports().random.next_u64());
            if Instant::now() + delay >= deadline {
                return Err(failure);
            }
            tokio::select! {
                () = sleep(delay) => {}
                // Whoever leads now is asked at once, and again soon if it is not ready yet.
                () = next_change(leadership.as_mut()) => failures = 0,
            }
        }
    }

    async fn attempt(
        &self,
        request: Box<message::ShardRequest>,
        deadline: Instant,
        forwarding: &Forwarding,
    ) -> Attempt {
        let (needed, version) = (request.request.as_ref().map_or(1, version_of), self.cluster.meta().version());
        if version < needed {
            return Attempt::Again(request, needs_upgrade(version, needed));
        }
        let mut request = match self.answer_here(request, deadline).await {
            Here::Answered(reply) => return Attempt::Done(outcome_of(reply)),
            Here::NotHere(request) => request,
        };
        let shard = ShardId(request.shard);
        if self.is_cut_off(shard) {
            // Whom this node still takes for the leader would be waited for in vain, and it would be unknown what came of it.
            let text = format!("{shard}: no other replica answers {}", self.cluster.node());
            return Attempt::Again(request, Failure::new(FailureReason::NotLeader, text));
        }
        let mut failure = Failure::new(FailureReason::NotLeader, format!("{shard} has no known leader"));
        // Any replica may have answered a read that allows staleness.
        let is_for_leader = request.request.as_ref().and_then(staleness_max).is_none();
        for node in self.candidates(shard, request.request.as_ref()) {
            self.forwarded.fetch_add(1, Ordering::Relaxed);
            match self.ask(node, request, deadline).await {
                Attempt::Again(back, reason) => (request, failure) = (back, reason),
                Attempt::Done(outcome) => {
                    let is_answered = !matches!(&outcome, Err(said) if said.reason() == FailureReason::Unknown);
                    if is_for_leader && is_answered {
                        forwarding.answered_by(node);
                    }
                    return Attempt::Done(outcome);
                }
            }
        }
        Attempt::Again(request, failure)
    }

    /// No other replica of `shard` answers this node: unless it leads the shard itself, it can do nothing for a caller.
    pub(super) fn is_cut_off(&self, shard: ShardId) -> bool {
        let has_others = self.replicas_elsewhere(&self.cluster.meta(), shard).next().is_some();
        has_others && !self.reaches_another(shard)
    }

    pub(super) fn reaches_another(&self, shard: ShardId) -> bool {
        self.replicas_elsewhere(&self.cluster.meta(), shard).any(|node| self.cluster.is_reachable(node))
    }

    /// Other nodes that may answer: the leader, and any replica after it for a read that allows staleness, or where only
    /// hearsay tells who leads because this node has no replica.
    fn candidates(&self, shard: ShardId, request: Option<&Request>) -> Vec<NodeId> {
        let here = self.cluster.node();
        let leader = self.cluster.leader(shard).map(|(node, _)| node).filter(|node| *node != here);
        let mut candidates: Vec<_> = leader.into_iter().collect();
        if request.and_then(staleness_max).is_some() || self.cluster.shard(shard).is_none() {
            candidates.extend(self.other_replicas(shard).into_iter().filter(|node| Some(*node) != leader));
        }
        candidates
    }

    fn replicas_elsewhere<'a>(&self, meta: &'a MetaView, shard: ShardId) -> impl Iterator<Item = NodeId> + use<'a> {
        let here = self.cluster.node();
        let placed = meta.shards.get(&shard).into_iter();
        placed
            .flat_map(|placed| placed.replicas.iter().chain(&placed.leaving))
            .copied()
            .filter(move |node| *node != here)
    }

    /// Nodes with a replica of `shard`, without this one; those that answered lately first. A replica that has just come may
    /// have nothing yet, one that is to leave may be gone.
    pub(super) fn other_replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let meta = self.cluster.meta();
        let mut nodes: Vec<_> = self.replicas_elsewhere(&meta, shard).collect();
        nodes.sort_by_key(|node| !self.cluster.is_reachable(*node));
        nodes
    }

    async fn ask(&self, node: NodeId, mut request: Box<message::ShardRequest>, deadline: Instant) -> Attempt {
        let remaining = deadline.saturating_duration_since(Instant::now());
        request.remaining_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX);
        let shard = ShardId(request.shard);
        let is_harmless = request.request.as_ref().is_some_and(is_harmless);
        let envelope = message::peer_request::Request::Shard(*request);
        let peer_request = message::PeerRequest { request: Some(envelope) };
        let answer = tokio::select! {
            answer = self.cluster.call(node, peer_request.encode_to_vec().into(), remaining) => answer,
            // One that is stopped, or cut off, would be waited for until the deadline, though others have taken over.
            () = self.deposed(shard, node) => Err(CallError::Unknown { node }),
        };
        let Some(message::peer_request::Request::Shard(request)) = peer_request.request else {
            unreachable!("the request was put there above");
        };
        let request = Box::new(request);
        let reply = match answer {
            Ok(bytes) => reply_from(bytes),
            Err(error @ CallError::Unreachable { .. }) => {
                return Attempt::Again(request, Failure::new(FailureReason::NotLeader, format!("{shard}: {error}")));
            }
            Err(CallError::Unknown { .. }) => None,
        };
        match reply {
            Some(Reply::Failure(failure)) if failure.reason() == FailureReason::NotLeader => {
                Attempt::Again(request, failure)
            }
            Some(reply) => Attempt::Done(outcome_of(reply)),
            None if is_harmless => {
                let text = format!("{shard}: no answer from {node} in time");
                Attempt::Again(request, Failure::new(FailureReason::NotLeader, text))
            }
            None => {
                let text = format!("{shard}: no answer from {node}; whether the request was applied is unknown");
                Attempt::Done(Err(Failure::new(FailureReason::Unknown, text)))
            }
        }
    }

    /// Tells `node`, which may be this one, whether it is drained. `NOT_LEADER`: it was not reached; `UNKNOWN`: it did not answer.
    pub(super) async fn drain(&self, node: NodeId, is_drained: bool, deadline: Duration) -> Result<(), Failure> {
        if node == self.cluster.node() {
            self.cluster.set_drained(is_drained);
            return Ok(());
        }
        let request = message::peer_request::Request::Drain(message::Drain { drained: is_drained });
        let request = message::PeerRequest { request: Some(request) };
        let answer = self.cluster.call(node, request.encode_to_vec().into(), deadline).await.map_err(|error| {
            let reason = match error {
                CallError::Unreachable { .. } => FailureReason::NotLeader,
                CallError::Unknown { .. } => FailureReason::Unknown,
            };
            Failure::new(reason, error.to_string())
        })?;
        match message::PeerReply::decode(answer).ok().and_then(|reply| reply.reply) {
            Some(message::peer_reply::Reply::Drained(_)) => Ok(()),
            _ => {
                Err(Failure::new(FailureReason::Limit, format!("the program of {node} can not be drained: upgrade it")))
            }
        }
    }

    /// What any replica of `shard` keeps of its feed: from the first entry of any to the last of any. `NOT_LEADER`: no replica
    /// answered.
    pub(super) async fn feed_bounds(&self, shard: ShardId, deadline: Instant) -> Result<FeedBounds, Failure> {
        let read = message::ReadFeed { only_bounds: true, ..message::ReadFeed::default() };
        let mut answers = Vec::new();
        if let Some(handle) = self.cluster.shard(shard) {
            answers.push(Ok(read_feed(&handle, read, deadline).await));
        }
        let others = self.other_replicas(shard).into_iter().map(|node| self.ask_feed(node, shard, read, deadline));
        answers.extend(futures::future::join_all(others).await.into_iter().map(|attempt| match attempt {
            Attempt::Done(outcome) => outcome,
            Attempt::Again(_, failure) => Err(failure),
        }));
        let mut failure = Failure::new(FailureReason::NotLeader, format!("{shard} has no known replica"));
        let mut kept = Vec::new();
        for answer in answers {
            match answer {
                Ok(Reply::FeedRead(message::FeedRead { bounds: Some(said), .. })) => {
                    kept.push(FeedBounds { first: LogIndex(said.first), applied: LogIndex(said.applied) });
                }
                Ok(_) => {}
                Err(said) => failure = Failure { reason: FailureReason::NotLeader.into(), ..said },
            }
        }
        FeedBounds::joined(kept).ok_or(failure)
    }

    async fn ask_feed(&self, node: NodeId, shard: ShardId, read: message::ReadFeed, deadline: Instant) -> Attempt {
        let request = Some(Request::ReadFeed(read));
        let request = message::ShardRequest { shard: shard.0, request, ..message::ShardRequest::default() };
        self.ask(node, Box::new(request), deadline).await
    }

    /// Whether the replica on `node` answers, and has not come to the entries behind `after`.
    async fn is_behind(&self, node: NodeId, shard: ShardId, after: u64, deadline: Instant) -> bool {
        let read = message::ReadFeed { only_bounds: true, ..message::ReadFeed::default() };
        match self.ask_feed(node, shard, read, deadline).await {
            Attempt::Done(Ok(Reply::FeedRead(read))) => read.bounds.is_none_or(|kept| kept.applied < after),
            Attempt::Done(_) | Attempt::Again(..) => false,
        }
    }

    /// Ends when `node` leads `shard` no more and has had time to say what it did as its leader. Pending for a node that did not
    /// lead when it was asked, and without a local replica, which would tell who does.
    async fn deposed(&self, shard: ShardId, node: NodeId) {
        let leadership = self.cluster.shard(shard).map(|handle| handle.leadership());
        let Some(mut leadership) = leadership.filter(|seen| seen.borrow().leader == Some(node)) else {
            return std::future::pending().await;
        };
        let is_followed = |now: &Leadership| now.leader.is_some_and(|leader| leader != node);
        if leadership.wait_for(is_followed).await.is_err() {
            return std::future::pending().await;
        }
        sleep(DEPOSED_GRACE).await;
    }

    /// Entries of a shard's feed from the first replica that has them, the local one before others. `GONE` when no replica can
    /// have them any more: each said so, or is still behind them; `NOT_LEADER` when one that may have them did not answer.
    pub(super) async fn read_feed_anywhere(
        &self,
        shard: ShardId,
        read: message::ReadFeed,
        deadline: Instant,
    ) -> Result<message::FeedRead, Unserved> {
        let mut failure = Failure::new(FailureReason::NotLeader, format!("{shard} has no known replica"));
        let (mut gone, mut lacking, mut unheard) = (None, 0, Vec::new());
        if let Some(handle) = self.cluster.shard(shard) {
            match outcome_of(read_feed(&handle, read, deadline).await) {
                Ok(Reply::FeedRead(answer)) => return Ok(answer),
                Ok(_) => unreachable!("a feed is answered as a feed"),
                Err(said) if said.reason() == FailureReason::Gone => (gone, lacking) = (Some(said), 1),
                Err(_) if handle.view().applied.0 < read.after => lacking = 1,
                Err(said) => {
                    failure = said;
                    unheard.push(self.cluster.node());
                }
            }
        }
        for node in self.other_replicas(shard) {
            match self.ask_feed(node, shard, read, deadline).await {
                Attempt::Done(Ok(Reply::FeedRead(answer))) => return Ok(answer),
                Attempt::Done(Err(said)) if said.reason() == FailureReason::Gone => {
                    gone = Some(said);
                    lacking += 1;
                }
                Attempt::Done(Ok(_)) => unheard.push(node),
                Attempt::Done(Err(said)) | Attempt::Again(_, said) => {
                    failure = Failure { reason: FailureReason::NotLeader.into(), ..said };
                    unheard.push(node);
                }
            }
        }
        // Replicas that are all behind may just have been started.
        let Some(gone) = gone else { return Err(Unserved { failure, is_gone_at_most: false }) };
        let mut is_known = true;
        for node in unheard {
            if node != self.cluster.node() && self.is_behind(node, shard, read.after, deadline).await {
                lacking += 1;
            } else {
                is_known = false;
            }
        }
        let replicas = self.cluster.meta().shards.get(&shard).map_or(usize::MAX, |placed| placed.replicas.len());
        let is_gone_at_most = lacking > replicas / 2;
        Err(Unserved { failure: if is_known { gone } else { failure }, is_gone_at_most })
    }
}

/// The cluster version since which every member knows the request, and all that narrows it.
fn version_of(request: &Request) -> u32 {
    match request {
        Request::ReadTwins(_) | Request::CancelCommand(_) => 2,
        Request::ListTwins(list) if list.filter.is_some() => 2,
        Request::CountDevices(_) => RETIREMENT_VERSION,
        _ => 1,
    }
}

/// Why nothing was done that needs the cluster version `needed`.
pub(super) fn needs_upgrade(version: u32, needed: u32) -> Failure {
    let text = format!("the cluster has version {version} until every node is upgraded; this needs {needed}");
    Failure::new(FailureReason::NotLeader, text)
}

/// Whether the request changes nothing, and may be asked again although it was perhaps answered.
fn is_harmless(request: &Request) -> bool {
    is_read(request) || matches!(request, Request::CountDevices(_))
}

/// Pending for ever without a local replica, and when the node stops.
async fn next_change(leadership: Option<&mut watch::Receiver<Leadership>>) {
    let Some(leadership) = leadership else { return std::future::pending().await };
    if leadership.changed().await.is_err() {
        std::future::pending().await
    }
}

fn outcome_of(reply: Reply) -> Result<Reply, Failure> {
    match reply {
        Reply::Failure(failure) => Err(failure),
        reply => Ok(reply),
    }
}

/// `None`: bytes that are no reply to a request.
fn reply_from(bytes: bytes::Bytes) -> Option<Reply> {
    match message::PeerReply::decode(bytes).ok()?.reply? {
        message::peer_reply::Reply::Shard(reply) => reply.reply,
        message::peer_reply::Reply::Deliveries(_) | message::peer_reply::Reply::Drained(_) => None,
    }
}
