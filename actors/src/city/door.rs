//! The door for peers: their requests are answered here or not at all, never sent on.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use kvarter_cluster::{NodeId, PeerHandler, ShardId};
use prost::Message;
use tokio::time::Instant;

use crate::city::Inner;
use crate::city::answer::Here;
use crate::message::{self, Failure, FailureReason, peer_reply, peer_request, shard_reply::Reply};

/// Longest time that a peer's request is worked on, whatever it says.
const REMAINING_MAX: Duration = Duration::from_secs(60);

/// Answers peers: give it to `Cluster::start`, then to `City::start`. Requests before that are answered `NOT_LEADER`.
#[derive(Clone, Default)]
pub struct PeerDoor {
    /// Weak, since the cluster holds the door and the city holds the cluster.
    city: Arc<OnceLock<Weak<Inner>>>,
}

impl PeerDoor {
    /// From now on the city answers. A door leads to one city: later ones are ignored.
    pub(super) fn open(&self, city: &Arc<Inner>) {
        if self.city.set(Arc::downgrade(city)).is_err() {
            tracing::warn!("the door for peers was opened twice");
        }
    }

    async fn answer(&self, from: NodeId, request: Bytes) -> peer_reply::Reply {
        let failed = |reason, text: String| shard_reply(Reply::Failure(Failure::new(reason, text)));
        let decoded = message::PeerRequest::decode(request);
        let Ok(message::PeerRequest { request: Some(request) }) = decoded else {
            tracing::warn!(%from, "a peer sent bytes that are no request");
            return failed(FailureReason::Invalid, "the bytes are no request".to_owned());
        };
        let Some(city) = self.city.get().and_then(Weak::upgrade) else {
            return failed(FailureReason::NotLeader, "the city does not run here yet".to_owned());
        };
        match request {
            peer_request::Request::Shard(request) => {
                let shard = ShardId(request.shard);
                let remaining = Duration::from_millis(u64::from(request.remaining_ms)).min(REMAINING_MAX);
                match city.answer_here(Box::new(request), Instant::now() + remaining).await {
                    Here::Answered(reply) => shard_reply(reply),
                    Here::NotHere(_) => {
                        failed(FailureReason::NotLeader, format!("{} does not lead {shard}", city.cluster.node()))
                    }
                }
            }
            peer_request::Request::Drain(message::Drain { drained }) => {
                city.cluster.set_drained(drained);
                peer_reply::Reply::Drained(message::Done::default())
            }
            peer_request::Request::Deliveries(deliveries) => {
                let outcomes = city.mailboxes.deliver(deliveries, city.cluster.ports().clock.now());
                peer_reply::Reply::Deliveries(message::DeliveriesReply { outcomes })
            }
        }
    }
}

fn shard_reply(reply: Reply) -> peer_reply::Reply {
    peer_reply::Reply::Shard(message::ShardReply { reply: Some(reply) })
}

#[async_trait::async_trait]
impl PeerHandler for PeerDoor {
    async fn handle(&self, from: NodeId, request: Bytes) -> Bytes {
        let reply = self.answer(from, request).await;
        message::PeerReply { reply: Some(reply) }.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(request: Vec<u8>) -> message::PeerReply {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(PeerDoor::default().handle(NodeId(9), request.into()));
        message::PeerReply::decode(bytes).unwrap()
    }

    fn reason(reply: message::PeerReply) -> FailureReason {
        match reply.reply {
            Some(peer_reply::Reply::Shard(message::ShardReply { reply: Some(Reply::Failure(failure)) })) => {
                failure.reason()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_before_the_city_runs_is_answered_not_leader() {
        let request = peer_request::Request::Shard(message::ShardRequest::default());
        let request = message::PeerRequest { request: Some(request) }.encode_to_vec();
        assert_eq!(reason(answer(request)), FailureReason::NotLeader);
    }

    proptest! {
        #[test]
        fn hostile_bytes_get_an_answer(request: Vec<u8>) {
            let reason = reason(answer(request));
            prop_assert!(matches!(reason, FailureReason::Invalid | FailureReason::NotLeader));
        }
    }
}
