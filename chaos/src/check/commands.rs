//! Promises 3 and 6: what was accepted ends, takes effect once, in time and by the latest leader's word, and receipts never go
//! back.
//!
//! Three witnesses are held against each other: operators who issue and watch commands, devices that note what they did, and
//! the feed. A call whose outcome is unknown is judged by the feed: a command that is not in it must have had no effect.
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::{FeedPosition, Violation, Violations};

/// How far a node's clock, and a device's, may be from the time, microseconds.
pub const CLOCK_BOUND_US: i64 = 500_000;

/// The longest that a delivery takes from the cluster's last look at it to its device when nothing holds it up, microseconds:
/// programs that wait for a processor under load, and the time until a shard notices that a deadline has passed.
const TRANSIT_MAX_US: i64 = 5_000_000;

/// States of a command, in the order in which it passes them; those from `Succeeded` on are ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptState {
    Accepted,
    Delivered,
    Succeeded,
    Failed,
    Expired,
    Cancelled,
}

impl ReceiptState {
    pub fn is_end(self) -> bool {
        match self {
            Self::Accepted | Self::Delivered => false,
            Self::Succeeded | Self::Failed | Self::Expired | Self::Cancelled => true,
        }
    }

    /// Whether a command may go from this state to `next`.
    fn precedes(self, next: Self) -> bool {
        !self.is_end() && self < next
    }
}

impl fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What an operator was told of a command. Times are wall-clock microseconds of the operator's own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCommand {
    /// `districts/{district}/devices/{device}/commands/{id}`
    pub name: String,
    pub called_us: i64,
    /// When the call, with its repetitions, was answered or given up.
    pub answered_us: i64,
    pub timeout_us: i64,
    pub outcome: IssueOutcome,
    /// As the watch showed them, in order.
    pub receipts: Vec<Receipt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueOutcome {
    Accepted,
    /// Certainly not applied.
    Refused,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub state: ReceiptState,
    pub position: FeedPosition,
    pub seen_us: i64,
}

/// A delivery as its device got it; a device's gateway notes them in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredCommand {
    pub name: String,
    /// Counts the connections of the device's gateway. On each of them, epochs of a shard never fall.
    pub connection: u64,
    pub shard: u32,
    pub epoch: u64,
    /// As the delivery says it.
    pub deadline_us: i64,
    /// By the device's clock, right before it acted.
    pub arrived_us: i64,
    /// How long a fault may have held it up after the cluster's last look at it, microseconds.
    pub held_up_max_us: i64,
    /// What the device did because of this delivery; none when it knew the command, or refused.
    pub deed: Option<Deed>,
}

/// A desired state as its device got it, which the device may have refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredDesired {
    /// `districts/{district}/devices/{device}`
    pub device: String,
    pub connection: u64,
    pub shard: u32,
    pub epoch: u64,
    /// Commands that the gateway had got before.
    pub behind: usize,
}

/// Everything that one gateway got, in the order of its arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    pub commands: Vec<DeliveredCommand>,
    pub desired: Vec<DeliveredDesired>,
}

/// The highest epoch of each shard that each connection has seen.
#[derive(Debug, Default)]
struct Epochs(BTreeMap<(u64, u32), u64>);

impl Epochs {
    /// Takes in what came; returns the highest epoch seen before, when that is higher.
    fn see(&mut self, connection: u64, shard: u32, epoch: u64) -> Option<u64> {
        let highest = self.0.entry((connection, shard)).or_default();
        let before = *highest;
        *highest = before.max(epoch);
        (epoch < before).then_some(before)
    }
}

impl DeliveredCommand {
    /// The deadline that the operator can know, whatever a leader with a wrong clock says in the delivery.
    fn known_deadline_us(&self, command: &IssuedCommand) -> i64 {
        match command.outcome {
            IssueOutcome::Accepted => (command.answered_us + command.timeout_us).min(self.deadline_us),
            IssueOutcome::Refused | IssueOutcome::Unknown => self.deadline_us,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Done,
    /// It tried and failed.
    Failed,
}

/// How much there was to judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommandCounts {
    pub issued: u64,
    pub accepted: u64,
    /// Calls that ended without a certain outcome.
    pub unknown: u64,
    pub executed: u64,
    pub deliveries: u64,
    pub succeeded: u64,
    pub expired: u64,
}

/// Takes in what the feed says of commands, and is concluded with what operators and devices say.
#[derive(Debug, Default)]
pub struct CommandAudit {
    /// Last state of each command that the feed has shown.
    logged: HashMap<String, ReceiptState>,
    violations: Violations,
}

/// What one command's device did.
#[derive(Clone, Copy, Debug)]
struct Effect {
    at_us: i64,
    deadline_us: i64,
    deed: Deed,
}

impl CommandAudit {
    /// A command reached `state`, in the order of its shard's feed. Commands of others may be among them.
    pub fn change(&mut self, command: &str, state: ReceiptState) {
        let last = self.logged.get(command).copied();
        let follows = match last {
            None => state == ReceiptState::Accepted,
            Some(last) => last.precedes(state),
        };
        if !follows {
            self.violations.add(Violation::CommandOutOfOrder { command: command.to_owned(), last, next: state });
        }
        self.logged.insert(command.to_owned(), state);
    }

