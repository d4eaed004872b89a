//! What a device's actor knows: which deliveries were tried, and when the next try is due. Pure.
//!
//! The actor is told the [`Outlook`] of its twin whenever a fact touches the twin, and when it asked to be woken. It
//! never remembers what is to be delivered, only what was tried, so a lost message costs a delay and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_cluster::{NodeId, Timestamp};

use crate::backoff::Backoff;
use crate::{StreamId, message};

/// Wait for the device's answer before a delivery is repeated.
const ANSWER_BACKOFF: Backoff = Backoff { first: Duration::from_secs(4), max: Duration::from_secs(60) };

/// Wait after a delivery that did not reach the stream.
const UNWRITTEN_BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(10) };

/// Where the device's stream is connected, and since when: another value means another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) stream: StreamId,
    pub(crate) node: NodeId,
    pub(crate) since_us: i64,
}

/// What is to be delivered to a device, as its twin has it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outlook {
    /// `None`: not connected.
    pub(crate) session: Option<Session>,
    /// Open commands, most urgent first.
    pub(crate) commands: Vec<message::CommandDelivery>,
    /// Desired attributes that are not reported as such.
    pub(crate) desired: Vec<message::DesiredAttribute>,
}

/// What a delivery is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Command(String),
    Desired,
}

/// How a delivery ended at the node of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Handed to the stream's connection.
    Written,
    /// No such stream there, its queue is full, or the node did not answer: may be tried again.
    NotWritten,
    /// Past its deadline or of a deposed leader: no use in trying again.
    Refused,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DeviceEvent {
    Observed(Outlook),
    Delivered(Subject, Delivered),
    /// The twin has what a drill calls poison: the code for this device panics.
    Poisoned,
}

/// What enters from outside at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) random: u64,
}

/// What the actor wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) deliveries: Vec<(Subject, message::delivery::Delivery)>,
    /// When to be told its outlook again, without any fact.
    pub(crate) wake_at: Option<Timestamp>,
    /// Nothing is left to do: the actor may be passivated.
    pub(crate) is_idle: bool,
}

#[derive(Clone, Debug, Default)]
struct Attempts {
    count: u32,
    due_us: i64,
    /// What was tried, to tell a changed wish from a repeated one. Empty for commands, which never change.
    desired: Vec<message::DesiredAttribute>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceState {
    session: Option<Session>,
    attempts: BTreeMap<Subject, Attempts>,
    is_idle: bool,
}

impl DeviceState {
    pub(crate) fn step(&mut self, event: DeviceEvent, moment: Moment) -> Wishes {
        let deliveries = match event {
            DeviceEvent::Observed(outlook) => self.observe(outlook, moment),
            DeviceEvent::Delivered(subject, outcome) => {
                self.note(&subject, outcome, moment);
                Vec::new()
            }
            DeviceEvent::Poisoned => fall_to_poison(),
        };
        let next_us = self.attempts.values().map(|attempts| attempts.due_us).min();
        let wake_at = next_us.filter(|due_us| self.session.is_some() && *due_us < i64::MAX).map(Timestamp);
        Wishes { deliveries, wake_at, is_idle: self.is_idle }
    }

    fn observe(&mut self, outlook: Outlook, moment: Moment) -> Vec<(Subject, message::delivery::Delivery)> {
        if self.session != outlook.session {
            self.session = outlook.session;
            // What the old connection may have lost is due at once on the new one.
            self.attempts.values_mut().for_each(|attempts| attempts.due_us = 0);
        }
        let is_connected = outlook.session.is_some();
        // Opening its stream and attaching it bring the actor back.
        self.is_idle = !is_connected || (outlook.commands.is_empty() && outlook.desired.is_empty());
        let mut before = std::mem::take(&mut self.attempts);
        let mut deliveries = Vec::new();
        for command in outlook.commands.into_iter().filter(|command| command.deadline_us > moment.now.0) {
            let subject = Subject::Command(command.id.clone());
            let mut attempts = before.remove(&subject).unwrap_or_default();
            if is_connected && attempts.due_us <= moment.now.0 {
                attempts.tried(moment);
                deliveries.push((subject.clone(), message::delivery::Delivery::Command(command)));
            }
            self.attempts.insert(subject, attempts);
        }
        if is_connected && !outlook.desired.is_empty() {
            let known = before.remove(&Subject::Desired).filter(|attempts| attempts.desired == outlook.desired);
            let mut attempts = known.unwrap_or_default();
            if attempts.due_us <= moment.now.0 {
                attempts.tried(moment);
                attempts.desired.clone_from(&outlook.desired);
                let delivery = message::DesiredDelivery { attributes: outlook.desired };
                deliveries.push((Subject::Desired, message::delivery::Delivery::Desired(delivery)));
            }
            self.attempts.insert(Subject::Desired, attempts);
        }
        deliveries
    }

    fn note(&mut self, subject: &Subject, outcome: Delivered, moment: Moment) {
        let Some(attempts) = self.attempts.get_mut(subject) else { return };
        attempts.due_us = match outcome {
            Delivered::Written => moment.now.0.saturating_add(ANSWER_BACKOFF.delay_us(attempts.count, moment.random)),
            Delivered::NotWritten => {
                moment.now.0.saturating_add(UNWRITTEN_BACKOFF.delay_us(attempts.count, moment.random))
            }
            Delivered::Refused => i64::MAX,
        };
    }
}

#[expect(clippy::panic, reason = "a drill asks for it, and nothing else can")]
fn fall_to_poison() -> ! {
    panic!("the code for this device met a poisoned reading, as the drill wants")
}

impl Attempts {
    /// Until the outcome is known, the try counts as written.
    fn tried(&mut self, moment: Moment) {
        self.count = self.count.saturating_add(1);
        self.due_us = moment.now.0.saturating_add(ANSWER_BACKOFF.delay_us(self.count, moment.random));
    }
}

#[cfg(test)]
mod tests;
