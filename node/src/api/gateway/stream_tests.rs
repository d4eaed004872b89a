//! Streams against model shards: each reading once, whatever fails between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{ConnectionNumber, PART_BYTES_MAX, StreamDelivery, StreamId};
use kvarter_api::v1::{
    CommandAcknowledgement, CommandOutcome, DevicesAttached, Reading, ReadingBatch, ReadingOutcome,
    ReadingsAcknowledged, connect_response::Message, reading,
};
use kvarter_cluster::{NodeId, ShardId, Timestamp};
use proptest::prelude::*;

use super::attach::Attaching;
use super::model::{ModelShard, UNREGISTERED};
use super::stream::{BATCH_READINGS_MAX, CallId, Effect, Ended, Stream, StreamIdentity};
use super::ticket::StreamTicket;

const SHARDS: u32 = 3;
const TICKET: StreamTicket = StreamTicket { id: StreamId(42), issued: Timestamp(1) };

fn identity() -> StreamIdentity {
    connected(1)
}

fn connected(connection: u64) -> StreamIdentity {
    StreamIdentity::new(TICKET, "client:test".to_owned(), NodeId(1), ConnectionNumber(connection))
}

/// Aliases 0 to 8 live in shard alias % 3; 6 to 8 are not registered; higher ones are never attached.
fn attachments() -> Vec<Attaching> {
    let attaching = |alias: u32| {
        let suffix = if alias > 5 { UNREGISTERED } else { "" };
        Attaching { alias, place: Ok((ShardId(1 + alias % SHARDS), format!("d/{alias}{suffix}"))), is_first: false }
    };
    (0..9).map(attaching).collect()
}

fn batch(sequence: u64, aliases: &[u32]) -> ReadingBatch {
    let reading = |(index, alias): (usize, &u32)| Reading {
        alias: *alias,
        attribute: 1,
        observed_us: 1_700_000_000_000_000 + i64::from(*alias),
        value: Some(reading::Value::Integer(id(sequence, index))),
    };
    ReadingBatch { sequence, readings: aliases.iter().enumerate().map(reading).collect() }
}

fn id(sequence: u64, index: usize) -> i64 {
    i64::try_from(sequence).expect("a small number") * 1_000 + i64::try_from(index).expect("a small number")
}

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    NotLeader,
    Overloaded,
    /// The answer is lost behind the shard.
    AppliedUnknown,
    /// The request is lost before the shard, or arrives there much later.
    DelayedUnknown,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u32>),
    Answer(prop::sample::Index, Fate),
    /// A request of the past reaches its shard.
    Arrive(prop::sample::Index),
    /// The device of this alias is retired.
    Retire(u32),
    Refresh,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        4 => Just(Fate::Answered),
        1 => Just(Fate::NotLeader),
        1 => Just(Fate::Overloaded),
        1 => Just(Fate::AppliedUnknown),
        1 => Just(Fate::DelayedUnknown),
    ];
    let step = prop_oneof![
        4 => prop::collection::vec(0_u32..11, 1..6).prop_map(Step::Send),
        8 => (any::<prop::sample::Index>(), fate).prop_map(|(call, fate)| Step::Answer(call, fate)),
        1 => any::<prop::sample::Index>().prop_map(Step::Arrive),
        1 => (0_u32..6).prop_map(Step::Retire),
        1 => Just(Step::Refresh),
        2 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..120)
}

