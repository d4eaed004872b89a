//! Commands from issue to receipt, and the services that issue them.

use super::*;
use crate::state::CommandState;
use crate::{CommandId, ServiceCommand, ServiceStep, StepError};

fn command(shard: &Shard, id: &str) -> Option<message::CommandRecord> {
    shard.state.device(DeviceNumber(0)).unwrap().command(id).cloned()
}

fn state_of(shard: &Shard, id: &str) -> Option<CommandState> {
    command(shard, id).and_then(|command| CommandState::from_message(command.state))
}

#[test]
fn a_command_is_issued_once_however_often_it_is_asked() {
    let mut shard = Shard::with_lamps(1);
    let Reply::CommandRead(first) = shard.ask(set_level("a/lamp-0", "c1", 30.0, 0)) else { panic!("refused") };
    let issued = first.command.unwrap();
    assert_eq!((issued.state, issued.priority, issued.deadline_us), (1, 5, NOW_US + 30_000_000));
    assert_eq!(issued.position.unwrap(), message::LogPosition { index: shard.index.0, ordinal: 0 });
    let Reply::CommandRead(again) = shard.ask(set_level("a/lamp-0", "c1", 99.0, 0)) else { panic!("refused") };
    assert_eq!(again.command.unwrap(), issued);
    assert!(shard.facts.facts.is_empty());
}

#[test]
fn a_wrong_command_is_refused_with_the_field() {
    let mut shard = Shard::with_lamps(1);
    let issue = |change: fn(&mut message::IssueCommand)| {
        let Request::IssueCommand(mut request) = set_level("a/lamp-0", "c1", 30.0, 0) else { unreachable!() };
        change(&mut request);
        Request::IssueCommand(request)
    };
    for (request, field, expected) in [
        (issue(|request| request.id = "a b".into()), "id", "[A-Za-z0-9-]{1,64}"),
        (issue(|request| request.action = "explode".into()), "action", "no command `explode`, but: set_level"),
        (issue(|request| request.arguments.clear()), "arguments", "`set_level` needs `level`"),
        (issue(|request| request.arguments[0].name = "l".into()), "arguments", "has no argument `l`"),
        (issue(|request| request.arguments.extend_from_within(..)), "arguments", "given twice"),
        (set_level("a/lamp-0", "c1", 101.0, 0), "arguments", "out of range (0 to 100)"),
        (set_level("a/lamp-0", "c1", 1.0, 999), "timeout", "between 1 s and 24 h"),
        (issue(|request| request.priority = 6), "priority", "priority 6"),
        (issue(|request| request.name = "a/none".into()), "", "device `a/none` is not registered"),
    ] {
        let failure = shard.refusal(request);
        assert!(failure.field == field && failure.message.contains(expected), "{failure:?}");
    }
}

#[test]
fn a_receipt_never_goes_back() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(set_level("a/lamp-0", "c1", 30.0, 0));
    let deliver = |shard: &mut Shard| shard.commit(|decider| decider.mark_delivered([(DeviceNumber(0), "c1")]));
    deliver(&mut shard);
    assert_eq!(state_of(&shard, "c1"), Some(CommandState::Delivered));
    shard.ask(acknowledge(0, "c1", 1));
    assert_eq!(state_of(&shard, "c1"), Some(CommandState::Succeeded));
    deliver(&mut shard);
    shard.ask(acknowledge(0, "c1", 2));
    shard.now.0 += 31_000_000;
    shard.commit(|decider| decider.sweep(100));
    assert_eq!(state_of(&shard, "c1"), Some(CommandState::Succeeded));
    let counters = shard.state.counters();
    assert_eq!((counters.commands_issued, counters.commands_succeeded, counters.commands_open), (1, 1, 0));
}

