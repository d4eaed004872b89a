//! Deciding: how messages become facts. Pure: no clock, no IO.
//!
//! A [`Decider`] takes the requests of one batch in order and holds what they come to. Each is decided on the applied
//! state plus the facts already decided, so that one batch of n requests equals n batches of one. To that end facts are
//! applied at once to a clone of the state (copy-on-write pages make it cheap), which is thrown away with the decider.
//! Readings alone are not: they are too many. What they change is kept beside it, in [`readings`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{LogIndex, NodeId, Timestamp};
use prost::Message;

use crate::apply::{FACTS_FORMAT, ordinals};
use crate::kind::Kind;
use crate::message::{self, fact, shard_reply::Reply, shard_request::Request};
use crate::state::commands::Moment;
use crate::state::header::KindIndex;
use crate::{Catalog, DeviceNumber, ShardState};

mod commands;
mod desired;
mod devices;
mod guard;
#[cfg(test)]
pub(crate) mod poison;
mod readings;
mod services;
mod streams;
mod sweep;

pub use guard::is_panic_told;
pub(crate) use guard::{Care, guarded};
pub(crate) use readings::defective_devices;
pub use services::{STEP_COMMANDS_MAX, ServiceCommand, ServiceStep, StepDecision, StepError};

/// Trace contexts that an entry carries.
const TRACEPARENTS_MAX: usize = 8;

/// Index of facts that are not committed yet.
const THIS_ENTRY: LogIndex = LogIndex(0);

/// Bounds that requests are held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Devices of a district that are not retired (20,000).
    pub district_devices_max: u32,
    /// Streams that a shard knows (4,096).
    pub streams_max: usize,
    /// A stream that was not used for so long expires (1 day).
    pub stream_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { district_devices_max: 20_000, streams_max: 4_096, stream_age_max: Duration::from_secs(24 * 3600) }
    }
}

/// What becomes live or ends once the entry is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The device has work for its actor: a command to deliver or desired attributes to bring about.
    Activate(DeviceNumber),
    /// A command ended: nobody delivers it any more.
    CommandEnded { device: DeviceNumber, id: String },
    /// The device is gone.
    Retired(DeviceNumber),
}

/// The answer to a request, to be released when the batch is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    reply: Reply,
    pub effects: Vec<Effect>,
}

impl Decision {
    /// The reply as it was decided.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// The reply once the batch is the entry at `index`; any index when the batch came to no facts.
    pub fn reply_at(self, index: LogIndex) -> Reply {
        let mut reply = self.reply;
        let position = match &mut reply {
            Reply::Done(done) => done.position.as_mut(),
            Reply::DesiredPatched(patched) => patched.position.as_mut(),
            Reply::CommandRead(read) => read.command.as_mut().and_then(|command| command.position.as_mut()),
            Reply::ReadingsSubmitted(submitted) => {
                submitted.index = index.0;
                None
            }
            _ => None,
        };
        if let Some(position) = position.filter(|position| position.index == THIS_ENTRY.0) {
            position.index = index.0;
        }
        reply
    }
}

/// Decides one batch.
pub struct Decider<'a> {
    catalog: &'a Catalog,
    limits: &'a Limits,
    now: Timestamp,
    /// The applied state with the facts of this batch, but for readings.
    scratch: ShardState,
    /// Kinds by their index in the state, looked up once.
    kinds: Vec<Option<Arc<Kind>>>,
    /// What this batch's readings changed, by device.
    touched: HashMap<DeviceNumber, readings::Touched>,
    facts: Vec<message::Fact>,
    /// Ordinal of the next fact.
    ordinal: u32,
    payload_bytes: usize,
    traceparents: Vec<String>,
    effects: Vec<Effect>,
}

