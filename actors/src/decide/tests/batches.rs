//! Properties over random histories: one batch of n requests equals n batches of one; a restored state goes on like the
//! one that it was taken from; receipts never go back; counters tell the truth.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use super::*;
use crate::{CommandId, ServiceCommand, ServiceStep};

const LAMPS: u32 = 4;

/// What happens, before it is known what the shard will be like then.
#[derive(Clone, Debug)]
enum Op {
    Register {
        name: u8,
        kind: &'static str,
        latitude_e7: i32,
    },
    Retire {
        name: u8,
    },
    Open {
        stream: u8,
        client: &'static str,
        node: u64,
        connection: u64,
    },
    Attach {
        stream: u8,
        names: Vec<u8>,
    },
    /// `slip`: 0 the next part, else one that comes too early or again.
    Submit {
        stream: u8,
        slip: u8,
        rows: Vec<Row>,
    },
    Close {
        stream: u8,
        node: u64,
        connection: u64,
    },
    Patch {
        name: u8,
        level: i64,
        if_version: Option<u64>,
    },
    Issue {
        name: u8,
        id: u8,
        level: f64,
        timeout_ms: u32,
    },
    Acknowledge {
        device: u32,
        id: u8,
        outcome: u32,
    },
    Cancel {
        name: u8,
        id: u8,
    },
    Deliver {
        device: u32,
        id: u8,
    },
    Sweep {
        facts_max: usize,
    },
    Step {
        is_stale: bool,
        device: u32,
        cursor: u64,
    },
    Lead,
}

#[derive(Clone, Debug)]
struct Row {
    device: u32,
    attribute: u16,
    offset_us: i64,
    value: RowValue,
}