/// What a command is after it was cancelled, and how many facts that took.
fn cancelled(shard: &mut Shard, id: &str) -> (message::Command, usize) {
    match shard.ask(cancel("a/lamp-0", id)) {
        Reply::CommandRead(read) => (read.command.unwrap(), shard.facts.facts.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_command_that_nobody_has_taken_is_cancelled() {
    let mut shard = Shard::with_lamps(1);
    for id in ["waiting", "delivered", "ended"] {
        shard.ask(set_level("a/lamp-0", id, 30.0, 0));
    }
    shard.commit(|decider| decider.mark_delivered([(DeviceNumber(0), "delivered")]));
    shard.ask(acknowledge(0, "ended", 1));
    let (first, facts) = cancelled(&mut shard, "waiting");
    assert_eq!((first.state, facts), (6, 1));
    assert_eq!(first.position.unwrap().index, shard.index.0);
    assert_eq!(cancelled(&mut shard, "waiting"), (first, 0), "once");
    let states = ["delivered", "ended"].map(|id| {
        let (command, facts) = cancelled(&mut shard, id);
        (command.state, facts)
    });
    assert_eq!(states, [(2, 0), (3, 0)]);
    // Whatever the device says later is too late, and nobody is sent it.
    shard.ask(acknowledge(0, "waiting", 1));
    shard.commit(|decider| decider.mark_delivered([(DeviceNumber(0), "waiting")]));
    assert_eq!(state_of(&shard, "waiting"), Some(CommandState::Cancelled));
    assert_eq!(shard.state.counters().commands_open, 1);
    for (name, id) in [("a/lamp-0", "other"), ("a/none", "waiting")] {
        assert_eq!(shard.refusal(cancel(name, id)).reason(), FailureReason::NotFound, "{name} {id}");
    }
}

#[test]
fn a_command_expires_at_its_deadline_and_its_receipt_an_hour_later() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(set_level("a/lamp-0", "c1", 30.0, 5_000));
    assert_eq!(shard.state.commands_due_us(), Some(NOW_US + 5_000_000));
    shard.now.0 += 4_999_999;
    assert_eq!(shard.commit(|decider| decider.sweep(100)), []);
    shard.now.0 += 1;
    let effects = shard.commit(|decider| decider.sweep(100));
    assert_eq!(effects, [Effect::CommandEnded { device: DeviceNumber(0), id: "c1".into() }]);
    let receipt = command(&shard, "c1").unwrap();
    assert_eq!((receipt.state, receipt.detail.as_str()), (5, "not executed before its deadline"));
    assert_eq!(shard.state.commands_due_us(), Some(shard.now.0 + 3_600_000_000));
    shard.now.0 += 3_600_000_000;
    shard.commit(|decider| decider.sweep(100));
    assert_eq!((command(&shard, "c1"), shard.state.commands_due_us()), (None, None));
}

#[test]
fn a_device_keeps_sixteen_receipts_and_eight_open_commands() {
    let mut shard = Shard::with_lamps(1);
    for number in 0..20 {
        let id = format!("c{number}");
        shard.now.0 += 1;
        shard.ask(set_level("a/lamp-0", &id, 1.0, 0));
        shard.ask(acknowledge(0, &id, 1));
    }
    assert_eq!(shard.state.device(DeviceNumber(0)).unwrap().commands().count(), 16);
    assert_eq!((state_of(&shard, "c3"), state_of(&shard, "c4")), (None, Some(CommandState::Succeeded)));
    for number in 0..8 {
        shard.ask(set_level("a/lamp-0", &format!("open-{number}"), 1.0, 0));
    }
    let failure = shard.refusal(set_level("a/lamp-0", "open-8", 1.0, 0));
    assert_eq!(failure.message, "device `a/lamp-0` has 8 open commands, its limit");
}

#[test]
fn a_sweep_is_bounded_and_goes_on_next_time() {
    let mut shard = Shard::with_lamps(5);
    for lamp in 0..5 {
        shard.ask(set_level(&format!("a/lamp-{lamp}"), "c", 1.0, 1_000));
    }
    shard.now.0 += 1_000_000;
    shard.commit(|decider| decider.sweep(3));
    assert_eq!(shard.state.counters().commands_open, 2);
    shard.commit(|decider| decider.sweep(3));
    assert_eq!(shard.state.counters().commands_open, 0);
}

fn step(expected: u64, cursor: u64, device: u32) -> ServiceStep {
    let level = message::Argument { name: "level".into(), value: Some(ValueRef::Number(20.0).to_message()) };
    let command = ServiceCommand {
        device: DeviceNumber(device),
        id: CommandId::parse(&format!("lighting-{cursor}")).unwrap(),
        action: "set_level".into(),
        arguments: vec![level],
        timeout: Duration::from_secs(60),
        priority: 3,
    };
    ServiceStep {
        service: "a/lighting".into(),
        expected: message::LogPosition { index: expected, ordinal: 0 },
        cursor: message::LogPosition { index: cursor, ordinal: 0 },
        state: Some(bytes::Bytes::from_static(b"figures")),
        commands: vec![command],
    }
}

#[test]
fn a_service_steps_on_from_its_cursor_only() {
    let mut shard = Shard::with_lamps(1);
    let decision = shard.commit(|decider| decider.step_service(&step(0, 7, 0))).unwrap();
    assert_eq!(decision.effects, [Effect::Activate(DeviceNumber(0))]);
    let error = shard.commit(|decider| decider.step_service(&step(0, 7, 0))).unwrap_err();
    let cursor = message::LogPosition { index: 7, ordinal: 0 };
    assert_eq!(error, StepError::CursorMoved { service: "a/lighting".into(), cursor });
    assert!(shard.facts.facts.is_empty());
    let service = shard.state.service("a/lighting").unwrap();
    assert_eq!((service.cursor, service.state.as_ref()), (cursor, &b"figures"[..]));
    assert_eq!(command(&shard, "lighting-7").unwrap().service, "a/lighting");
    let refused = shard.commit(|decider| decider.step_service(&step(7, 8, 55))).unwrap().refused;
    assert_eq!((refused[0].0, refused[0].1.reason()), (0, FailureReason::NotFound));
    let mut large = step(8, 9, 0);
    large.state = Some(vec![0; 64 * 1024 + 1].into());
    let error = shard.commit(|decider| decider.step_service(&large)).unwrap_err();
    assert!(matches!(error, StepError::StateTooLarge { bytes: 65_537, .. }));
    let mut many = step(8, 9, 0);
    many.commands = vec![many.commands[0].clone(); 2_001];
    let error = shard.commit(|decider| decider.step_service(&many)).unwrap_err();
    assert!(matches!(error, StepError::TooManyCommands { commands: 2_001, .. }));
}

#[test]
fn the_mode_of_a_service_that_runs_can_be_set() {
    let mut shard = Shard::with_lamps(1);
    let set = |mode| Request::SetServiceMode(message::SetServiceMode { service: "a/lighting".into(), mode });
    assert_eq!(shard.refusal(set(2)).reason(), FailureReason::NotFound);
    shard.commit(|decider| decider.step_service(&step(0, 1, 0))).unwrap();
    shard.ask(set(2));
    assert_eq!(shard.state.service("a/lighting").unwrap().mode, crate::ServiceMode::Observe);
    assert_eq!(shard.refusal(set(3)).field, "mode");
}

#[test]
fn each_leadership_raises_the_epoch() {
    let mut shard = Shard::new();
    shard.commit(|decider| decider.begin_leadership(NodeId(3)));
    shard.commit(|decider| decider.begin_leadership(NodeId(1)));
    assert_eq!(shard.state.epoch(), crate::Epoch(2));
}

#[test]
fn shard_time_never_goes_back() {
    let mut shard = Shard::new();
    shard.commit(|decider| decider.begin_leadership(NodeId(1)));
    shard.now = Timestamp(5);
    shard.commit(|decider| decider.begin_leadership(NodeId(2)));
    assert_eq!((shard.facts.time_us, shard.state.time()), (NOW_US, Timestamp(NOW_US)));
}
