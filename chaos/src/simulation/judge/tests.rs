//! Histories of one shard with one thing wrong each: the judge names it. The sound one passes.

use std::sync::Arc;

use kvarter_actors::message::{self, DesiredAttribute, Facts, LogPosition, fact, value};
use kvarter_actors::{AttributeNumber, DeviceNumber, ValueRef};

use super::super::history::{ArrivedCommand, Command, Part};
use super::*;

const LAMP: &str = "havn/lamp-0";
const STREAM: u128 = 7;

fn entry(index: u64, facts: impl IntoIterator<Item = fact::Fact>) -> (u64, Arc<Facts>) {
    let facts = facts.into_iter().map(|fact| message::Fact { fact: Some(fact) }).collect();
    let time_us = i64::try_from(index).unwrap() * 1_000;
    (index, Arc::new(Facts { format: 1, time_us, facts, traceparents: Vec::new() }))
}

fn part(index: u64, sequence: u64) -> (u64, Arc<Facts>) {
    let mut readings = message::Readings::default();
    readings.push(DeviceNumber(0), AttributeNumber(8), i64::try_from(index).unwrap(), ValueRef::Number(1.0));
    let stream = STREAM.to_be_bytes().to_vec().into();
    entry(
        index,
        [
            fact::Fact::ReadingsReported(message::ReadingsReported { readings: Some(readings), mark: vec![1] }),
            fact::Fact::ReadingsAccepted(message::ReadingsAccepted {
                stream,
                sequence,
                stored: 1,
                ..Default::default()
            }),
        ],
    )
}

fn level(index: u64, level: f64) -> (u64, Arc<Facts>) {
    let value = Some(message::Value { kind: Some(value::Kind::Number(level)) });
    let set = vec![DesiredAttribute { attribute: LEVEL, value }];
    entry(index, [fact::Fact::DesiredChanged(DesiredChanged { device: 0, set, clear: Vec::new() })])
}

fn operation(asked: Asked, begun_us: i64, ended: Option<(i64, Told)>) -> Operation {
    Operation { shard: 1, device: LAMP.to_owned(), asked, begun_us, ended }
}

/// The operation that wrote or read what stands at the `index` of `level`, from 10 µs before `at_us` to 10 µs after.
fn write(index: u64, level: f64, at_us: i64) -> Operation {
    let told = Told::Written(LogPosition { index, ordinal: 0 });
    operation(Asked::Write(level), at_us - 10, Some((at_us + 10, told)))
}

fn read(index: u64, value: f64, at_us: i64) -> Operation {
    operation(Asked::Read, at_us - 10, Some((at_us + 10, Told::Read { index, value: Some(value) })))
}

fn feed() -> Feed {
    let registered = message::DeviceRegistered {
        device: 0,
        name: LAMP.to_owned(),
        kind: "luminaire".to_owned(),
        ..Default::default()
    };
    let issued = CommandIssued { device: 0, id: "order".to_owned(), ..Default::default() };
    let changed = CommandChanged { device: 0, id: "order".to_owned(), state: 3, detail: String::new() };
    let mut feed = vec![entry(1, [fact::Fact::DeviceRegistered(registered)])];
    let opened = message::StreamOpened { stream: STREAM.to_be_bytes().to_vec().into(), node: 1, ..Default::default() };
    feed.push(entry(2, [fact::Fact::StreamOpened(opened)]));
    feed.extend((0..40).map(|number| part(10 + number, number + 1)));
    feed.extend((0..40).map(|number| level(60 + number, f64::from(u32::try_from(number).unwrap()))));
    feed.push(entry(120, [fact::Fact::CommandIssued(issued)]));
    feed.push(entry(121, [fact::Fact::CommandChanged(changed)]));
    feed
}

/// Of a desired state, or of the order, which has its deadline at 200 ms and its end at 121 ms.
fn arrival(epoch: u64, ordered_ms: Option<i64>) -> Arrival {
    let at_us = ordered_ms.unwrap_or(5) * 1_000;
    let command = ordered_ms.map(|_| ArrivedCommand { id: "order".to_owned(), deadline_us: 200_000 });
    Arrival { shard: 1, epoch, stream: STREAM, connection: 1, arrived_us: at_us, node_us: at_us, command }
}

