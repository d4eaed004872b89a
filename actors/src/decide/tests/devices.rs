//! Registration, retirement and desired attributes.

use super::*;

fn register(shard: &mut Shard, registration: message::DeviceRegistration) -> (u32, String) {
    let devices = vec![registration];
    let reply = shard.ask(Request::RegisterDevices(message::RegisterDevices { devices }));
    let Reply::DevicesRegistered(registered) = reply else { panic!("{reply:?}") };
    let outcome = registered.outcomes.into_iter().next().unwrap();
    (outcome.outcome, outcome.error)
}

#[test]
fn registering_a_device_again_changes_nothing() {
    let mut shard = Shard::new();
    assert_eq!(register(&mut shard, device("a/x", "luminaire")).0, 1);
    assert_eq!(register(&mut shard, device("a/x", "luminaire")).0, 2);
    assert!(shard.facts.facts.is_empty());
    let moved = message::Point { latitude_e7: 1, longitude_e7: 2 };
    let moved = message::DeviceRegistration { location: Some(moved), ..device("a/x", "luminaire") };
    assert_eq!(register(&mut shard, moved).0, 1);
    let twin = shard.state.device_named("a/x").unwrap();
    assert_eq!((twin.number(), twin.location().unwrap().latitude_e7, twin.version()), (DeviceNumber(0), 1, 2));
    assert_eq!(shard.state.counters().devices, 1);
}

