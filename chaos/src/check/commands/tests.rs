//! Histories that are right, and the same ones doctored: each wrong is to be named.
use super::*;

const SECOND_US: i64 = 1_000_000;

/// What three witnesses say of three commands: one done, one failed, one expired unheard.
#[derive(Clone)]
struct History {
    feed: Vec<(&'static str, ReceiptState)>,
    issued: Vec<IssuedCommand>,
    deliveries: Vec<DeliveredCommand>,
    desired: Vec<DeliveredDesired>,
}

fn name(id: &str) -> String {
    format!("districts/d/devices/x/commands/{id}")
}

fn issued(id: &str, called_us: i64, states: &[ReceiptState]) -> IssuedCommand {
    let receipt = |(step, state): (u64, &ReceiptState)| Receipt {
        state: *state,
        position: FeedPosition { index: 100 + step, ordinal: 0 },
        seen_us: called_us + if state.is_end() { 5 * SECOND_US } else { 10 },
    };
    IssuedCommand {
        name: name(id),
        called_us,
        answered_us: called_us + 1_000,
        timeout_us: 5 * SECOND_US,
        outcome: IssueOutcome::Accepted,
        receipts: (0..).zip(states).map(receipt).collect(),
    }
}

fn delivered(id: &str, epoch: u64, arrived_us: i64, deed: Option<Deed>) -> DeliveredCommand {
    let deadline_us = 6 * SECOND_US;
    DeliveredCommand {
        name: name(id),
        connection: 0,
        shard: 4,
        epoch,
        deadline_us,
        arrived_us,
        held_up_max_us: 0,
        deed,
    }
}

fn history() -> History {
    use ReceiptState::{Accepted, Delivered, Expired, Failed, Succeeded};
    History {
        feed: vec![
            ("done", Accepted),
            ("failed", Accepted),
            ("done", Delivered),
            ("unheard", Accepted),
            ("done", Succeeded),
            ("failed", Failed),
            ("unheard", Expired),
        ],
        issued: vec![
            issued("done", SECOND_US, &[Accepted, Delivered, Succeeded]),
            issued("failed", SECOND_US, &[Accepted, Failed]),
            issued("unheard", SECOND_US, &[Accepted, Expired]),
        ],
        deliveries: vec![
            delivered("done", 2, 2 * SECOND_US, Some(Deed::Done)),
            delivered("done", 2, 3 * SECOND_US, None),
            delivered("failed", 3, 2 * SECOND_US, Some(Deed::Failed)),
        ],
        desired: vec![desired(2, 1), desired(3, 3)],
    }
}

fn desired(epoch: u64, behind: usize) -> DeliveredDesired {
    DeliveredDesired { device: "districts/d/devices/y".to_owned(), connection: 0, shard: 4, epoch, behind }
}

impl History {
    fn judge(&self) -> Vec<Violation> {
        let mut audit = CommandAudit::default();
        for (id, state) in &self.feed {
            audit.change(&name(id), *state);
        }
        audit.conclude(&self.issued, &self.deliveries(), 2).0.first
    }

    fn deliveries(&self) -> Deliveries {
        Deliveries { commands: self.deliveries.clone(), desired: self.desired.clone() }
    }