    /// Holds what the feed had shown against what it shows when it is `read_again`: what was there stays.
    pub fn compare(&self, read_again: &Self) -> Violations {
        let mut shown: Vec<(&String, &ReceiptState)> = self.logged.iter().collect();
        shown.sort();
        let mut violations = Violations::default();
        for (command, shown) in shown {
            let again = read_again.logged.get(command).copied();
            if again != Some(*shown) {
                violations.add(Violation::CommandShownOtherwise { command: command.clone(), shown: *shown, again });
            }
        }
        violations
    }

    /// Judges all of `issued` by what the feed has shown and the `deliveries` that devices noted. Demands at least
    /// `commands_min` accepted commands with an effect.
    pub fn conclude(
        mut self,
        issued: &[IssuedCommand],
        deliveries: &Deliveries,
        commands_min: u64,
    ) -> (Violations, CommandCounts) {
        let mut counts = CommandCounts { deliveries: deliveries.commands.len() as u64, ..CommandCounts::default() };
        let known: HashMap<&str, &IssuedCommand> =
            issued.iter().map(|command| (command.name.as_str(), command)).collect();
        self.judge_arrivals(deliveries, &known);
        let effects = self.effects(&deliveries.commands, &known);
        counts.executed = effects.len() as u64;
        let mut seen_through = 0;
        for command in issued {
            counts.issued += 1;
            self.judge_receipts(command);
            let logged = self.logged.get(&command.name).copied();
            let effect = effects.get(command.name.as_str());
            match (command.outcome, logged) {
                (IssueOutcome::Accepted, None) => {
                    self.violations.add(Violation::CommandLost { command: command.name.clone() });
                }
                (IssueOutcome::Refused, Some(_)) => {
                    self.violations.add(Violation::RefusedCommandApplied { command: command.name.clone() });
                }
                (IssueOutcome::Refused | IssueOutcome::Unknown, None) if effect.is_some() => {
                    self.violations.add(Violation::EffectWithoutCommand { command: command.name.clone() });
                }
                (IssueOutcome::Accepted | IssueOutcome::Unknown, Some(state)) => {
                    self.judge_end(command, state, effect);
                    counts.accepted += 1;
                    counts.succeeded += u64::from(state == ReceiptState::Succeeded);
                    counts.expired += u64::from(state == ReceiptState::Expired);
                    seen_through += u64::from(state.is_end() && effect.is_some());
                }
                (IssueOutcome::Refused | IssueOutcome::Unknown, None) => {}
            }
            counts.unknown += u64::from(command.outcome == IssueOutcome::Unknown);
        }
        self.violations.require("commands", "commands from their issue to their effect", seen_through, commands_min);
        (self.violations, counts)
    }

    /// What reaches a device, whatever it makes of it: a device that does not check for itself relies on this.
    fn judge_arrivals(&mut self, deliveries: &Deliveries, known: &HashMap<&str, &IssuedCommand>) {
        let mut epochs = Epochs::default();
        let mut desired = deliveries.desired.iter().peekable();
        for (place, delivery) in deliveries.commands.iter().enumerate() {
            while let Some(earlier) = desired.next_if(|desired| desired.behind <= place) {
                self.judge_desired(earlier, &mut epochs);
            }
            let DeliveredCommand { name, connection, shard, epoch, arrived_us, held_up_max_us, .. } = delivery;
            if let Some(highest) = epochs.see(*connection, *shard, *epoch) {
                let (command, epoch) = (name.clone(), *epoch);
                self.violations.add(Violation::DeliveredStale { command, shard: *shard, epoch, highest });
            }
            let Some(command) = known.get(name.as_str()) else {
                self.violations.add(Violation::DeliveredWithoutCommand { command: name.clone() });
                continue;
            };
            let late_max_us = CLOCK_BOUND_US + TRANSIT_MAX_US + held_up_max_us;
            let late_us = arrived_us - delivery.known_deadline_us(command);
            if late_us > late_max_us {
                self.violations.add(Violation::DeliveredLate { command: name.clone(), late_us });
            }
            let Some(end) = command.receipts.iter().find(|receipt| receipt.state.is_end()) else { continue };
            let late_us = arrived_us - end.seen_us;
            if late_us > late_max_us {
                self.violations.add(Violation::DeliveredAfterEnd { command: name.clone(), late_us });
            }
        }
        desired.for_each(|desired| self.judge_desired(desired, &mut epochs));
    }

