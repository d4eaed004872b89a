//! The bytes of the log, of the state's pages and of the catalog: an entry with every fact, the pages that it leads to, and a kind.
//!
//! A difference to the fixtures means that stored data would be read otherwise: raise the format instead. To write new
//! fixtures, run with `KVARTER_WRITE_FIXTURES=1`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use kvarter_actors::message::{self, fact::Fact};
use kvarter_actors::{AttributeNumber, DeviceNumber, Kind, Point, ReadingMark, ShardState, StreamId, Value, ValueRef};
use kvarter_cluster::{LogIndex, PageId, StateMachine};
use prost::Message;

const TIME_US: i64 = 1_767_225_600_000_000;

fn readings() -> message::ReadingsReported {
    let mut readings = message::Readings { base_us: TIME_US, ..Default::default() };
    let place = Point { latitude_e7: 561_500_000, longitude_e7: -102_000_000 };
    for (attribute, offset_us, value) in [
        (1, -3, ValueRef::Number(40.5)),
        (2, 4, ValueRef::Integer(-7)),
        (3, 5, ValueRef::Boolean(true)),
        (4, 6, ValueRef::Text("on")),
        (5, 7, ValueRef::Point(place)),
    ] {
        readings.push(DeviceNumber(0), AttributeNumber(attribute), TIME_US + offset_us, value);
    }
    let marks = [(true, false), (false, false), (true, true), (true, false), (true, false)];
    let mark = marks.map(|(is_in_range, is_late)| ReadingMark::new(is_in_range, is_late).0).to_vec();
    message::ReadingsReported { readings: Some(readings), mark }
}

fn registered(device: u32, name: &str) -> Fact {
    Fact::DeviceRegistered(message::DeviceRegistered {
        device,
        name: name.into(),
        kind: "luminaire".into(),
        location: Some(message::Point { latitude_e7: 561_500_000, longitude_e7: 102_000_000 }),
        labels: BTreeMap::from([("street".into(), "Algade".into())]),
    })
}

fn stream_facts(stream: &Bytes, lost: &Bytes) -> Vec<Fact> {
    let opened = |stream: &Bytes| {
        let (stream, client) = (stream.clone(), "client:gateway".into());
        Fact::StreamOpened(message::StreamOpened { stream, client, node: 2, issued_us: TIME_US - 9, connection: 0 })
    };
    vec![
        opened(stream),
        opened(lost),
        Fact::SessionsOpened(message::SessionsOpened { stream: stream.clone(), device: vec![0, 1] }),
        Fact::StreamClosed(message::StreamClosed { stream: stream.clone(), node: 2, connection: 0 }),
        Fact::StreamExpired(message::StreamExpired { stream: lost.clone() }),
    ]
}

fn command_facts() -> Vec<Fact> {
    let value = Some(Value::Number(20.0).to_message());
    let issued = |id: &str| {
        Fact::CommandIssued(message::CommandIssued {
            device: 0,
            id: id.into(),
            action: "set_level".into(),
            arguments: vec![message::Argument { name: "level".into(), value: value.clone() }],
            deadline_us: TIME_US + 30_000_000,
            priority: 3,
            service: "old-town/lighting".into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        })
    };
    let changed = |id: &str, state: u32, detail: &str| {
        let (id, detail) = (id.into(), detail.into());
        Fact::CommandChanged(message::CommandChanged { device: 0, id, state, detail })
    };
    vec![
        issued("c-1"),
        issued("c-2"),
        changed("c-1", 2, ""),
        changed("c-2", 4, "lamp is broken"),
        issued("c-3"),
        changed("c-3", 3, ""),
        Fact::CommandForgotten(message::CommandForgotten { device: 0, id: "c-3".into() }),
    ]
}

