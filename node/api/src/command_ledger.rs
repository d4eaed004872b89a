//! The device's half of a command's promise: an id is executed once, never after its deadline, and never for a shard's
//! deposed leader. Pure; the caller brings the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::name::DeviceName;
use crate::v1::{CommandAcknowledgement, CommandDelivery, CommandOutcome};

/// What to do with a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Execute it now, then tell the ledger with [`CommandLedger::complete`].
    Execute,
    /// It was executed before: send this again.
    Answer(CommandAcknowledgement),
    /// It is being executed; its acknowledgement will answer this delivery too.
    Executing,
    /// Do nothing, say nothing.
    Refuse(Refusal),
}

/// Why a delivery has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a delivery of epoch {epoch}, but the shard is at epoch {highest}")]
    StaleEpoch { epoch: u64, highest: u64 },
    #[error("the deadline has passed")]
    PastDeadline,
    #[error("a delivery without a deadline")]
    NoDeadline,
}

/// The commands of a gateway's devices, whatever streams they come by: when a stream has to be replaced, keep the ledger. What
/// was executed and not yet acknowledged is delivered again on the next stream, where devices may have other aliases.
///
/// Keeps an id until its deadline plus the bound of the clock's error, so it grows with the commands that are open at one
/// time, not with all there ever were.
#[derive(Debug)]
pub struct CommandLedger {
    clock_bound: Duration,
    /// Highest epoch seen of each shard.
    epochs: BTreeMap<u32, u64>,
    commands: BTreeMap<CommandKey, Execution>,
    /// When each command may be forgotten.
    expiries: BTreeSet<(SystemTime, CommandKey)>,
}

/// Ids are unique for a device alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CommandKey {
    device: DeviceName,
    id: String,
}

#[derive(Clone, Debug)]
enum Execution {
    Running,
    Done { outcome: CommandOutcome, detail: String },
}

impl CommandLedger {
    /// `clock_bound`: how far the device's clock may be from the cluster's.
    pub fn new(clock_bound: Duration) -> Self {
        Self { clock_bound, epochs: BTreeMap::new(), commands: BTreeMap::new(), expiries: BTreeSet::new() }
    }

    /// Decides on a delivery to `device` that arrives at `now`. Ask for each one, right before executing it.
    pub fn admit(&mut self, device: &DeviceName, delivery: &CommandDelivery, now: SystemTime) -> Admission {
        self.forget(now);
        if let Err(refusal) = self.fence(delivery.shard, delivery.epoch) {
            return Admission::Refuse(refusal);
        }
        let key = CommandKey { device: device.clone(), id: delivery.id.clone() };
        match self.commands.get(&key) {
            Some(Execution::Running) => return Admission::Executing,
            Some(Execution::Done { outcome, detail }) => {
                let (alias, id) = (delivery.alias, key.id);
                let (outcome, detail) = ((*outcome).into(), detail.clone());
                return Admission::Answer(CommandAcknowledgement { alias, id, outcome, detail });
            }
            None => {}
        }
        let Some(deadline) = delivery.deadline.and_then(|deadline| SystemTime::try_from(deadline).ok()) else {
            return Admission::Refuse(Refusal::NoDeadline);
        };
        if now > deadline {
            return Admission::Refuse(Refusal::PastDeadline);
        }
        let forget_at = deadline.checked_add(self.clock_bound).unwrap_or(deadline);
        self.expiries.insert((forget_at, key.clone()));
        self.commands.insert(key, Execution::Running);
        Admission::Execute
    }

    /// Stores the result of a command that `device` executed, and returns what to send on the stream that has the device under
    /// `alias` now. `detail` says why it failed; empty otherwise.
    pub fn complete(
        &mut self,
        device: &DeviceName,
        alias: u32,
        id: String,
        outcome: CommandOutcome,
        detail: String,
    ) -> CommandAcknowledgement {
        let key = CommandKey { device: device.clone(), id };
        // Once forgotten it can not be delivered again, so there is nothing to store.
        if let Some(execution) = self.commands.get_mut(&key) {
            *execution = Execution::Done { outcome, detail: detail.clone() };
        }
        CommandAcknowledgement { alias, id: key.id, outcome: outcome.into(), detail }
    }

    /// Whether a delivery of `shard` in `epoch` comes from its latest leader, as far as this ledger has seen; later ones of
    /// a lower epoch are refused. For what has no id, such as desired states.
    pub fn fence(&mut self, shard: u32, epoch: u64) -> Result<(), Refusal> {
        let highest = self.epochs.entry(shard).or_default();
        if epoch < *highest {
            return Err(Refusal::StaleEpoch { epoch, highest: *highest });
        }
        *highest = epoch;
        Ok(())
    }