    fn judge_desired(&mut self, desired: &DeliveredDesired, epochs: &mut Epochs) {
        let DeliveredDesired { device, connection, shard, epoch, .. } = desired;
        if let Some(highest) = epochs.see(*connection, *shard, *epoch) {
            let (device, epoch) = (device.clone(), *epoch);
            self.violations.add(Violation::DesiredStale { device, shard: *shard, epoch, highest });
        }
    }

    /// The effect of each command; a second one is a violation, as is one too late, or by the word of a deposed leader.
    fn effects<'d>(
        &mut self,
        deliveries: &'d [DeliveredCommand],
        known: &HashMap<&str, &IssuedCommand>,
    ) -> HashMap<&'d str, Effect> {
        let mut highest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut effects = HashMap::new();
        for delivery in deliveries {
            let DeliveredCommand { name, shard, epoch, arrived_us: at_us, deed, .. } = delivery;
            let highest = highest.entry(*shard).or_default();
            let Some(deed) = *deed else {
                *highest = (*highest).max(*epoch);
                continue;
            };
            if epoch < highest {
                let (command, highest, epoch) = (name.clone(), *highest, *epoch);
                self.violations.add(Violation::StaleDeliveryObeyed { command, shard: *shard, epoch, highest });
            }
            *highest = (*highest).max(*epoch);
            let Some(command) = known.get(name.as_str()) else {
                self.violations.add(Violation::EffectWithoutCommand { command: name.clone() });
                continue;
            };
            let effect = Effect { at_us: *at_us, deadline_us: delivery.known_deadline_us(command), deed };
            if effect.at_us > effect.deadline_us + CLOCK_BOUND_US {
                let late_us = effect.at_us - effect.deadline_us;
                self.violations.add(Violation::EffectLate { command: name.clone(), late_us });
            }
            if effects.insert(name.as_str(), effect).is_some() {
                self.violations.add(Violation::EffectRepeated { command: name.clone() });
            }
        }
        effects
    }

    fn judge_receipts(&mut self, command: &IssuedCommand) {
        let name = || command.name.clone();
        for pair in command.receipts.windows(2) {
            let (last, next) = (pair[0], pair[1]);
            if !last.state.precedes(next.state) || next.position <= last.position {
                self.violations.add(Violation::ReceiptWentBack { command: name(), last: last.state, next: next.state });
            }
        }
        let Some(last) = command.receipts.last() else { return };
        if last.state == ReceiptState::Expired && last.seen_us + CLOCK_BOUND_US < command.called_us + command.timeout_us
        {
            let early_us = command.called_us + command.timeout_us - last.seen_us;
            self.violations.add(Violation::ExpiredEarly { command: name(), early_us });
        }
        let logged = self.logged.get(&command.name).copied();
        if last.state.is_end() && logged != Some(last.state) {
            self.violations.add(Violation::ReceiptDiffers { command: name(), told: last.state, logged });
        }
    }

    /// Whether the command's end fits what its device did.
    fn judge_end(&mut self, command: &IssuedCommand, state: ReceiptState, effect: Option<&Effect>) {
        let deed = effect.map(|effect| effect.deed);
        let fits = match state {
            ReceiptState::Accepted | ReceiptState::Delivered => {
                return self.violations.add(Violation::CommandNotEnded { command: command.name.clone(), state });
            }
            ReceiptState::Succeeded => deed == Some(Deed::Done),
            ReceiptState::Failed => deed == Some(Deed::Failed),
            // It may have been on its way to the device.
            ReceiptState::Cancelled => true,
            // It may have been executed without being able to say so in time.
            ReceiptState::Expired => true,
        };
        if !fits {
            self.violations.add(Violation::ReceiptWithoutEffect { command: command.name.clone(), state });
        }
    }
}

#[cfg(test)]
mod tests;