    fn issued_mut(&mut self, id: &str) -> &mut IssuedCommand {
        self.issued.iter_mut().find(|command| command.name == name(id)).unwrap()
    }
}

#[test]
fn a_right_history_passes_and_is_counted() {
    let history = history();
    assert_eq!(history.judge(), []);
    let mut audit = CommandAudit::default();
    history.feed.iter().for_each(|(id, state)| audit.change(&name(id), *state));
    let (_, counts) = audit.conclude(&history.issued, &history.deliveries(), 0);
    let counted = (counts.issued, counts.accepted, counts.executed, counts.succeeded, counts.expired);
    assert_eq!((counted, counts.deliveries, counts.unknown), ((3, 3, 2, 1, 1), 3, 0));
}

#[test]
fn an_effect_twice_is_named() {
    let mut history = history();
    history.deliveries[1].deed = Some(Deed::Done);
    assert_eq!(history.judge(), [Violation::EffectRepeated { command: name("done") }]);
}

#[test]
fn a_late_effect_is_named_by_whichever_deadline_is_nearer() {
    let mut late = history();
    late.deliveries[0].arrived_us = 6 * SECOND_US + 1_000 + CLOCK_BOUND_US + 1;
    assert!(matches!(late.judge()[..], [Violation::EffectLate { late_us, .. }] if late_us > CLOCK_BOUND_US));
    // A leader whose clock is ten minutes ahead gives away a deadline that is too far.
    let mut misled = late.clone();
    misled.deliveries[0].deadline_us += 600 * SECOND_US;
    assert!(matches!(misled.judge()[..], [Violation::EffectLate { .. }]));
}

#[test]
fn a_delivery_of_a_deposed_leader_is_named_although_its_device_refuses_it() {
    let mut stale = history();
    stale.deliveries.push(delivered("failed", 2, 3 * SECOND_US, None));
    let command = name("failed");
    assert_eq!(stale.judge(), [Violation::DeliveredStale { command, shard: 4, epoch: 2, highest: 3 }]);
    // The node of a new connection may not have heard of the leader yet.
    stale.deliveries[3].connection = 1;
    assert_eq!(stale.judge(), []);
}

#[test]
fn a_desired_state_of_a_deposed_leader_is_named_although_its_device_refuses_it() {
    let mut stale = history();
    // Behind the last command, which came for epoch 3, and before it.
    stale.desired = vec![desired(2, 3)];
    let device = stale.desired[0].device.clone();
    assert_eq!(stale.judge(), [Violation::DesiredStale { device, shard: 4, epoch: 2, highest: 3 }]);
    stale.desired = vec![desired(2, 2)];
    assert_eq!(stale.judge(), []);
    stale.desired = vec![desired(4, 2)];
    assert!(matches!(stale.judge()[..], [Violation::DeliveredStale { epoch: 3, highest: 4, .. }]));
}

#[test]
fn a_delivery_of_what_nobody_ordered_is_named_although_its_device_does_nothing() {
    let mut history = history();
    history.deliveries.push(delivered("invented", 3, 2 * SECOND_US, None));
    assert_eq!(history.judge(), [Violation::DeliveredWithoutCommand { command: name("invented") }]);
}

#[test]
fn a_delivery_past_its_deadline_is_named_although_its_device_refuses_it() {
    let late_us = CLOCK_BOUND_US + TRANSIT_MAX_US + 1;
    let mut late = history();
    late.issued_mut("failed").receipts.clear();
    late.deliveries.push(delivered("failed", 3, 6 * SECOND_US + late_us, None));
    assert_eq!(late.judge(), [Violation::DeliveredLate { command: name("failed"), late_us }]);
    late.deliveries[3].held_up_max_us = 1;
    assert_eq!(late.judge(), []);
}

#[test]
fn a_delivery_after_the_end_of_its_command_is_named() {
    let late_us = CLOCK_BOUND_US + TRANSIT_MAX_US + 1;
    let mut late = history();
    let ended_us = 2 * SECOND_US;
    late.issued_mut("failed").timeout_us = 60 * SECOND_US;
    late.issued_mut("failed").receipts[1].seen_us = ended_us;
    late.deliveries.push(delivered("failed", 3, ended_us + late_us, None));
    late.deliveries[3].deadline_us = 61 * SECOND_US;
    assert_eq!(late.judge(), [Violation::DeliveredAfterEnd { command: name("failed"), late_us }]);
}

#[test]
fn an_accepted_command_that_is_gone_is_named() {
    let mut history = history();
    history.feed.retain(|(id, _)| *id != "unheard");
    let told = ReceiptState::Expired;
    let differs = Violation::ReceiptDiffers { command: name("unheard"), told, logged: None };
    assert_eq!(history.judge(), [differs, Violation::CommandLost { command: name("unheard") }]);
}

#[test]
fn a_command_that_does_not_end_is_named() {
    let mut history = history();
    history.feed.pop();
    history.issued_mut("unheard").receipts.pop();
    let state = ReceiptState::Accepted;
    assert_eq!(history.judge(), [Violation::CommandNotEnded { command: name("unheard"), state }]);
}

#[test]
fn a_backward_receipt_is_named() {
    let mut swapped = history();
    swapped.issued_mut("done").receipts.swap(0, 1);
    assert!(swapped.judge().contains(&Violation::ReceiptWentBack {
        command: name("done"),
        last: ReceiptState::Delivered,
        next: ReceiptState::Accepted
    }));
    let mut still = history();
    let receipts = &mut still.issued_mut("done").receipts;
    receipts[2].position = receipts[1].position;
    assert!(matches!(still.judge()[..], [Violation::ReceiptWentBack { .. }]));
    let mut reopened = history();
    reopened.feed.push(("failed", ReceiptState::Succeeded));
    let judged = reopened.judge();
    assert!(matches!(judged[0], Violation::CommandOutOfOrder { last: Some(ReceiptState::Failed), .. }), "{judged:?}");
}

#[test]
fn a_receipt_without_its_effect_is_named() {
    let mut history = history();
    history.deliveries[0].deed = None;
    let state = ReceiptState::Succeeded;
    assert_eq!(history.judge()[0], Violation::ReceiptWithoutEffect { command: name("done"), state });
}

#[test]
fn a_delivery_of_a_deposed_leader_that_is_obeyed_is_named() {
    let mut history = history();
    (history.deliveries[2].connection, history.deliveries[2].epoch) = (1, 1);
    let stale = Violation::StaleDeliveryObeyed { command: name("failed"), shard: 4, epoch: 1, highest: 2 };
    assert_eq!(history.judge(), [stale]);
}

#[test]
fn a_command_that_expires_before_its_time_is_named() {
    let mut history = history();
    history.issued_mut("unheard").receipts[1].seen_us = 2 * SECOND_US;
    assert_eq!(history.judge(), [Violation::ExpiredEarly { command: name("unheard"), early_us: 4 * SECOND_US }]);
}

#[test]
fn what_was_refused_must_not_be_there() {
    let mut history = history();
    history.issued_mut("done").outcome = IssueOutcome::Refused;
    assert!(history.judge().contains(&Violation::RefusedCommandApplied { command: name("done") }));
}

#[test]
fn an_unknown_outcome_is_either_there_or_without_effect() {
    let mut there = history();
    there.issued_mut("done").outcome = IssueOutcome::Unknown;
    assert_eq!(there.judge(), []);
    let mut absent = there.clone();
    absent.feed.retain(|(id, _)| *id != "done");
    absent.issued_mut("done").receipts.clear();
    assert_eq!(absent.judge()[0], Violation::EffectWithoutCommand { command: name("done") });
    let mut never = absent.clone();
    never.deliveries.retain(|delivery| delivery.name != name("done"));
    never.desired.clear();
    assert!(matches!(never.judge()[..], [Violation::TooLittleSeen { seen: 1, expected: 2, .. }]));
}

#[test]
fn an_effect_that_nobody_ordered_is_named() {
    let mut history = history();
    history.deliveries.push(delivered("invented", 3, 2 * SECOND_US, Some(Deed::Done)));
    let command = name("invented");
    let delivered = Violation::DeliveredWithoutCommand { command: command.clone() };
    assert_eq!(history.judge(), [delivered, Violation::EffectWithoutCommand { command }]);
}

#[test]
fn commands_that_nobody_saw_through_are_no_pass() {
    let (found, _) = CommandAudit::default().conclude(&[], &Deliveries::default(), 1);
    assert!(matches!(found.first[..], [Violation::TooLittleSeen { checker: "commands", seen: 0, expected: 1, .. }]));
}
