//! What readers of a view are told.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::{Reader, ServiceFigures};

fn reader(shard: &Shard) -> Reader<'_> {
    let age = Duration::from_millis(40);
    Reader { state: &shard.state, catalog: &shard.catalog, applied: shard.index, now: shard.now, age }
}

fn twin_named(shard: &Shard, name: &str) -> message::Twin {
    let request = Request::ReadTwin(message::ReadTwin { name: name.into(), consistency: None });
    match reader(shard).read(&request) {
        Some(Reply::TwinRead(read)) => {
            assert_eq!((read.index, read.age_ms), (shard.index.0, 40));
            read.twin.unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_three_intervals_old_reads_as_stale() {
    let mut shard = Shard::with_lamps(1);
    shard.submit(&[
        (0, 1, 0, ValueRef::Number(1.0)),
        (0, 2, 0, ValueRef::Number(-1.0)),
        (0, 5, 0, ValueRef::Number(1.0)),
    ]);
    let qualities = |shard: &Shard| {
        let twin = twin_named(shard, "a/lamp-0");
        twin.reported.iter().map(|reported| reported.quality).collect::<Vec<_>>()
    };
    shard.now.0 += 3 * 900 * 1_000_000;
    assert_eq!(qualities(&shard), [1, 3, 1]);
    shard.now.0 += 1;
    assert_eq!(qualities(&shard), [4, 4, 1], "the nominal power has no rhythm");
}

#[test]
fn a_twin_tells_its_open_commands_and_its_connectivity() {
    let mut shard = Shard::with_lamps(1);
    shard.now.0 += 5;
    shard.ask(attach(1, &["a/lamp-0"]));
    shard.ask(set_level("a/lamp-0", "open", 10.0, 0));
    shard.ask(set_level("a/lamp-0", "ended", 10.0, 0));
    shard.ask(acknowledge(0, "ended", 2));
    let twin = twin_named(&shard, "a/lamp-0");
    assert_eq!((twin.connected, twin.connectivity_us), (true, NOW_US + 5));
    assert_eq!(twin.open_commands.iter().map(|command| command.id.as_str()).collect::<Vec<_>>(), ["open"]);
    let ended = Request::ReadCommand(message::ReadCommand { name: "a/lamp-0".into(), id: "ended".into() });
    let Some(Reply::CommandRead(read)) = reader(&shard).read(&ended) else { panic!("no receipt") };
    let receipt = read.command.unwrap();
    assert_eq!((receipt.state, receipt.detail.as_str()), (4, "told"));
    let unknown = Request::ReadCommand(message::ReadCommand { name: "a/lamp-0".into(), id: "x".into() });
    let Some(Reply::Failure(failure)) = reader(&shard).read(&unknown) else { panic!("a receipt of nothing") };
    assert_eq!(failure.message, "device `a/lamp-0` has no command `x`, or its receipt is gone");
}

#[test]
fn a_list_is_read_page_by_page() {
    let mut shard = Shard::with_lamps(70);
    let devices = vec![device("b/lamp", "luminaire"), device("b/bus", "bus")];
    shard.ask(Request::RegisterDevices(message::RegisterDevices { devices }));
    shard.ask(Request::RetireDevice(message::RetireDevice { name: "a/lamp-3".into() }));
    let list = |district: &str, kind: &str, from_device: u32, limit: u32| {
        let (district, kind) = (district.into(), kind.into());
        let request = message::ListTwins { district, kind, from_device, limit, ..message::ListTwins::default() };
        let Some(Reply::TwinsListed(page)) = reader(&shard).read(&Request::ListTwins(request)) else {
            panic!("no list")
        };
        (page.twins.iter().map(|twin| twin.device).collect::<Vec<_>>(), page.next_device)
    };
    assert_eq!(list("a", "", 0, 4), (vec![0, 1, 2, 4], Some(5)));
    assert_eq!(list("a", "", 66, 100), (vec![66, 67, 68, 69, 70], None));
    assert_eq!(list("", "luminaire", 69, 0), (vec![69, 71], None));
    assert_eq!(list("b", "bus", 0, 1), (vec![72], None));
    assert_eq!(list("b", "", 0, 1), (vec![71], Some(72)));
    assert_eq!(list("c", "", 0, 1), (vec![], None));
    assert_eq!(list("", "", 900, 1), (vec![], None));
}

#[test]
fn a_page_is_closed_when_it_is_long() {
    let mut shard = Shard::new();
    let labels = (0..8).map(|label| (format!("l{label:030}"), "x".repeat(64))).collect::<BTreeMap<_, _>>();
    let devices = (0..1_000).map(|number| message::DeviceRegistration {
        labels: labels.clone(),
        ..device(&format!("a/lamp-{number}"), "luminaire")
    });
    shard.ask(Request::RegisterDevices(message::RegisterDevices { devices: devices.collect() }));
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some(0));
    while let Some(from_device) = next {
        let request = message::ListTwins { from_device, limit: 1_000, ..message::ListTwins::default() };
        let Some(Reply::TwinsListed(page)) = reader(&shard).read(&Request::ListTwins(request)) else {
            panic!("no list")
        };
        assert!(page.encoded_len() < 520 * 1024, "{} bytes", page.encoded_len());
        seen.extend(page.twins.iter().map(|twin| twin.device));
        (pages, next) = (pages + 1, page.next_device);
    }
    assert_eq!((seen, pages), ((0..1_000).collect(), 2));
}

#[test]
fn devices_are_named_by_number_also_when_they_are_retired() {
    let mut shard = Shard::with_lamps(4);
    shard.ask(Request::RetireDevice(message::RetireDevice { name: "a/lamp-3".into() }));
    let request = message::ListTwins { devices: vec![3, 900, 1], ..message::ListTwins::default() };
    let Some(Reply::TwinsListed(page)) = reader(&shard).read(&Request::ListTwins(request)) else { panic!("no list") };
    let named = page.twins.iter().map(|twin| (twin.device, twin.name.as_str(), twin.kind.as_str()));
    assert_eq!(named.collect::<Vec<_>>(), [(3, "a/lamp-3", "luminaire"), (1, "a/lamp-1", "luminaire")]);
    assert_eq!(page.next_device, None);
}

#[test]
fn a_list_shows_what_its_filter_lets_through() {
    let mut shard = Shard::with_lamps(3);
    let location = Some(message::Point { latitude_e7: 561_500_000, longitude_e7: 102_000_000 });
    let devices = vec![
        message::DeviceRegistration { location, ..device("a/lamp-1", "luminaire") },
        message::DeviceRegistration { location, ..device("a/station", "weather") },
    ];
    shard.ask(Request::RegisterDevices(message::RegisterDevices { devices }));
    shard.submit(&[(0, 1, 0, ValueRef::Number(80.0)), (1, 1, 0, ValueRef::Number(20.0))]);
    let level_above = |bound: i64| message::AttributeCondition {
        attribute: "dimmingLevel".into(),
        comparison: 5,
        value: Some(ValueRef::Integer(bound).to_message()),
    };
    let list = |r#where: Vec<message::AttributeCondition>, area| {
        let filter = Some(message::TwinFilter { r#where, area });
        let request = Request::ListTwins(message::ListTwins { filter, ..message::ListTwins::default() });
        match reader(&shard).read(&request) {
            Some(Reply::TwinsListed(page)) => page.twins.iter().map(|twin| twin.device).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let near = || Some(message::twin_filter::Area::Circle(message::Circle { center: location, radius_m: 5.0 }));
    assert_eq!(list(vec![level_above(10)], None), [0, 1], "not the one that reports none");
    assert_eq!(list(vec![level_above(50)], None), [0]);
    assert_eq!(list(vec![level_above(10), level_above(50)], None), [0], "all must hold");
    assert_eq!(list(vec![], near()), [1, 4]);
    assert_eq!(list(vec![level_above(10)], near()), [1]);
}

#[test]
fn several_twins_are_read_at_once() {
    let shard = Shard::with_lamps(3);
    let names = ["a/lamp-2", "a/none", "a/lamp-0"].map(str::to_owned).to_vec();
    let request = Request::ReadTwins(message::ReadTwins { names, consistency: None });
    let Some(Reply::TwinsRead(read)) = reader(&shard).read(&request) else { panic!("no twins") };
    assert_eq!(read.twins.iter().map(|twin| twin.device).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(read.age_ms, 40);
}

#[test]
fn services_are_told_with_their_figures() {
    let mut shard = Shard::with_lamps(1);
    for service in ["a/lighting", "b/lighting"] {
        let step = crate::ServiceStep {
            service: service.into(),
            expected: message::LogPosition::default(),
            cursor: message::LogPosition { index: 3, ordinal: 1 },
            state: None,
            commands: Vec::new(),
        };
        shard.commit(|decider| decider.step_service(&step)).unwrap();
    }
    let figures = [("energy_saved_kwh".to_owned(), 1.5)];
    let request = message::ReadServices { district: "b".into() };
    let told = ServiceFigures { figures: figures.clone().into(), observed_us: 9 };
    let read = reader(&shard).services(&request, |_| told.clone());
    assert_eq!(read.services.len(), 1);
    let service = &read.services[0];
    assert_eq!((service.name.as_str(), service.mode, service.observed_us), ("b/lighting", 1, 9));
    assert_eq!((service.cursor_index, service.cursor_ordinal), (3, 1));
    assert_eq!(service.figures, figures.into());
}