/// A client, its gateway, and the shards behind.
struct World {
    stream: Stream,
    /// Counts the connections.
    connection: u64,
    shards: BTreeMap<ShardId, ModelShard>,
    calls: Vec<(CallId, ShardId, Request)>,
    /// Requests that were given up and may still arrive.
    past: VecDeque<(ShardId, Request)>,
    batches: BTreeMap<u64, Vec<u32>>,
    /// Readings that are not acknowledged, as (sequence, index).
    open: BTreeSet<(u64, u32)>,
    acknowledged_here: BTreeSet<(u64, u32)>,
    rejected_without_shard: BTreeSet<(u64, u32)>,
    retired: BTreeSet<u32>,
    attached: Vec<DevicesAttached>,
    sent: Vec<Message>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            stream: Stream::new(identity(), false),
            connection: 1,
            shards: (1..=SHARDS).map(|shard| (ShardId(shard), ModelShard::default())).collect(),
            calls: Vec::new(),
            past: VecDeque::new(),
            batches: BTreeMap::new(),
            open: BTreeSet::new(),
            acknowledged_here: BTreeSet::new(),
            rejected_without_shard: BTreeSet::new(),
            retired: BTreeSet::new(),
            attached: Vec::new(),
            sent: Vec::new(),
        };
        world.stream.attach(attachments()).expect("a good request");
        world.run_effects();
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(aliases) => self.send(aliases),
            Step::Answer(call, fate) if !self.calls.is_empty() => self.answer(call.index(self.calls.len()), fate),
            Step::Arrive(call) if !self.past.is_empty() => {
                if let Some((shard, request)) = self.past.remove(call.index(self.past.len())) {
                    drop(self.shard(shard).answer(request));
                }
            }
            Step::Retire(alias) => {
                self.shard(ShardId(1 + alias % SHARDS)).retire(&format!("d/{alias}"));
                self.retired.insert(alias);
            }
            Step::Refresh => self.stream.refresh(),
            Step::Reconnect => self.reconnect(),
            Step::Answer(..) | Step::Arrive(_) => {}
        }
        self.run_effects();
    }

    fn send(&mut self, aliases: Vec<u32>) {
        let sequence = self.batches.len() as u64 + 1;
        self.open.extend((0..).zip(&aliases).map(|(index, _)| (sequence, index)));
        self.stream.readings(&batch(sequence, &aliases)).expect("a good batch");
        self.batches.insert(sequence, aliases);
    }

    fn answer(&mut self, call: usize, fate: Fate) {
        let (call, shard, request) = self.calls.remove(call);
        let failure = |reason| Err(Failure::new(reason, "injected"));
        let answer = match fate {
            Fate::Answered => self.shard(shard).answer(request),
            Fate::NotLeader => failure(FailureReason::NotLeader),
            Fate::Overloaded => failure(FailureReason::Overloaded),
            Fate::AppliedUnknown => {
                drop(self.shard(shard).answer(request));
                failure(FailureReason::Unknown)
            }
            Fate::DelayedUnknown => {
                self.past.push_back((shard, request));
                failure(FailureReason::Unknown)
            }
        };
        self.stream.answered(call, answer).expect("the stream goes on");
    }

    /// The connection is lost, of which its shards hear sooner or later; on the next one everything that is not acknowledged is
    /// sent again.
    fn reconnect(&mut self) {
        let close = self.stream.close();
        let closes = self.stream.shards().map(|shard| (shard, Request::CloseStream(close.clone())));
        self.past.extend(closes);
        self.connection += 1;
        let lost = self.calls.drain(..).map(|(_, shard, request)| (shard, request));
        self.past.extend(lost);
        self.acknowledged_here.clear();
        self.stream = Stream::new(connected(self.connection), true);
        self.stream.attach(attachments()).expect("a good request");
        let again: BTreeSet<u64> = self.open.iter().map(|(sequence, _)| *sequence).collect();
        for sequence in again {
            self.stream.readings(&batch(sequence, &self.batches[&sequence])).expect("a good batch");
        }
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.stream.next_effect() {
            match effect {
                Effect::Call { call, shard, request, .. } => {
                    assert!(self.calls.iter().all(|(known, ..)| *known != call), "two requests of one lane");
                    self.calls.push((call, shard, request));
                }
                Effect::Send(Message::Acknowledged(acknowledged)) => self.acknowledge(&acknowledged),
                Effect::Send(Message::Attached(attached)) => self.attached.push(attached),
                Effect::Send(other) => self.sent.push(other),
            }
        }
    }

    fn acknowledge(&mut self, acknowledged: &ReadingsAcknowledged) {
        assert_eq!(acknowledged.indexes.len(), acknowledged.outcomes.len());
        assert_eq!(acknowledged.shard.is_some(), acknowledged.totals.is_some());
        let rejected = acknowledged.outcomes().filter(|outcome| *outcome == ReadingOutcome::Rejected).count();
        assert_eq!(acknowledged.rejections.len(), rejected);
        for index in &acknowledged.indexes {
            let place = (acknowledged.sequence, *index);
            assert!(self.acknowledged_here.insert(place), "{place:?} was acknowledged twice");
            self.open.remove(&place);
            if acknowledged.shard.is_none() {
                self.rejected_without_shard.insert(place);
            }
        }
    }

    /// The first shard delivers a command in `epoch`, and names it after that.
    fn deliver(&mut self, device: u32, epoch: u64) {
        let command = message::CommandDelivery { id: format!("e{epoch}"), ..Default::default() };
        let delivery = Some(message::delivery::Delivery::Command(command));
        let delivery = message::Delivery { stream: identity().bytes, device, delivery };
        self.stream.deliver(StreamDelivery { shard: ShardId(1), epoch, delivery });
        self.run_effects();
    }

    /// The commands that the client got, as (alias, id).
    fn commands(&self) -> Vec<(u32, String)> {
        let command = |message: &Message| match message {
            Message::Command(command) => (command.alias, command.id.clone()),
            other => unreachable!("only commands were delivered, not {other:?}"),
        };
        self.sent.iter().map(command).collect()
    }

    /// Nothing fails any more.
    fn settle(&mut self) {
        while !self.calls.is_empty() {
            self.answer(0, Fate::Answered);
            self.run_effects();
        }
    }

    fn shard(&mut self, shard: ShardId) -> &mut ModelShard {
        self.shards.get_mut(&shard).expect("a known shard")
    }
}

