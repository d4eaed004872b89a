//! The way into a shard: bounded by permits, since an actor's mailbox is not.
//!
//! A permit for the request and permits for its bytes are taken before the request enters the mailbox, and come back
//! with its answer. Without permits the caller hears `OVERLOADED` at once; nobody waits in line for the line.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use ractor::{ActorRef, MessagingErr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::message::{self, Failure, FailureReason, shard_request::Request};
use crate::shard::actor::ShardMessage;
use crate::shard::state::{Answer, Submission, Work};

/// When a caller who found the inbox full may try again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Encoded size of a reading in columns, about.
const READING_BYTES: usize = 24;

#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxBounds {
    pub(crate) requests_max: usize,
    pub(crate) bytes_max: usize,
}

/// Where an answer goes, and the permits that come back with it.
#[derive(Debug, Default)]
pub(crate) struct ReplyTo {
    /// `None`: nobody waits.
    sender: Option<oneshot::Sender<Answer>>,
    _permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl ReplyTo {
    pub(crate) fn caller(sender: oneshot::Sender<Answer>) -> Self {
        Self { sender: Some(sender), _permits: None }
    }

    pub(crate) fn send(self, answer: Answer) {
        if let Some(sender) = self.sender {
            // A caller who has gone away needs no answer.
            drop(sender.send(answer));
        }
    }
}

/// Why a request did not enter.
#[derive(Debug)]
pub(crate) enum Refusal {
    Overloaded(Failure),
    /// The shard's actor is gone; the request comes back.
    NotLed(Box<message::ShardRequest>),
}

#[derive(Clone)]
pub(crate) struct Inbox {
    actor: ActorRef<ShardMessage>,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Inbox {
    pub(crate) fn new(actor: ActorRef<ShardMessage>, bounds: InboxBounds) -> Self {
        let bytes_max = bounds.bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            actor,
            requests: Arc::new(Semaphore::new(bounds.requests_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
        }
    }

    /// Hands the request to the shard. The answer comes when the batch that it joins is committed; a dropped sender means
    /// that the actor failed, and that the request was perhaps applied.
    pub(crate) fn submit(&self, request: Box<message::ShardRequest>) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let bytes = weight(&request);
        let permits = u32::try_from(bytes).ok().and_then(|bytes| {
            let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
            Some((request, Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?))
        });
        let Some(permits) = permits else { return Err(Refusal::Overloaded(overloaded(request.shard))) };
        let (sender, receiver) = oneshot::channel();
        let reply_to = ReplyTo { sender: Some(sender), _permits: Some(permits) };
        let submission = Submission { work: Work::Request(request), bytes, reply_to };
        match self.actor.send_message(ShardMessage::Submit(submission)) {
            Ok(()) => Ok(receiver),
            Err(MessagingErr::SendErr(ShardMessage::Submit(Submission { work: Work::Request(request), .. }))) => {
                Err(Refusal::NotLed(request))
            }
            Err(error) => unreachable!("a message to a typed actor reference comes back or arrives: {error}"),
        }
    }
}

fn overloaded(shard: u32) -> Failure {
    let retry_after_ms = u32::try_from(RETRY_AFTER.as_millis()).unwrap_or(u32::MAX);
    Failure { retry_after_ms, ..Failure::new(FailureReason::Overloaded, format!("shard-{shard}: the inbox is full")) }
}

/// About how many bytes the request takes in memory and in the log.
fn weight(request: &message::ShardRequest) -> usize {
    match &request.request {
        Some(Request::SubmitReadings(submit)) => {
            let readings = submit.readings.as_ref();
            let texts = readings.map_or(0, |readings| readings.texts.iter().map(String::len).sum());
            64 + texts + readings.map_or(0, |readings| readings.len() * READING_BYTES)
        }
        _ => 64 + request.encoded_len(),
    }
}
