//! What a device actor delivers and when, without clock and actor.

use proptest::prelude::*;

use super::*;

const SECOND_US: i64 = 1_000_000;

fn at(now_us: i64) -> Moment {
    Moment { now: Timestamp(now_us), random: 7 }
}

fn session(since_us: i64) -> Option<Session> {
    Some(Session { stream: StreamId(1), node: NodeId(1), since_us })
}

fn command(id: &str, deadline_us: i64) -> message::CommandDelivery {
    message::CommandDelivery { id: id.into(), action: "set_level".into(), deadline_us, ..Default::default() }
}

fn outlook(session: Option<Session>, commands: &[message::CommandDelivery]) -> DeviceEvent {
    DeviceEvent::Observed(Outlook { session, commands: commands.to_vec(), desired: Vec::new() })
}

#[test]
fn a_command_is_delivered_once_until_its_answer_is_overdue() {
    let mut device = DeviceState::default();
    let open = [command("a", 100 * SECOND_US)];
    let first = device.step(outlook(session(1), &open), at(SECOND_US));
    assert_eq!(first.deliveries.len(), 1);
    device.step(DeviceEvent::Delivered(Subject::Command("a".into()), Delivered::Written), at(SECOND_US));
    let again = device.step(outlook(session(1), &open), at(2 * SECOND_US));
    assert!(again.deliveries.is_empty());
    let wake_at = again.wake_at.expect("a repeat is due some time");
    assert_eq!(device.step(outlook(session(1), &open), Moment { now: wake_at, random: 7 }).deliveries.len(), 1);
}

#[test]
fn a_new_connection_gets_everything_at_once() {
    let mut device = DeviceState::default();
    let open = [command("a", 100 * SECOND_US), command("b", 100 * SECOND_US)];
    assert!(device.step(outlook(None, &open), at(0)).deliveries.is_empty());
    assert_eq!(device.step(outlook(session(1), &open), at(SECOND_US)).deliveries.len(), 2);
    assert_eq!(device.step(outlook(session(2), &open), at(SECOND_US + 1)).deliveries.len(), 2);
}

#[test]
fn a_changed_wish_does_not_wait_for_the_answer_to_the_old_one() {
    let mut device = DeviceState::default();
    let wish = |level: f64| {
        let value = message::Value { kind: Some(message::value::Kind::Number(level)) };
        let desired = vec![message::DesiredAttribute { attribute: 1, value: Some(value) }];
        DeviceEvent::Observed(Outlook { session: session(1), commands: Vec::new(), desired })
    };
    assert_eq!(device.step(wish(10.0), at(0)).deliveries.len(), 1);
    assert!(device.step(wish(10.0), at(1)).deliveries.is_empty());
    assert_eq!(device.step(wish(20.0), at(2)).deliveries.len(), 1);
}

#[test]
fn a_refused_delivery_is_not_repeated() {
    let mut device = DeviceState::default();
    let open = [command("a", 100 * SECOND_US)];
    device.step(outlook(session(1), &open), at(0));
    let wishes = device.step(DeviceEvent::Delivered(Subject::Command("a".into()), Delivered::Refused), at(1));
    assert_eq!(wishes.wake_at, None);
    assert!(device.step(outlook(session(1), &open), at(90 * SECOND_US)).deliveries.is_empty());
}

#[test]
fn nothing_to_deliver_is_idle() {
    let mut device = DeviceState::default();
    let open = [command("a", 100 * SECOND_US)];
    assert!(!device.step(outlook(session(1), &open), at(0)).is_idle);
    assert!(device.step(outlook(session(1), &[]), at(1)).is_idle);
}

#[test]
fn a_device_that_is_not_connected_is_idle_whatever_waits_for_it() {
    let mut device = DeviceState::default();
    let open = [command("a", 100 * SECOND_US)];
    assert!(device.step(outlook(None, &open), at(0)).is_idle);
    assert!(!device.step(outlook(session(1), &open), at(1)).is_idle);
    assert!(device.step(outlook(None, &open), at(2)).is_idle);
}

proptest! {
    #[test]
    fn no_command_is_delivered_without_session_or_past_its_deadline(
        steps in prop::collection::vec((0i64..40, any::<bool>(), any::<u64>(), 0u8..4), 1..60),
        deadline_s in 1i64..60,
    ) {
        let mut device = DeviceState::default();
        let mut now_us = 0;
        for (seconds, is_connected, random, outcome) in steps {
            now_us += seconds * SECOND_US / 8;
            let moment = Moment { now: Timestamp(now_us), random };
            let session = is_connected.then(|| session(1)).flatten();
            let open = [command("a", deadline_s * SECOND_US)];
            let wishes = device.step(outlook(session, &open), moment);
            if !is_connected || now_us >= deadline_s * SECOND_US {
                prop_assert!(wishes.deliveries.is_empty());
            }
            if let Some(wake_at) = wishes.wake_at {
                prop_assert!(wake_at.0 > now_us, "a wake in the past would spin");
            }
            let outcome = match outcome {
                0 => Delivered::Written,
                1 => Delivered::NotWritten,
                2 => Delivered::Refused,
                _ => continue,
            };
            device.step(DeviceEvent::Delivered(Subject::Command("a".into()), outcome), moment);
        }
    }
}