proptest! {
    #[test]
    fn every_reading_is_counted_once(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.open.is_empty(), "not acknowledged: {:?}", world.open);
        prop_assert!(world.stream.is_idle() && world.stream.may_read());

        let mut expected = BTreeMap::<ShardId, Vec<(i64, bool)>>::new();
        for (sequence, aliases) in &world.batches {
            for (index, alias) in aliases.iter().enumerate().filter(|(_, alias)| **alias < 6) {
                let (id, is_retired) = (id(*sequence, index), world.retired.contains(alias));
                expected.entry(ShardId(1 + alias % SHARDS)).or_default().push((id, is_retired));
            }
        }
        let mut counted = world.rejected_without_shard.len() as u64;
        for (shard, model) in &world.shards {
            // Of a device that is retired on the way, some are stored and the others rejected.
            let mut expected = expected.remove(shard).unwrap_or_default();
            expected.retain(|(id, is_retired)| !is_retired || model.stored.contains(id));
            let expected: Vec<_> = expected.into_iter().map(|(id, _)| id).collect();
            prop_assert_eq!(&model.stored, &expected, "in {}", shard);
            prop_assert_eq!(model.connection(&identity().bytes), Some(world.connection), "{} is deaf", shard);
            let totals = model.totals(&identity().bytes);
            counted += totals.stored + totals.rejected;
        }
        let sent: usize = world.batches.values().map(Vec::len).sum();
        prop_assert_eq!(counted, sent as u64);
    }
}

#[test]
fn a_shard_without_leader_holds_up_no_other() {
    let mut world = World::new();
    world.send(vec![0, 1, 2]);
    for _ in 0..50 {
        let next = world.calls.iter().position(|(_, shard, _)| *shard != ShardId(1));
        let leaderless = world.calls.iter().position(|(_, shard, _)| *shard == ShardId(1)).expect("it tries again");
        world.answer(leaderless, Fate::NotLeader);
        if let Some(next) = next {
            let next = if next > leaderless { next - 1 } else { next };
            world.answer(next, Fate::Answered);
        }
        world.run_effects();
    }
    assert_eq!(world.open, BTreeSet::from([(1, 0)]));
    world.settle();
    assert!(world.open.is_empty());
}

#[test]
fn batches_that_wait_go_as_one_part() {
    let mut world = World::new();
    world.settle();
    for _ in 0..4 {
        world.send(vec![0, 3]);
        world.run_effects();
    }
    world.answer(0, Fate::Answered);
    world.run_effects();
    let Request::SubmitReadings(submit) = &world.calls[0].2 else { unreachable!("a part follows") };
    assert_eq!((submit.previous, submit.sequence), (1, 4));
    assert_eq!(submit.readings.as_ref().map(message::Readings::len), Some(6));
}

