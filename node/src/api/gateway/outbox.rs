//! The outbox: acknowledgements of commands on their way to one shard. Pure; at most one request is on its way.

use std::collections::VecDeque;
use std::time::Duration;

use kvarter_actors::message::{
    AcknowledgeCommands, Acknowledgement, Failure, shard_reply::Reply, shard_request::Request,
};

use super::aliases::{Aliases, DEVICE_NONE};
use super::lane::{backoff, is_passing};

/// Acknowledgements in one request.
const REQUEST_ACKNOWLEDGEMENTS_MAX: usize = 1_000;

/// Acknowledgements of commands for one shard; bounded by the stream that fills it.
#[derive(Default)]
pub(crate) struct Outbox {
    /// By alias: the device may still be being attached.
    waiting: VecDeque<(u32, Acknowledgement)>,
    in_flight: Vec<Acknowledgement>,
    failures: u32,
}

impl Outbox {
    /// Adds what the device under `alias` says; its number is filled in when it is sent.
    pub(crate) fn push(&mut self, alias: u32, acknowledgement: Acknowledgement) {
        self.waiting.push_back((alias, acknowledgement));
    }

    pub(crate) fn acknowledgements_count(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// The next request when none is on its way. Call only while no device of the shard waits to be attached: what then
    /// is of no attached device is dropped, since no shard would know whose it is.
    pub(crate) fn advance(&mut self, aliases: &Aliases) -> Option<Request> {
        if !self.in_flight.is_empty() {
            return None;
        }
        while self.in_flight.len() < REQUEST_ACKNOWLEDGEMENTS_MAX {
            let Some((alias, acknowledgement)) = self.waiting.pop_front() else { break };
            match aliases.device(alias) {
                DEVICE_NONE => {}
                device => self.in_flight.push(Acknowledgement { device, ..acknowledgement }),
            }
        }
        (!self.in_flight.is_empty()).then(|| self.request())
    }

    /// Takes the answer; the same request again, after a pause, when it may succeed later.
    ///
    /// An answer that refuses the acknowledgements for good ends them: the command has ended or is forgotten.
    pub(crate) fn answered(&mut self, answer: Result<Reply, Failure>) -> Option<(Request, Duration)> {
        match answer {
            Err(failure) if is_passing(failure.reason()) => {
                self.failures = self.failures.saturating_add(1);
                let pause = backoff(self.failures).max(Duration::from_millis(u64::from(failure.retry_after_ms)));
                Some((self.request(), pause))
            }
            Ok(_) | Err(_) => {
                self.failures = 0;
                self.in_flight.clear();
                None
            }
        }
    }

    fn request(&self) -> Request {
        Request::AcknowledgeCommands(AcknowledgeCommands { acknowledgements: self.in_flight.clone() })
    }
}