/// A history with nothing wrong, and what was seen of its three replicas.
fn sound() -> (History, Replicas) {
    let mut history = History::default();
    let parts = (0..40).map(|number| Part {
        shard: 1,
        readings: vec![SentReading { device: 0, attribute: 8, observed_us: 10 + number }],
        is_acknowledged: true,
    });
    history.parts.insert(STREAM, parts.collect());
    for number in 0..40u32 {
        let at_us = i64::from(number) * 100;
        history.operations.push(write(60 + u64::from(number), number.into(), at_us));
        history.operations.push(read(60 + u64::from(number), number.into(), at_us + 50));
    }
    let command = |id: &str, is_accepted| Command { shard: 1, id: id.to_owned(), is_accepted };
    history.commands.push(command("order", Some(true)));
    history.commands.push(command("refused", Some(false)));
    history.commands.push(command("lost", None));
    history.executed.insert("order".to_owned());
    history.arrivals = [arrival(2, None), arrival(2, Some(90)), arrival(3, Some(110))].into();
    for node in 1..=3 {
        history.feeds.insert((node, 1), feed());
    }
    history.subscribed.insert(1, feed());
    let mut state = ShardState::default();
    feed().iter().for_each(|(index, facts)| state.apply(LogIndex(*index), facts));
    let hash = |node| ReplicaHash { shard: 1, node, applied_index: 121, hash: "1".to_owned() };
    let replicas = Replicas {
        hashes: (1..=3).map(hash).collect(),
        pages: BTreeMap::from([(1, pages(&state))]),
        applied: BTreeMap::from([(1, 121)]),
        nodes: 3,
        shards: 1,
    };
    (history, replicas)
}

/// What the judge finds once `change` was made to a sound history, commands too few aside.
fn found(change: impl FnOnce(&mut History, &mut Replicas)) -> Vec<Violation> {
    let (mut history, mut replicas) = sound();
    change(&mut history, &mut replicas);
    let found = judge(&history, &replicas).first.into_iter();
    found.filter(|one| !matches!(one, Violation::TooLittleSeen { what: "accepted commands", .. })).collect()
}