#[test]
fn batches_of_the_longest_texts_go_in_parts_that_a_shard_takes() {
    let mut world = World::new();
    world.settle();
    let text = |bytes: usize| Reading {
        value: Some(reading::Value::Text("x".repeat(bytes))),
        ..batch(1, &[0]).readings[0].clone()
    };
    for (sequence, bytes) in [(1, 1), (2, 100), (3, 100), (4, 300), (5, 256)] {
        let readings = vec![text(bytes); BATCH_READINGS_MAX];
        world.stream.readings(&ReadingBatch { sequence, readings }).expect("a good batch");
    }
    let mut sequences = Vec::new();
    while let Some(effect) = world.stream.next_effect() {
        let Effect::Call { call, request: Request::SubmitReadings(submit), .. } = effect else { continue };
        let readings = submit.readings.expect("readings");
        assert!(readings.payload_bytes() <= PART_BYTES_MAX, "{} bytes", readings.payload_bytes());
        sequences.push(submit.sequence);
        let outcomes = vec![1; readings.len()];
        let answer = message::ReadingsSubmitted { outcomes, ..Default::default() };
        world.stream.answered(call, Ok(Reply::ReadingsSubmitted(answer))).expect("the stream goes on");
    }
    assert_eq!(sequences, [1, 3, 4, 5]);
    assert!(world.stream.is_idle());
}

#[test]
fn a_part_that_was_sent_before_takes_no_further_readings() {
    let mut world = World::new();
    world.settle();
    world.send(vec![3]);
    world.run_effects();
    // The shard does not say what it has, so the stream is opened again while the part waits.
    let (call, shard, submit) = world.calls.remove(0);
    let gap = Failure::new(FailureReason::SequenceGap, "without totals");
    world.stream.answered(call, Err(gap)).expect("the stream goes on");
    world.send(vec![3]);
    world.run_effects();
    assert!(matches!(submit, Request::SubmitReadings(_)) && matches!(world.calls[0].2, Request::OpenStream(_)));
    world.settle();
    assert!(world.open.is_empty());
    assert_eq!(world.shards[&shard].stored, [id(1, 0), id(2, 0)]);
}