impl<'a> Decider<'a> {
    /// A decider on an applied state. Shard time is `now`, or that of the state when that is later.
    pub fn new(state: &ShardState, catalog: &'a Catalog, limits: &'a Limits, now: Timestamp) -> Self {
        let mut scratch = state.clone();
        let now = now.max(state.time());
        scratch.header_mut(THIS_ENTRY).time_us = now.0;
        Self {
            catalog,
            limits,
            now,
            scratch,
            kinds: Vec::new(),
            touched: HashMap::new(),
            facts: Vec::new(),
            ordinal: 0,
            payload_bytes: 0,
            traceparents: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Decides the next request. `None`: it is a read, which [`crate::Reader`] answers, or asks nothing.
    pub fn decide(&mut self, request: &message::ShardRequest) -> Option<Decision> {
        self.decide_with(Care::Fast, request)
    }

    /// The same with care, for a request that made [`Self::decide`] panic, on a decider that has not met it.
    pub(crate) fn decide_with(&mut self, care: Care, request: &message::ShardRequest) -> Option<Decision> {
        let facts_before = self.facts.len();
        let reply = match request.request.as_ref()? {
            Request::RegisterDevices(request) => self.register_devices(request),
            Request::RetireDevice(request) => self.retire_device(request),
            Request::PatchDesired(request) => self.patch_desired(request),
            Request::OpenStream(request) => self.open_stream(request),
            Request::AttachDevices(request) => self.attach_devices(request),
            Request::SubmitReadings(request) => self.submit_readings(request, care),
            Request::CloseStream(request) => self.close_stream(request),
            Request::IssueCommand(command) => self.issue_command(command, &request.traceparent),
            Request::CancelCommand(request) => self.cancel_command(request),
            Request::AcknowledgeCommands(request) => self.acknowledge_commands(request),
            Request::SetServiceMode(request) => self.set_service_mode(request),
            Request::CountDevices(request) => self.count_devices(request),
            Request::ReadTwin(_)
            | Request::ListTwins(_)
            | Request::ReadTwins(_)
            | Request::ReadCommand(_)
            | Request::ReadServices(_)
            | Request::ReadStream(_)
            | Request::ReadFeed(_) => return None,
        };
        if self.facts.len() > facts_before {
            self.trace(&request.traceparent);
        }
        Some(Decision { reply: reply.unwrap_or_else(Reply::Failure), effects: std::mem::take(&mut self.effects) })
    }

    /// Begins a leadership; the first of its facts.
    pub fn begin_leadership(&mut self, node: NodeId) {
        self.push(fact::Fact::LeadershipBegan(message::LeadershipBegan { node: node.0 }));
    }

    /// Whether the batch came to no facts.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// About how long the entry will be, bytes.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The batch's entry.
    pub fn finish(self) -> message::Facts {
        message::Facts { format: FACTS_FORMAT, time_us: self.now.0, facts: self.facts, traceparents: self.traceparents }
    }

    /// Notes the trace that a fact of the entry belongs to, while there is room.
    fn trace(&mut self, traceparent: &str) {
        let has_room = self.traceparents.len() < TRACEPARENTS_MAX;
        if has_room && !traceparent.is_empty() && !self.traceparents.iter().any(|known| known == traceparent) {
            self.payload_bytes += traceparent.len() + 2;
            self.traceparents.push(traceparent.to_owned());
        }
    }

    /// Takes a fact into the entry and the scratch state; returns where it will stand.
    fn push(&mut self, fact: fact::Fact) -> message::LogPosition {
        let fact = message::Fact { fact: Some(fact) };
        self.payload_bytes += fact.encoded_len() + 4;
        self.scratch.apply_fact(self.moment(), &fact);
        #[cfg(test)]
        poison::meet_fact(&fact);
        self.append(fact)
    }

    /// Takes a fact into the entry alone.
    fn append(&mut self, fact: message::Fact) -> message::LogPosition {
        let position = message::LogPosition { index: THIS_ENTRY.0, ordinal: self.ordinal };
        self.ordinal += ordinals(&fact);
        self.facts.push(fact);
        position
    }

    fn moment(&self) -> Moment {
        Moment { index: THIS_ENTRY, ordinal: self.ordinal, time_us: self.now.0 }
    }

    /// The kind of a device that is not retired; `None` as well when the catalog lacks it.
    fn kind_of(&mut self, number: DeviceNumber) -> Option<Arc<Kind>> {
        let index = self.scratch.device(number)?.twin.identity.kind;
        self.load_kind(index);
        self.kinds.get(usize::from(index.0))?.clone()
    }

    /// Looks the kind up in the catalog once.
    fn load_kind(&mut self, index: KindIndex) {
        while self.kinds.len() <= usize::from(index.0) {
            let next = KindIndex(u16::try_from(self.kinds.len()).expect("kinds are numbered by 16 bits"));
            self.kinds.push(self.catalog.kind(self.scratch.kind_name(next)).cloned());
        }
    }
}

#[cfg(test)]
mod tests;