    fn forget(&mut self, now: SystemTime) {
        while let Some((forget_at, _)) = self.expiries.first() {
            if *forget_at >= now {
                return;
            }
            if let Some((_, key)) = self.expiries.pop_first() {
                self.commands.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use prost_types::Timestamp;

    use super::*;

    const CLOCK_BOUND: Duration = Duration::from_millis(500);

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn lamp(number: u8) -> DeviceName {
        DeviceName::new("old-town", &format!("lamp-{number}")).expect("a well-formed name")
    }

    fn delivery(id: u8, epoch: u64, deadline: u64) -> CommandDelivery {
        CommandDelivery {
            alias: 4,
            id: id.to_string(),
            shard: 1,
            epoch,
            deadline: Some(Timestamp::from(at(deadline))),
            ..CommandDelivery::default()
        }
    }

    #[test]
    fn a_repeat_is_answered_with_the_stored_result() {
        let mut ledger = CommandLedger::new(CLOCK_BOUND);
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 3, 100), at(1)), Admission::Execute);
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 3, 100), at(2)), Admission::Executing);
        let result = ledger.complete(&lamp(1), 4, "1".to_owned(), CommandOutcome::Failed, "lamp broken".to_owned());
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 4, 100), at(3)), Admission::Answer(result));
    }

    #[test]
    fn a_deposed_leader_is_refused() {
        let mut ledger = CommandLedger::new(CLOCK_BOUND);
        assert_eq!(ledger.fence(1, 5), Ok(()));
        let stale = Refusal::StaleEpoch { epoch: 4, highest: 5 };
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 4, 100), at(1)), Admission::Refuse(stale));
        assert_eq!(ledger.fence(2, 1), Ok(()), "epochs are per shard");
    }

    #[test]
    fn devices_may_have_the_same_id() {
        let mut ledger = CommandLedger::new(CLOCK_BOUND);
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 1, 100), at(1)), Admission::Execute);
        let other = CommandDelivery { alias: 5, ..delivery(1, 1, 100) };
        assert_eq!(ledger.admit(&lamp(2), &other, at(1)), Admission::Execute);
    }

    #[test]
    fn a_command_that_comes_again_by_another_stream_is_answered_under_its_devices_new_alias() {
        let mut ledger = CommandLedger::new(CLOCK_BOUND);
        assert_eq!(ledger.admit(&lamp(1), &delivery(1, 1, 100), at(1)), Admission::Execute);
        assert_eq!(ledger.admit(&lamp(1), &delivery(2, 1, 100), at(1)), Admission::Execute);
        let said = ledger.complete(&lamp(1), 4, "1".to_owned(), CommandOutcome::Succeeded, String::new());
        // The stream is replaced before the acknowledgement arrives; on the next one another device is number 4.
        let again = |id: u8| CommandDelivery { alias: 7, ..delivery(id, 1, 100) };
        let answer = CommandAcknowledgement { alias: 7, ..said };
        assert_eq!(ledger.admit(&lamp(1), &again(1), at(2)), Admission::Answer(answer));
        assert_eq!(ledger.admit(&lamp(1), &again(2), at(2)), Admission::Executing);
        assert_eq!(ledger.admit(&lamp(2), &delivery(1, 1, 100), at(2)), Admission::Execute);
    }

    #[test]
    fn without_a_deadline_nothing_is_executed() {
        let mut ledger = CommandLedger::new(CLOCK_BOUND);
        let open = CommandDelivery { deadline: None, ..delivery(1, 1, 0) };
        assert_eq!(ledger.admit(&lamp(1), &open, at(1)), Admission::Refuse(Refusal::NoDeadline));
    }

    proptest! {
        #[test]
        fn whatever_is_delivered_an_id_is_executed_once_and_in_time(
            deliveries in prop::collection::vec((0_u8..5, 0_u64..4, 0_u64..3, any::<bool>()), 1..200),
        ) {
            let mut ledger = CommandLedger::new(CLOCK_BOUND);
            let mut executed = BTreeMap::new();
            let (mut now, mut highest) = (0, 0);
            for (id, epoch, step, completes) in deliveries {
                now += step;
                let deadline = u64::from(id) * 20;
                let admission = ledger.admit(&lamp(1), &delivery(id, epoch, deadline), at(now));
                if admission == Admission::Execute {
                    prop_assert!(now <= deadline, "{} was executed at {}", id, now);
                    prop_assert!(epoch >= highest);
                    prop_assert!(executed.insert(id, completes).is_none(), "{} was executed twice", id);
                    if completes {
                        ledger.complete(&lamp(1), 4, id.to_string(), CommandOutcome::Succeeded, String::new());
                    }
                }
                highest = highest.max(epoch);
            }
            ledger.forget(at(1_000));
            prop_assert!(ledger.commands.is_empty() && ledger.expiries.is_empty());
        }
    }
}