#[derive(Clone, Debug)]
enum RowValue {
    Number(f64),
    Text(&'static str),
    Boolean(bool),
}

/// An op made concrete.
#[derive(Clone)]
enum Act {
    Ask(Box<message::ShardRequest>),
    Deliver(DeviceNumber, String),
    Sweep(usize),
    Step(ServiceStep),
    Lead,
}

fn row() -> impl Strategy<Value = Row> {
    let value = prop_oneof![
        5 => select(&[0.0, -0.0, 1.0, 2.0, 500.0, f64::NAN][..]).prop_map(RowValue::Number),
        2 => select(&["on", "low", "sideways"][..]).prop_map(RowValue::Text),
        1 => any::<bool>().prop_map(RowValue::Boolean),
    ];
    let offset_us = prop_oneof![9 => -6i64..6, 1 => Just(i64::from(i32::MAX))];
    (0..LAMPS + 3, 0u16..5, offset_us, value).prop_map(|(device, attribute, offset_us, value)| Row {
        device,
        attribute,
        offset_us,
        value,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let kind = select(&["luminaire", "luminaire", "luminaire", "weather", "toaster"][..]);
    let client = select(&["alice", "alice", "alice", "bob"][..]);
    let slip = prop_oneof![4 => Just(0u8), 1 => 1u8..4];
    prop_oneof![
        2 => (0u8..8, kind, 0..2).prop_map(|(name, kind, latitude_e7)| Op::Register { name, kind, latitude_e7 }),
        1 => (0u8..8).prop_map(|name| Op::Retire { name }),
        3 => (0u8..3, client, 1u64..3, 0u64..5)
            .prop_map(|(stream, client, node, connection)| Op::Open { stream, client, node, connection }),
        2 => (0u8..3, vec(0u8..8, 0..4)).prop_map(|(stream, names)| Op::Attach { stream, names }),
        8 => (0u8..3, slip, vec(row(), 0..12)).prop_map(|(stream, slip, rows)| Op::Submit { stream, slip, rows }),
        1 => (0u8..3, 1u64..3, 0u64..5)
            .prop_map(|(stream, node, connection)| Op::Close { stream, node, connection }),
        2 => (0u8..8, -1i64..5, proptest::option::of(0u64..9))
            .prop_map(|(name, level, if_version)| Op::Patch { name, level, if_version }),
        4 => (0u8..8, 0u8..30, -1.0..101.0, select(&[0, 1_000, 2_000, 9][..]))
            .prop_map(|(name, id, level, timeout_ms)| Op::Issue { name, id, level, timeout_ms }),
        3 => (0..LAMPS + 2, 0u8..30, 0u32..4).prop_map(|(device, id, outcome)| Op::Acknowledge { device, id, outcome }),
        1 => (0u8..8, 0u8..30).prop_map(|(name, id)| Op::Cancel { name, id }),
        2 => (0..LAMPS + 2, 0u8..30).prop_map(|(device, id)| Op::Deliver { device, id }),
        2 => (0usize..6).prop_map(|facts_max| Op::Sweep { facts_max }),
        2 => (any::<bool>(), 0..LAMPS + 2, 0u64..9)
            .prop_map(|(is_stale, device, cursor)| Op::Step { is_stale, device, cursor }),
        1 => Just(Op::Lead),
    ]
}

fn name(number: u8) -> String {
    format!("{}/lamp-{number}", if number < 5 { "a" } else { "b" })
}

/// The op as a gateway, a caller or a service would ask it that sees this state.
fn act(op: &Op, state: &ShardState) -> Act {
    let request = match op {
        Op::Register { name: number, kind, latitude_e7 } => {
            let location = Some(message::Point { latitude_e7: *latitude_e7, longitude_e7: 0 });
            let devices = vec![message::DeviceRegistration { location, ..device(&name(*number), kind) }];
            Request::RegisterDevices(message::RegisterDevices { devices })
        }
        Op::Retire { name: number } => Request::RetireDevice(message::RetireDevice { name: name(*number) }),
        Op::Open { stream, client, node, connection } => {
            let Request::OpenStream(open) = open(u128::from(*stream), client, *node) else {
                unreachable!("an opening")
            };
            Request::OpenStream(message::OpenStream { connection: *connection, ..open })
        }
        Op::Attach { stream, names } => {
            let names: Vec<_> = names.iter().map(|number| name(*number)).collect();
            attach(u128::from(*stream), &names.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Op::Submit { stream, slip, rows } => {
            let stream = u128::from(*stream);
            let last = state.stream(StreamId(stream)).map_or(0, |stream| stream.totals.sequence);
            let previous = match slip {
                1 => last + 2,
                2 => last.saturating_sub(1),
                _ => last,
            };
            let rows: Vec<_> = rows.iter().map(row_ref).collect();
            submit(stream, previous, previous + u64::from(*slip < 3), &rows)
        }
        Op::Close { stream, node, connection } => {
            let stream = StreamId(u128::from(*stream)).to_message();
            Request::CloseStream(message::CloseStream { stream, node: *node, connection: *connection })
        }
        Op::Patch { name: number, level, if_version } => {
            let current = state.device_named(&name(*number)).map_or(0, |twin| twin.version());
            patch(&name(*number), "dimmingLevel", ValueRef::Integer(*level), if_version.unwrap_or(current))
        }
        Op::Issue { name: number, id, level, timeout_ms } => {
            set_level(&name(*number), &format!("c{id}"), *level, *timeout_ms)
        }
        Op::Acknowledge { device, id, outcome } => acknowledge(*device, &format!("c{id}"), *outcome),
        Op::Cancel { name: number, id } => cancel(&name(*number), &format!("c{id}")),
        Op::Deliver { device, id } => return Act::Deliver(DeviceNumber(*device), format!("c{id}")),
        Op::Sweep { facts_max } => return Act::Sweep(*facts_max),
        Op::Step { is_stale, device, cursor } => return Act::Step(service_step(state, *is_stale, *device, *cursor)),
        Op::Lead => return Act::Lead,
    };
    let request = message::ShardRequest { traceparent: "t".into(), request: Some(request), ..Default::default() };
    Act::Ask(Box::new(request))
}

fn row_ref(row: &Row) -> (u32, u16, i64, ValueRef<'_>) {
    let value = match row.value {
        RowValue::Number(number) => ValueRef::Number(number),
        RowValue::Text(text) => ValueRef::Text(text),
        RowValue::Boolean(boolean) => ValueRef::Boolean(boolean),
    };
    (row.device, row.attribute, row.offset_us, value)
}

fn service_step(state: &ShardState, is_stale: bool, device: u32, cursor: u64) -> ServiceStep {
    let now = state.service("a/lighting").map(|service| service.cursor).unwrap_or_default();
    let level = message::Argument { name: "level".into(), value: Some(ValueRef::Integer(9).to_message()) };
    ServiceStep {
        service: "a/lighting".into(),
        expected: message::LogPosition { index: now.index + u64::from(is_stale), ordinal: now.ordinal },
        cursor: message::LogPosition { index: now.index + cursor, ordinal: 1 },
        state: (cursor > 4).then(|| vec![1; 3].into()),
        commands: vec![ServiceCommand {
            device: DeviceNumber(device),
            id: CommandId::parse(&format!("s{}", now.index)).unwrap(),
            action: "set_level".into(),
            arguments: vec![level],
            timeout: Duration::from_secs(1),
            priority: 3,
        }],
    }
}

/// What an act was answered, without where it stands in the log.
fn run(decider: &mut Decider<'_>, act: &Act) -> String {
    match act {
        Act::Ask(request) => {
            let decision = decider.decide(request).unwrap();
            let effects = format!("{:?}", decision.effects);
            let mut reply = decision.reply_at(LogIndex(1));
            match &mut reply {
                Reply::Done(done) => done.position = done.position.map(|_| message::LogPosition::default()),
                Reply::DesiredPatched(patched) => {
                    patched.position = patched.position.map(|_| message::LogPosition::default());
                }
                Reply::CommandRead(read) => read.command.as_mut().unwrap().position = None,
                _ => {}
            }
            format!("{reply:?} {effects}")
        }
        Act::Deliver(device, id) => format!("{:?}", decider.mark_delivered([(*device, id.as_str())])),
        Act::Sweep(facts_max) => format!("{:?}", decider.sweep(*facts_max)),
        Act::Step(step) => format!("{:?}", decider.step_service(step)),
        Act::Lead => format!("{:?}", decider.begin_leadership(NodeId(1))),
    }
}

/// A shard whose entries all have the index 1 and ordinals that go on, so that positions do not tell batches apart.
struct History {
    shard: Shard,
    ordinal: u32,
    facts: Vec<message::Fact>,
    answers: Vec<String>,
}

impl History {
    fn new() -> Self {
        let mut shard = Shard::with_lamps(LAMPS);
        shard.limits = Limits { district_devices_max: 6, streams_max: 3, stream_age_max: Duration::from_secs(9) };
        shard.now.0 = NOW_US;
        Self { shard, ordinal: 1_000, facts: Vec::new(), answers: Vec::new() }
    }

    fn batch(&mut self, acts: &[Act]) {
        let mut decider = Decider::new(&self.shard.state, &self.shard.catalog, &self.shard.limits, self.shard.now);
        self.answers.extend(acts.iter().map(|act| run(&mut decider, act)));
        let entry = decider.finish();
        if !entry.facts.is_empty() {
            let entry = ShardState::decode(&entry.encode_to_vec().into()).unwrap();
            self.ordinal = self.shard.state.apply_from(LogIndex(1), self.ordinal, &entry);
            self.facts.extend(entry.facts);
        }
    }

    fn restart(&mut self) {
        self.shard.state = ShardState::restore(&mut self.shard.pages().into_iter()).unwrap();
    }
}

/// States of all commands, by device and id.
fn receipts(state: &ShardState) -> BTreeMap<(DeviceNumber, String), u32> {
    let twins = state.devices(DeviceNumber(0));
    twins.flat_map(|twin| twin.commands().map(move |it| ((twin.number(), it.id.clone()), it.state))).collect()
}

fn check_counters(state: &ShardState) {
    let counters = state.counters();
    let open = state.devices(DeviceNumber(0)).map(|twin| twin.open_commands().count()).sum::<usize>();
    assert_eq!(counters.commands_open, open as u64);
    assert_eq!(counters.devices, state.devices(DeviceNumber(0)).count() as u64);
    assert_eq!(counters.devices, state.districts().map(|(_, devices)| u64::from(devices)).sum::<u64>());
    for (id, stream) in state.streams() {
        let attached = state.devices(DeviceNumber(0)).filter(|twin| twin.session() == Some(id));
        assert!(attached.map(|twin| twin.number()).eq(stream.devices.iter().copied()));
    }
}

proptest! {
    #[test]
    fn one_batch_of_n_requests_equals_n_batches_of_one(
        groups in vec((vec(op(), 1..12), 0i64..4_000_000, any::<bool>()), 1..10)
    ) {
        let (mut singly, mut batched) = (History::new(), History::new());
        for (ops, pause_us, is_restarted) in &groups {
            for history in [&mut singly, &mut batched] {
                history.shard.now.0 += pause_us;
            }
            let mut acts = Vec::new();
            for op in ops {
                let before = receipts(&singly.shard.state);
                acts.push(act(op, &singly.shard.state));
                singly.batch(&acts[acts.len() - 1..]);
                let after = receipts(&singly.shard.state);
                assert!(before.iter().all(|(key, state)| after.get(key).is_none_or(|now| now >= state)));
                check_counters(&singly.shard.state);
            }
            batched.batch(&acts);
            if *is_restarted {
                batched.restart();
            }
            assert_eq!(singly.answers, batched.answers);
            assert_eq!(singly.facts, batched.facts);
            assert_eq!(singly.shard.pages(), batched.shard.pages());
        }
    }
}