fn facts() -> message::Facts {
    let (stream, lost) = (StreamId(7).to_message(), StreamId(1 << 100).to_message());
    let set = vec![message::DesiredAttribute { attribute: 1, value: Some(Value::Number(20.0).to_message()) }];
    let service = || "old-town/lighting".to_owned();
    let mut facts = vec![
        Fact::LeadershipBegan(message::LeadershipBegan { node: 3 }),
        registered(0, "old-town/lamp-1"),
        registered(1, "old-town/lamp-2"),
    ];
    facts.extend(stream_facts(&stream, &lost));
    facts.extend([
        Fact::ReadingsReported(readings()),
        Fact::ReadingsAccepted(message::ReadingsAccepted {
            stream,
            sequence: 12,
            stored: 4,
            late: 1,
            duplicate: 2,
            rejected: 3,
        }),
        Fact::DesiredChanged(message::DesiredChanged { device: 0, set, clear: vec![6] }),
    ]);
    facts.extend(command_facts());
    facts.extend([
        Fact::ServiceStepped(message::ServiceStepped {
            service: service(),
            cursor_index: 41,
            cursor_ordinal: 2,
            state: Some(Bytes::from_static(b"state")),
        }),
        Fact::ServiceModeSet(message::ServiceModeSet { service: service(), mode: 2 }),
        Fact::DeviceRetired(message::DeviceRetired { device: 1 }),
    ]);
    message::Facts {
        format: 1,
        time_us: TIME_US,
        facts: facts.into_iter().map(|fact| message::Fact { fact: Some(fact) }).collect(),
        traceparents: vec!["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()],
    }
}

/// Streams as they are opened and closed since cluster version 3. What was written before has no connections, and stays as it is.
fn facts_of_counted_connections() -> message::Facts {
    let opened = |stream: u128, connection| {
        let (stream, client) = (StreamId(stream).to_message(), "client:gateway".into());
        Fact::StreamOpened(message::StreamOpened { stream, client, node: 2, issued_us: TIME_US - 9, connection })
    };
    let closed = message::StreamClosed { stream: StreamId(8).to_message(), node: 3, connection: 300 };
    let facts = [opened(7, 2), opened(8, 1), Fact::StreamClosed(closed)];
    let facts = facts.map(|fact| message::Fact { fact: Some(fact) }).to_vec();
    message::Facts { format: 1, time_us: TIME_US, facts, traceparents: Vec::new() }
}

fn kind() -> Kind {
    let text = "
name: lamp
description: A lamp.
source: nobody's
attributes:
  - {number: 1, name: state, type: enum, values: ['on', 'off'], description: What it does.}
  - {number: 2, name: power, type: number, unit: WTT, minimum: 0, maximum: 100.5, writable: true, interval_s: 60}
  - {number: 3, name: starts, type: integer}
  - {number: 4, name: broken, type: boolean}
  - {number: 5, name: label, type: text}
  - {number: 4095, name: place, type: point}
commands:
  - {name: dim, description: Dims it., arguments: [{name: level, type: integer, maximum: 100}]}
safe_state: {power: 5}
";
    Kind::from_yaml(text).expect("a kind")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string grows");
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<_> = text.trim().chars().map(|digit| digit.to_digit(16).expect("a hex digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two hex digits")).collect()
}

/// The fixture's text; written first when that is asked for.
fn fixture(name: &str, current: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("KVARTER_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, current).expect("the fixture can be written");
    }
    std::fs::read_to_string(&path).expect("the fixture can be read")
}

fn encode(state: &ShardState) -> Vec<(PageId, Bytes)> {
    let pages = state.pages().into_iter().map(|page| {
        let mut bytes = Vec::new();
        page.encode(&mut bytes);
        (page.id, Bytes::from(bytes))
    });
    pages.collect()
}

#[test]
fn an_entry_of_every_fact_has_the_bytes_that_it_always_had() {
    let facts = facts();
    let types: HashSet<_> =
        facts.facts.iter().map(|fact| std::mem::discriminant(fact.fact.as_ref().unwrap())).collect();
    assert_eq!(types.len(), 15, "every type of fact is in the entry");
    let stored = fixture("facts.hex", &(hex(&facts.encode_to_vec()) + "\n"));
    assert_eq!(hex(&facts.encode_to_vec()), stored.trim());
    assert_eq!(ShardState::decode(&unhex(&stored)).unwrap(), facts);
}

#[test]
fn the_pages_after_it_have_the_bytes_that_they_always_had() {
    check_pages(&facts(), "pages.hex");
}

#[test]
fn counted_connections_and_the_pages_after_them_have_the_bytes_that_they_always_had() {
    let facts = facts_of_counted_connections();
    let stored = fixture("connections-facts.hex", &(hex(&facts.encode_to_vec()) + "\n"));
    assert_eq!(hex(&facts.encode_to_vec()), stored.trim());
    assert_eq!(ShardState::decode(&unhex(&stored)).unwrap(), facts);
    let state = check_pages(&facts, "connections-pages.hex");
    let connection = |stream: u128| state.stream(StreamId(stream)).map(|stream| (stream.is_open, stream.connection.0));
    assert_eq!((connection(7), connection(8)), (Some((true, 2)), Some((false, 300))));
}

#[test]
fn a_kind_has_the_bytes_that_it_always_had() {
    check_kind(&kind(), "kind.hex");
}

/// Kinds are retired since cluster version 4.
#[test]
fn a_retired_kind_has_the_bytes_that_it_always_had() {
    check_kind(&Kind { is_retired: true, ..kind() }, "retired-kind.hex");
}

/// Compares the document of `kind` with the fixture `name`, and reads it.
fn check_kind(kind: &Kind, name: &str) {
    let document = hex(&kind.to_document());
    let stored = fixture(name, &(document.clone() + "\n"));
    assert_eq!(document, stored.trim());
    assert_eq!(Kind::from_document("kinds/lamp", &unhex(&stored)).expect("a kind"), *kind);
}

/// Compares the pages after `facts` with the fixture `name`, and restores them.
fn check_pages(facts: &message::Facts, name: &str) -> ShardState {
    let mut state = ShardState::default();
    state.apply(LogIndex(42), facts);
    let pages = encode(&state);
    let lines: Vec<_> = pages.iter().map(|(id, bytes)| format!("{}/{} {}", id.table, id.number, hex(bytes))).collect();
    let stored = fixture(name, &(lines.join("\n") + "\n"));
    assert_eq!(lines, stored.lines().collect::<Vec<_>>());
    let mut stored = stored.lines().map(|line| {
        let (id, bytes) = line.split_once(' ').expect("a page's id and bytes");
        let (table, number) = id.split_once('/').expect("a page's table and number");
        let table = table.parse().expect("a table's number");
        (PageId { table, number: number.parse().expect("a page's number") }, unhex(bytes))
    });
    let restored = ShardState::restore(&mut stored).expect("pages that were written");
    assert_eq!(encode(&restored), pages);
    restored
}

#[test]
fn bytes_of_another_format_are_refused() {
    let newer = message::Facts { format: 2, ..facts() };
    let error = ShardState::decode(&newer.encode_to_vec().into()).unwrap_err();
    assert_eq!(error.to_string(), "damaged bytes: facts of format 2, this program knows 1");
    assert!(ShardState::decode(&Bytes::from_static(b"\xff\xff")).is_err());
    let page = (PageId { table: 1, number: 0 }, Bytes::new());
    assert!(ShardState::restore(&mut [page].into_iter()).is_err());
    let unknown = (PageId { table: 77, number: 0 }, Bytes::new());
    assert!(ShardState::restore(&mut [unknown].into_iter()).is_err());
}