#[test]
fn devices_are_attached_in_the_order_of_the_request() {
    let mut world = World::new();
    while !world.calls.is_empty() {
        let last = world.calls.len() - 1;
        world.answer(last, Fate::Answered);
        world.run_effects();
    }
    let [attached] = &world.attached[..] else { unreachable!("one answer for one request") };
    assert_eq!(attached.devices.iter().map(|device| device.alias).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert!(attached.devices.iter().all(|device| device.error.is_empty() == (device.alias < 6)));
    assert!(attached.devices.iter().all(|device| (device.shard == 0) == (device.alias >= 6)));
}

#[test]
fn readings_of_a_refused_device_do_not_reach_the_next_device_of_its_alias() {
    let mut world = World::new();
    world.send(vec![6]);
    // The device is refused while its reading waits; another one, in the same shard, takes the alias over.
    while world.attached.is_empty() {
        world.answer(0, Fate::Answered);
        world.run_effects();
    }
    let other = Attaching { alias: 6, place: Ok((ShardId(1), "d/other".to_owned())), is_first: false };
    world.stream.attach(vec![other]).expect("the alias is free");
    world.run_effects();
    world.settle();
    assert!(world.open.is_empty() && world.shards[&ShardId(1)].stored.is_empty());
    world.send(vec![6]);
    world.run_effects();
    world.settle();
    assert_eq!(world.shards[&ShardId(1)].stored, [id(2, 0)]);
}

#[test]
fn attachments_that_are_refused_count_until_they_are_answered() {
    let mut world = World::new();
    let refused =
        || (100..1_100).map(|alias| Attaching { alias, place: Err("no name".to_owned()), is_first: false }).collect();
    let requests = (0..).take_while(|_| {
        world.stream.attach(refused()).expect("a good request");
        world.stream.may_read()
    });
    assert!(requests.take(100).count() < 10, "the first request waits for its shards");
    world.settle();
    assert!(world.stream.may_read() && world.stream.is_idle());
}

#[test]
fn what_the_protocol_forbids_ends_the_stream() {
    let misuse = |result: Result<(), Ended>| matches!(result, Err(Ended::Misuse { .. }));
    let fresh = || World::new().stream;
    assert!(misuse(fresh().readings(&batch(0, &[0]))));
    assert!(misuse(fresh().readings(&batch(2, &[0]))));
    assert!(misuse(fresh().readings(&batch(1, &[]))));
    assert!(misuse(fresh().readings(&batch(1, &vec![0; BATCH_READINGS_MAX + 1]))));
    assert!(misuse(fresh().attach(attachments())));
    let alias = Attaching { alias: 1_048_576, place: Err(String::new()), is_first: false };
    assert!(misuse(fresh().attach(vec![alias])));
    let said = |outcome: CommandOutcome, detail: &str| CommandAcknowledgement {
        id: "a".to_owned(),
        outcome: outcome.into(),
        detail: detail.to_owned(),
        ..Default::default()
    };
    assert!(misuse(fresh().acknowledgements(vec![said(CommandOutcome::Unspecified, "")])));
    assert!(misuse(fresh().acknowledgements(vec![said(CommandOutcome::Failed, &"x".repeat(257))])));
    let mut resumed = Stream::new(identity(), true);
    resumed.readings(&batch(7, &[0])).expect("batches before are acknowledged");
    assert!(misuse(resumed.readings(&batch(7, &[0]))));
}

#[test]
fn a_shard_that_forgot_the_stream_ends_it() {
    let mut world = World::new();
    let (call, ..) = world.calls.remove(0);
    let answer = Err(Failure::new(FailureReason::StreamExpired, "expired"));
    assert!(matches!(world.stream.answered(call, answer), Err(Ended::Refused(_))));
    let (call, ..) = world.calls.remove(0);
    let reply = Ok(Reply::Done(message::Done::default()));
    assert!(matches!(world.stream.answered(call, reply), Err(Ended::UnexpectedReply { .. })));
}

/// Whether each opening that the stream asks for next says that its shard never heard of the stream.
fn openings(stream: &mut Stream) -> Vec<(ShardId, bool)> {
    let effects = std::iter::from_fn(|| stream.next_effect());
    let opening = |effect| match effect {
        Effect::Call { shard, request: Request::OpenStream(open), .. } => Some((shard, open.unused)),
        _ => None,
    };
    effects.filter_map(opening).collect()
}

#[test]
fn a_shard_is_told_that_the_stream_is_new_there_only_while_that_is_certain() {
    let attaching = |alias: u32, is_first: bool| Attaching {
        alias,
        place: Ok((ShardId(1 + alias % SHARDS), format!("d/{alias}"))),
        is_first,
    };
    let mut stream = Stream::new(identity(), true);
    stream.attach(vec![attaching(0, false), attaching(1, true), attaching(3, true)]).expect("a good request");
    assert_eq!(openings(&mut stream), [(ShardId(1), false), (ShardId(2), true)]);
    let call = CallId::Lane(super::lane::LaneId(1));
    stream.answered(call, Err(Failure::new(FailureReason::Unknown, "lost"))).expect("the stream goes on");
    assert_eq!(openings(&mut stream), [(ShardId(2), true)], "nothing else was asked meanwhile");
    stream.answered(call, Ok(Reply::StreamOpened(Default::default()))).expect("the stream goes on");
    let attached = message::DevicesAttached { devices: vec![message::AttachedDevice::default()] };
    stream.answered(call, Ok(Reply::DevicesAttached(attached))).expect("the stream goes on");
    stream.refresh();
    assert_eq!(openings(&mut stream), [(ShardId(2), false)], "by now the shard has something of it");
    // A device of an earlier connection has no shard that this node knows: any further shard may be the one.
    let lost = Attaching { alias: 9, place: Err("there is no district".to_owned()), is_first: false };
    stream.attach(vec![lost, attaching(2, true)]).expect("a good request");
    assert_eq!(openings(&mut stream), [(ShardId(3), false)]);
}

#[test]
fn a_connected_stream_is_opened_again_between_its_parts() {
    let mut world = World::new();
    world.settle();
    world.send(vec![0, 1]);
    world.run_effects();
    world.stream.refresh();
    world.run_effects();
    let opened = |world: &World| -> Vec<ShardId> {
        let is_open = |request: &Request| matches!(request, Request::OpenStream(_));
        world.calls.iter().filter(|(.., request)| is_open(request)).map(|(_, shard, _)| *shard).collect()
    };
    assert_eq!(opened(&world), [ShardId(3)], "the others are busy");
    world.send(vec![0]);
    world.run_effects();
    let busy = world.calls.iter().position(|(_, shard, _)| *shard == ShardId(1)).expect("a part is on its way");
    world.answer(busy, Fate::Answered);
    world.run_effects();
    assert_eq!(opened(&world), [ShardId(3), ShardId(1)]);
    world.settle();
    assert!(world.open.is_empty() && world.stream.is_idle());
    assert_eq!(world.shards[&ShardId(1)].stored, [id(1, 0), id(2, 0)]);
}

#[test]
fn retries_pause_longer_and_no_less_than_the_shard_asks() {
    let mut world = World::new();
    let (call, ..) = world.calls[0];
    let mut pauses = Vec::new();
    for retry_after_ms in [0, 0, 0, 700] {
        let failure = Failure { retry_after_ms, ..Failure::new(FailureReason::Overloaded, "full") };
        world.stream.answered(call, Err(failure)).expect("the stream goes on");
        let Some(Effect::Call { pause, .. }) = world.stream.next_effect() else { unreachable!("it tries again") };
        pauses.push(pause);
    }
    assert_eq!(pauses, [25, 50, 100, 700].map(Duration::from_millis));
}

#[test]
fn deliveries_are_fenced() {
    let mut world = World::new();
    world.settle();
    let device = world.shards[&ShardId(1)].device("d/3");
    world.deliver(device, 5);
    world.deliver(device, 4);
    world.deliver(99, 6);
    assert_eq!(world.commands(), [(3, "e5".to_owned())]);
}

#[test]
fn what_a_resumed_streams_devices_are_delivered_before_they_are_attached_waits_for_that() {
    let mut world = World::new();
    world.settle();
    let device = |alias: u32| world.shards[&ShardId(1)].device(&format!("d/{alias}"));
    let (first, later) = (device(0), device(3));
    // The shard delivers as soon as the stream is open; the client attaches its devices in two requests.
    world.stream = Stream::new(identity(), true);
    world.calls.clear();
    let [one, other] =
        [0, 3].map(|alias| Attaching { alias, place: Ok((ShardId(1), format!("d/{alias}"))), is_first: false });
    world.stream.attach(vec![one]).expect("a good request");
    world.run_effects();
    world.answer(0, Fate::Answered);
    world.run_effects();
    world.deliver(first, 5);
    world.deliver(later, 5);
    assert!(world.commands().is_empty());
    world.settle();
    assert_eq!(world.commands(), [(0, "e5".to_owned())]);
    world.stream.attach(vec![other]).expect("a good request");
    world.run_effects();
    world.settle();
    assert_eq!(world.commands(), [(0, "e5".to_owned()), (3, "e5".to_owned())]);
}

#[test]
fn what_came_too_early_is_bounded_and_fenced_when_its_device_is_attached() {
    let mut world = World::new();
    let open = world.calls.iter().position(|(_, shard, _)| *shard == ShardId(1)).expect("the lane opens");
    world.answer(open, Fate::Answered);
    world.run_effects();
    // Devices 0 and 1 of the shard will be d/0 and d/3.
    world.deliver(0, 4);
    world.deliver(1, 5);
    for _ in 0..300 {
        world.deliver(99, 5);
    }
    world.deliver(0, 6);
    world.settle();
    assert_eq!(world.commands(), [(0, "e6".to_owned())]);
}

#[test]
fn acknowledgements_of_commands_wait_for_their_devices_and_are_repeated() {
    let mut world = World::new();
    let said = |alias, id: &str| CommandAcknowledgement {
        alias,
        id: id.to_owned(),
        outcome: CommandOutcome::Succeeded.into(),
        detail: String::new(),
    };
    world.stream.acknowledgements(vec![said(3, "a"), said(6, "refused"), said(77, "unknown")]).expect("good");
    world.run_effects();
    assert!(!world.calls.iter().any(|(call, ..)| matches!(call, CallId::Outbox(_))));
    while !world.calls.is_empty() {
        let is_first_try = world.shards[&ShardId(1)].acknowledged.is_empty();
        let is_outbox = matches!(world.calls[0].0, CallId::Outbox(_));
        world.answer(0, if is_outbox && is_first_try { Fate::AppliedUnknown } else { Fate::Answered });
        world.run_effects();
    }
    let acknowledged = &world.shards[&ShardId(1)].acknowledged;
    let device = world.shards[&ShardId(1)].device("d/3");
    let expected = message::Acknowledgement { device, id: "a".to_owned(), outcome: 1, detail: String::new() };
    assert_eq!(acknowledged[..], [expected.clone(), expected]);
    assert!(world.stream.is_idle());
}

#[test]
fn the_highest_sequence_of_all_is_refused_since_none_would_be_next() {
    let mut stream = Stream::new(identity(), true);
    let last = ReadingBatch { sequence: u64::MAX, ..batch(1, &[0]) };
    assert!(matches!(stream.readings(&last), Err(Ended::Misuse { field: "readings.sequence", .. })));
}
