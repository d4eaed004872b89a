//! Facts about commands and their receipts.

use crate::state::commands::{self, CommandState, Moment};
use crate::state::page;
use crate::{DeviceNumber, ShardState, message};

impl ShardState {
    pub(super) fn apply_command_issued(&mut self, moment: Moment, fact: &message::CommandIssued) {
        let number = DeviceNumber(fact.device);
        if self.device(number).is_none() {
            return;
        }
        let (number_of_page, _) = page::place(fact.device, commands::PER_PAGE);
        let record = message::CommandRecord {
            slot: fact.device % commands::PER_PAGE,
            id: fact.id.clone(),
            action: fact.action.clone(),
            arguments: fact.arguments.clone(),
            state: CommandState::Accepted.to_message(),
            issued_us: moment.time_us,
            deadline_us: fact.deadline_us,
            state_us: moment.time_us,
            detail: String::new(),
            priority: fact.priority,
            service: fact.service.clone(),
            traceparent: fact.traceparent.clone(),
            index: moment.index.0,
            ordinal: moment.ordinal,
        };
        let page = self.commands.page_mut(number_of_page, moment.index);
        if page.issue(record) {
            let counters = &mut self.header_mut(moment.index).counters;
            counters.commands_issued += 1;
            counters.commands_open += 1;
            self.raise_version(number, moment.index);
        }
    }

    pub(super) fn apply_command_changed(&mut self, moment: Moment, fact: &message::CommandChanged) {
        let (number_of_page, slot) = page::place(fact.device, commands::PER_PAGE);
        if self.commands.page(number_of_page).is_none_or(|page| page.find(slot, &fact.id).is_none()) {
            return;
        }
        if !self.commands.page_mut(number_of_page, moment.index).change(slot, fact, moment) {
            return;
        }
        let state = CommandState::from_message(fact.state);
        let counters = &mut self.header_mut(moment.index).counters;
        if state == Some(CommandState::Succeeded) {
            counters.commands_succeeded += 1;
        }
        if state.is_some_and(CommandState::is_ended) {
            counters.commands_open = counters.commands_open.saturating_sub(1);
        }
        self.raise_version(DeviceNumber(fact.device), moment.index);
    }

    pub(super) fn apply_command_forgotten(&mut self, moment: Moment, fact: &message::CommandForgotten) {
        let (number_of_page, slot) = page::place(fact.device, commands::PER_PAGE);
        if self.commands.page(number_of_page).is_some_and(|page| page.find(slot, &fact.id).is_some()) {
            self.commands.page_mut(number_of_page, moment.index).forget(slot, &fact.id);
        }
    }
}