/// Makes `change` to all feeds and to the state that follows from them.
fn feeds(history: &mut History, replicas: &mut Replicas, change: impl Fn(&mut Feed)) {
    history.feeds.values_mut().chain(history.subscribed.values_mut()).for_each(&change);
    let mut state = ShardState::default();
    history.feeds[&(1, 1)].iter().for_each(|(index, facts)| state.apply(LogIndex(*index), facts));
    replicas.pages.insert(1, pages(&state));
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn too_few_operations_do_not_pass() {
    let found = found(|history, _| history.operations.clear());
    assert!(found.iter().all(|one| matches!(one, Violation::TooLittleSeen { checker: "registers", .. })), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn a_lost_a_repeated_and_an_invented_reading_are_named() {
    let lost = found(|history, replicas| feeds(history, replicas, |feed| feed.retain(|(index, _)| *index != 49)));
    assert!(matches!(lost[..], [Violation::ReadingLost { observed_us: 49, .. }]), "{lost:?}");
    let repeated = found(|history, replicas| feeds(history, replicas, |feed| feed[3].1 = Arc::clone(&feed[2].1)));
    assert!(repeated.iter().any(|one| matches!(one, Violation::ReadingRepeated { .. })), "{repeated:?}");
    let invented = found(|history, _| drop(history.parts.get_mut(&STREAM).unwrap().pop()));
    assert!(matches!(invented[..], [Violation::ReadingInvented { observed_us: 49, .. }]), "{invented:?}");
}

#[test]
fn a_feed_that_differs_or_does_not_make_the_state_is_named() {
    let shorter = found(|history, _| drop(history.feeds.get_mut(&(2, 1)).unwrap().remove(4)));
    assert!(matches!(&shorter[..], [Violation::FeedsDiffer { reader, .. }] if reader == "node 2"), "{shorter:?}");
    let subscriber = found(|history, _| drop(history.subscribed.get_mut(&1).unwrap().pop()));
    let is_subscribers =
        |one: &Violation| matches!(one, Violation::FeedsDiffer { reader, .. } if reader == "the subscriber");
    assert!(subscriber.len() == 1 && is_subscribers(&subscriber[0]), "{subscriber:?}");
    let state = found(|_, replicas| drop(replicas.pages.get_mut(&1).unwrap().pop()));
    assert!(
        matches!(&state[..], [Violation::Broken { what }] if what.contains("does not make the state")),
        "{state:?}"
    );
}

#[test]
fn replicas_that_differ_are_named() {
    let found = found(|_, replicas| replicas.hashes[2].hash = "2".to_owned());
    assert!(found.iter().any(|one| matches!(one, Violation::ReplicasDiffer { node: 3, .. })), "{found:?}");
}

/// The one register violation of a history with this further operation.
fn register(operation: Operation) -> Option<String> {
    match &found(|history, _| history.operations.push(operation))[..] {
        [] => None,
        [Violation::RegisterBroken { what, .. }] => Some(what.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stale_read_is_named_and_a_concurrent_one_is_not() {
    // Begun behind the end of the write at index 69, it shows the one before.
    assert!(register(read(68, 8.0, 930)).unwrap().contains("took effect before"));
    assert_eq!(register(read(68, 8.0, 905)), None, "the write of 9 was under way");
    assert!(register(read(68, 9.0, 905)).unwrap().contains("showed"));
}

#[test]
fn a_write_that_took_effect_after_it_was_refused_twice_or_out_of_order_is_named() {
    let told = |told| found(|history, _| history.operations[0].ended = Some((10, told)));
    assert!(matches!(told(Told::NotApplied)[..], [Violation::RegisterBroken { .. }]));
    assert_eq!(told(Told::Unknown), [], "it is not known whether it took effect");
    let twice = found(|history, replicas| feeds(history, replicas, |feed| feed[43].1 = Arc::clone(&feed[42].1)));
    assert!(twice.iter().any(|one| matches!(one, Violation::RegisterBroken { what, .. } if what.contains("twice"))));
    let late = found(|history, _| {
        (history.operations[0].begun_us, history.operations[0].ended) =
            (9_000, Some((9_010, Told::Written(LogPosition { index: 60, ordinal: 0 }))))
    });
    assert!(
        matches!(&late[..], [Violation::RegisterBroken { what, .. }] if what.contains("took effect before")),
        "{late:?}"
    );
}

#[test]
fn commands_that_break_their_promise_are_named() {
    type Change = fn(&mut History);
    let changes: [(&str, Change); 4] = [
        ("not in the log", |history| history.commands[1].is_accepted = Some(true)),
        ("said not to be accepted", |history| history.commands[0].is_accepted = Some(false)),
        ("never executed", |history| assert!(history.executed.remove("order"))),
        ("executed and never issued", |history| assert!(history.executed.insert("refused".to_owned()))),
    ];
    for (wanted, change) in changes {
        let found = found(|history, _| change(history));
        assert!(
            matches!(&found[..], [Violation::CommandBroken { what, .. }] if what.contains(wanted)),
            "{wanted}: {found:?}"
        );
    }
    let endless = found(|history, replicas| feeds(history, replicas, |feed| drop(feed.pop())));
    assert!(matches!(&endless[..], [Violation::CommandBroken { what, .. }] if what == "it has no end"), "{endless:?}");
}

#[test]
fn what_must_not_arrive_is_named_although_its_device_refuses_it() {
    let arrived = |arrival: Arrival| found(|history, _| history.arrivals.push(arrival));
    let stale = arrived(arrival(2, None));
    assert!(matches!(stale[..], [Violation::DeliveredStale { epoch: 2, highest: 3, .. }]), "{stale:?}");
    assert_eq!(arrived(Arrival { connection: 2, ..arrival(2, None) }), [], "its node may not know the leader yet");
    let late = arrived(Arrival { node_us: 200_000 + HANDED_OVER_MAX_US + 1, ..arrival(3, Some(190)) });
    assert!(matches!(late[..], [Violation::DeliveredLate { .. }]), "{late:?}");
    let behind = Arrival { arrived_us: 121_000 + ON_ITS_WAY_MAX_US + 1, ..arrival(3, Some(190)) };
    let ended = arrived(behind);
    assert!(matches!(ended[..], [Violation::DeliveredAfterEnd { .. }]), "{ended:?}");
}