#[test]
fn a_wrong_device_is_rejected_with_the_reason() {
    let mut shard = Shard::new();
    register(&mut shard, device("a/x", "luminaire"));
    let labels = [("Room".to_owned(), String::new())].into();
    let south_of_the_pole = message::Point { latitude_e7: -900_000_001, longitude_e7: 0 };
    for (wrong, expected) in [
        (device("a/X", "luminaire"), "must be 1 to 63"),
        (device("a/y", "toaster"), "kind `toaster` is not in the catalog"),
        (device("a/x", "bus"), "device `a/x` is registered as a luminaire, not as a bus"),
        (message::DeviceRegistration { labels, ..device("a/y", "bus") }, "label `Room` must match"),
        (message::DeviceRegistration { location: Some(south_of_the_pole), ..device("a/y", "bus") }, "not on Earth"),
    ] {
        let (outcome, error) = register(&mut shard, wrong);
        assert_eq!(outcome, 3);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_full_district_refuses_with_its_name_and_limit() {
    let mut shard = Shard::new();
    shard.limits.district_devices_max = 2;
    let devices = ["a/1", "a/2", "a/3", "b/1"].map(|name| device(name, "bus")).to_vec();
    let reply = shard.ask(Request::RegisterDevices(message::RegisterDevices { devices }));
    let Reply::DevicesRegistered(registered) = reply else { panic!("{reply:?}") };
    let outcomes: Vec<_> = registered.outcomes.iter().map(|outcome| outcome.outcome).collect();
    assert_eq!(outcomes, [1, 1, 3, 1]);
    assert_eq!(registered.outcomes[2].error, "district `a` has 2 devices and may have 2");
    shard.ask(Request::RetireDevice(message::RetireDevice { name: "a/1".into() }));
    assert_eq!(register(&mut shard, device("a/3", "bus")).0, 1);
}

/// The catalog with `kind` retired.
fn retire_kind(shard: &mut Shard, kind: &str) {
    let kinds = shard.catalog.kinds().map(|known| Kind { is_retired: known.name == kind, ..Kind::clone(known) });
    shard.catalog = kinds.collect();
}

fn count(kind: &str) -> Request {
    Request::CountDevices(message::CountDevices { kind: kind.into(), documents_version: 0 })
}

#[test]
fn a_device_of_a_retired_kind_is_refused_as_one_of_a_kind_that_does_not_exist() {
    let mut shard = Shard::with_lamps(1);
    retire_kind(&mut shard, "luminaire");
    let (outcome, error) = register(&mut shard, device("a/late", "luminaire"));
    assert_eq!((outcome, &*error), (3, "kind `luminaire` is not in the catalog"));
    assert!(shard.facts.facts.is_empty());
    assert_eq!(register(&mut shard, device("a/bus", "bus")).0, 1);
    // Those that there are go on.
    assert_eq!(shard.submit(&[(0, 1, 0, ValueRef::Number(40.0))]).outcomes, [1]);
    assert!(matches!(shard.ask(set_level("a/lamp-0", "c1", 50.0, 0)), Reply::CommandRead(_)));
}

#[test]
fn devices_of_a_retired_kind_are_counted_as_the_batch_leaves_them() {
    let mut shard = Shard::with_lamps(3);
    let retire = |name: &str| Request::RetireDevice(message::RetireDevice { name: name.into() });
    shard.ask(retire("a/lamp-0"));
    let refused = shard.refusal(count("luminaire"));
    assert_eq!((refused.reason(), &*refused.message), (FailureReason::Conflict, "kind `luminaire` is not retired"));
    retire_kind(&mut shard, "luminaire");
    let late = message::RegisterDevices { devices: vec![device("a/late", "luminaire"), device("a/bus", "bus")] };
    let late = Request::RegisterDevices(late);
    let batch =
        [count("luminaire"), late, retire("a/lamp-1"), count("luminaire"), retire("a/lamp-2"), count("luminaire")];
    let replies = shard.commit(|decider| {
        batch.map(|request| {
            let request = message::ShardRequest { request: Some(request), ..Default::default() };
            decider.decide(&request).unwrap().reply().clone()
        })
    });
    let counted = replies.iter().filter_map(|reply| match reply {
        Reply::DevicesCounted(counted) => Some(counted.devices),
        _ => None,
    });
    assert_eq!(counted.collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(shard.facts.facts.len(), 3, "a bus and two retirements: counting comes to no facts");
}

#[test]
fn a_retired_device_keeps_name_and_kind_and_its_number() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(set_level("a/lamp-0", "c1", 50.0, 0));
    shard.ask(attach(1, &["a/lamp-0"]));
    shard.ask(Request::RetireDevice(message::RetireDevice { name: "a/lamp-0".into() }));
    assert!(shard.state.device(DeviceNumber(0)).is_none());
    assert_eq!(shard.state.find("a/lamp-0"), None);
    assert_eq!(shard.state.identity(DeviceNumber(0)), Some(("a/lamp-0", "luminaire")));
    let counters = shard.state.counters();
    assert_eq!((counters.devices, counters.commands_open), (1, 0));
    assert!(shard.state.stream(StreamId(1)).unwrap().devices.is_empty());
    assert_eq!(shard.submit(&[(0, 1, 0, ValueRef::Number(1.0))]).rejections, [1]);
    register(&mut shard, device("a/lamp-0", "luminaire"));
    assert_eq!(shard.state.find("a/lamp-0"), Some(DeviceNumber(2)));
    let again = shard.refusal(Request::RetireDevice(message::RetireDevice { name: "a/none".into() }));
    assert_eq!(again.message, "device `a/none` is not registered");
}

#[test]
fn desired_attributes_are_held_to_the_kind() {
    let mut shard = Shard::with_lamps(1);
    for (attribute, value, expected) in [
        ("activePower", ValueRef::Number(5.0), "`activePower` of a luminaire can not be written"),
        ("colour", ValueRef::Number(5.0), "a luminaire has no attribute `colour`"),
        ("dimmingLevel", ValueRef::Text("5"), "`dimmingLevel`: wrong type"),
        ("dimmingLevel", ValueRef::Number(101.0), "`dimmingLevel` is out of range (0 to 100)"),
    ] {
        assert_eq!(shard.refusal(patch("a/lamp-0", attribute, value, 0)).message, expected);
    }
}

#[test]
fn a_device_that_leaves_its_desired_state_gets_its_actor_back() {
    let mut shard = Shard::with_lamps(2);
    shard.ask(patch("a/lamp-0", "dimmingLevel", ValueRef::Integer(40), 0));
    let mut effects = |sequence, offset_us, level| {
        let rows = [(0, 1, offset_us, ValueRef::Number(level)), (1, 1, offset_us, ValueRef::Number(level))];
        let request = submit(1, sequence - 1, sequence, &rows);
        let request = message::ShardRequest { request: Some(request), ..Default::default() };
        shard.commit(|decider| decider.decide(&request).unwrap().effects)
    };
    assert!(effects(1, 0, 40.0).is_empty());
    assert!(effects(2, 1, 40.0).is_empty());
    assert!(effects(3, -1, 100.0).is_empty(), "a late reading changes nothing");
    assert_eq!(effects(4, 2, 100.0), [Effect::Activate(DeviceNumber(0))]);
    assert!(effects(5, 3, 100.0).is_empty(), "its actor is there");
}

#[test]
fn desired_attributes_change_only_on_the_expected_version() {
    let mut shard = Shard::with_lamps(1);
    let Reply::DesiredPatched(first) = shard.ask(patch("a/lamp-0", "dimmingLevel", ValueRef::Integer(40), 1)) else {
        panic!("not patched")
    };
    assert_eq!((first.version, first.position.unwrap().index), (2, shard.index.0));
    let conflict = shard.refusal(patch("a/lamp-0", "dimmingLevel", ValueRef::Integer(50), 1));
    assert_eq!(conflict.reason(), FailureReason::Conflict);
    let Reply::DesiredPatched(same) = shard.ask(patch("a/lamp-0", "dimmingLevel", ValueRef::Integer(40), 2)) else {
        panic!("not patched")
    };
    assert_eq!(same, message::DesiredPatched { version: 2, position: None });
    let twin = shard.state.device_named("a/lamp-0").unwrap();
    assert!(twin.has_work());
    assert_eq!(shard.state.live_devices().count(), 0, "nothing can be done before it is connected");
    shard.ask(attach(1, &["a/lamp-0"]));
    assert_eq!(shard.state.live_devices().collect::<Vec<_>>(), [DeviceNumber(0)]);
    shard.submit(&[(0, 1, 0, ValueRef::Number(40.0))]);
    assert!(!shard.state.device_named("a/lamp-0").unwrap().has_work());
    let clear = vec!["dimmingLevel".to_owned()];
    let patch = message::PatchDesired { name: "a/lamp-0".into(), clear, ..Default::default() };
    shard.ask(Request::PatchDesired(patch));
    assert_eq!(shard.state.device_named("a/lamp-0").unwrap().desired().count(), 0);
}
