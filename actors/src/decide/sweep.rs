//! What time does: commands expire, receipts and streams go.

use crate::decide::{Decider, Effect};
use crate::message::{self, fact};
use crate::state::CommandState;
use crate::state::commands::RECEIPT_AGE_US;

impl Decider<'_> {
    /// Expires commands past their deadline and streams past their age, and forgets old receipts; at most about
    /// `facts_max` facts, the rest is for the next sweep.
    pub fn sweep(&mut self, facts_max: usize) -> Vec<Effect> {
        let facts_before = self.facts.len();
        let due: Vec<_> = self
            .scratch
            .commands_due(self.now)
            .take(facts_max)
            .map(|(device, command)| (device, command.id.clone(), command.is_open(), command.state_us))
            .collect();
        for (device, id, is_open, state_us) in due {
            if is_open {
                self.end_command(device, &id, CommandState::Expired, "not executed before its deadline");
            } else if state_us.saturating_add(RECEIPT_AGE_US) <= self.now.0
                // Expiring a command above may have forgotten this receipt already.
                && self.scratch.device(device).is_some_and(|device| device.command(&id).is_some())
            {
                self.forget_command(device, id);
            }
        }
        let streams: Vec<_> = self
            .scratch
            .streams_to_expire(self.now, self.limits.stream_age_max)
            .take(facts_max.saturating_sub(self.facts.len() - facts_before))
            .collect();
        for stream in streams {
            self.push(fact::Fact::StreamExpired(message::StreamExpired { stream: stream.to_message() }));
        }
        std::mem::take(&mut self.effects)
    }
}
