//! What requests come to, as sentences. The properties of whole batches are in [`batches`].

use kvarter_cluster::StateMachine;

use super::*;
use crate::message::{Failure, FailureReason};
use crate::reading::ReadingMark;
use crate::value::ValueRef;
use crate::{AttributeNumber, StreamId};

mod batches;
mod commands;
mod devices;
mod readings;
mod reads;
mod streams;

/// 2026-01-01 UTC.
const NOW_US: i64 = 1_767_225_600 * 1_000_000;

/// One shard without a cluster: what is decided is applied at once.
struct Shard {
    state: ShardState,
    catalog: Catalog,
    limits: Limits,
    now: Timestamp,
    index: LogIndex,
    /// The last entry.
    facts: message::Facts,
}

impl Shard {
    fn new() -> Self {
        Self {
            state: ShardState::default(),
            catalog: Catalog::built_in(),
            limits: Limits::default(),
            now: Timestamp(NOW_US),
            index: LogIndex(0),
            facts: message::Facts::default(),
        }
    }

    /// A shard with lamps `a/lamp-0` to `a/lamp-{n-1}`, a sensor `a/flow` behind them, and the open stream 1.
    fn with_lamps(lamps: u32) -> Self {
        let mut shard = Self::new();
        let lamps = (0..lamps).map(|number| device(&format!("a/lamp-{number}"), "luminaire"));
        let devices = lamps.chain([device("a/flow", "traffic_flow_sensor")]).collect();
        shard.ask(Request::RegisterDevices(message::RegisterDevices { devices }));
        shard.ask(open(1, "gateway", 1));
        shard
    }

    fn commit<T>(&mut self, decide: impl FnOnce(&mut Decider<'_>) -> T) -> T {
        let mut decider = Decider::new(&self.state, &self.catalog, &self.limits, self.now);
        let result = decide(&mut decider);
        let is_empty = decider.is_empty();
        self.facts = decider.finish();
        if !is_empty {
            self.index.0 += 1;
            let payload = self.facts.encode_to_vec().into();
            let entry = ShardState::decode(&payload).unwrap();
            self.state.apply(self.index, &entry);
        }
        result
    }

    fn ask(&mut self, request: Request) -> Reply {
        let request = message::ShardRequest { request: Some(request), ..Default::default() };
        let decision = self.commit(|decider| decider.decide(&request).unwrap());
        decision.reply_at(self.index)
    }

    fn refusal(&mut self, request: Request) -> Failure {
        let Reply::Failure(failure) = self.ask(request) else { panic!("the request was not refused") };
        assert!(self.facts.facts.is_empty(), "a refused request changed something");
        failure
    }

    /// Submits readings of stream 1 behind those before.
    fn submit(&mut self, readings: &[(u32, u16, i64, ValueRef<'_>)]) -> message::ReadingsSubmitted {
        let last = self.state.stream(StreamId(1)).unwrap().totals.sequence;
        let reply = self.ask(submit(1, last, last + 1, readings));
        let Reply::ReadingsSubmitted(submitted) = reply else { panic!("{reply:?}") };
        submitted
    }

    fn pages(&self) -> Vec<(kvarter_cluster::PageId, bytes::Bytes)> {
        pages(&self.state)
    }
}

fn pages(state: &ShardState) -> Vec<(kvarter_cluster::PageId, bytes::Bytes)> {
    state
        .pages()
        .into_iter()
        .map(|page| {
            let mut bytes = Vec::new();
            page.encode(&mut bytes);
            (page.id, bytes.into())
        })
        .collect()
}

fn device(name: &str, kind: &str) -> message::DeviceRegistration {
    message::DeviceRegistration { name: name.into(), kind: kind.into(), ..Default::default() }
}

fn open(stream: u128, client: &str, node: u64) -> Request {
    let stream = StreamId(stream).to_message();
    Request::OpenStream(message::OpenStream {
        stream,
        client: client.into(),
        node,
        issued_us: NOW_US,
        connection: 0,
        unused: false,
    })
}

fn attach(stream: u128, names: &[&str]) -> Request {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Request::AttachDevices(message::AttachDevices { stream: StreamId(stream).to_message(), names })
}

fn submit(stream: u128, previous: u64, sequence: u64, rows: &[(u32, u16, i64, ValueRef<'_>)]) -> Request {
    let mut readings = message::Readings { base_us: NOW_US, ..Default::default() };
    for (device, attribute, offset_us, value) in rows {
        readings.push(DeviceNumber(*device), AttributeNumber(*attribute), NOW_US + offset_us, *value);
    }
    let stream = StreamId(stream).to_message();
    Request::SubmitReadings(message::SubmitReadings { stream, previous, sequence, readings: Some(readings) })
}

fn set_level(name: &str, id: &str, level: f64, timeout_ms: u32) -> Request {
    let value = Some(ValueRef::Number(level).to_message());
    Request::IssueCommand(message::IssueCommand {
        name: name.into(),
        id: id.into(),
        action: "set_level".into(),
        arguments: vec![message::Argument { name: "level".into(), value }],
        timeout_ms,
        priority: 0,
    })
}

fn cancel(name: &str, id: &str) -> Request {
    Request::CancelCommand(message::CancelCommand { name: name.into(), id: id.into() })
}

fn patch(name: &str, attribute: &str, value: ValueRef<'_>, if_version: u64) -> Request {
    let set = vec![message::NamedValue { name: attribute.into(), value: Some(value.to_message()) }];
    Request::PatchDesired(message::PatchDesired { name: name.into(), set, clear: Vec::new(), if_version })
}

fn acknowledge(device: u32, id: &str, outcome: u32) -> Request {
    let acknowledgement = message::Acknowledgement { device, id: id.into(), outcome, detail: "told".into() };
    Request::AcknowledgeCommands(message::AcknowledgeCommands { acknowledgements: vec![acknowledgement] })
}
