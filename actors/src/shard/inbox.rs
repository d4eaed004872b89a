//! The way into a shard: bounded by permits, since an actor's mailbox is not.
//!
//! A permit (`shard/admission.rs`) is taken before the request enters the mailbox, and comes back with its answer. Without
//! one the caller is refused at once; nobody waits in line for the line.

use std::sync::Arc;

use prost::Message;
use ractor::{ActorRef, MessagingErr};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Criticality;
use crate::message::{self, shard_request::Request};
use crate::shard::actor::ShardMessage;
use crate::shard::admission::{Admission, Bounds, Permit};
use crate::shard::state::{Answer, Submission, Work};

/// Encoded size of a reading in columns, about.
const READING_BYTES: usize = 24;

/// Where an answer goes, and the permit that comes back with it.
#[derive(Debug, Default)]
pub(crate) struct ReplyTo {
    /// `None`: nobody waits.
    sender: Option<oneshot::Sender<Answer>>,
    _permit: Option<Permit>,
}

impl ReplyTo {
    pub(crate) fn caller(sender: oneshot::Sender<Answer>) -> Self {
        Self { sender: Some(sender), _permit: None }
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
    /// Too much waits for a request of this criticality.
    Overloaded(Criticality),
    /// The shard's actor is gone; the request comes back.
    NotLed(Box<message::ShardRequest>),
}

#[derive(Clone)]
pub(crate) struct Inbox {
    actor: ActorRef<ShardMessage>,
    admission: Arc<Admission>,
}

impl Inbox {
    pub(crate) fn new(actor: ActorRef<ShardMessage>, bounds: Bounds) -> Self {
        Self { actor, admission: Arc::new(Admission::new(bounds)) }
    }

    /// Requests that have no answer yet.
    pub(crate) fn requests_waiting(&self) -> usize {
        self.admission.waiting(Instant::now()).requests
    }

    /// Hands the request to the shard. The answer comes when the batch that it joins is committed; a dropped sender means
    /// that the actor failed, and that the request was perhaps applied.
    pub(crate) fn submit(&self, request: Box<message::ShardRequest>) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (bytes, criticality) = (weight(&request), Criticality::of(&request));
        let permit =
            self.admission.admit(criticality, bytes, Instant::now()).ok_or(Refusal::Overloaded(criticality))?;
        let (sender, receiver) = oneshot::channel();
        let reply_to = ReplyTo { sender: Some(sender), _permit: Some(permit) };
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
