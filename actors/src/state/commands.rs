//! Commands and their receipts. 4 devices a page, so that full receipts of all of them stay below a page's bound.

use std::sync::Arc;

use kvarter_cluster::{DamagedBytes, LogIndex, PageContent};

use crate::state::page;
use crate::{DeviceNumber, message};

pub(crate) const PER_PAGE: u32 = 4;

/// A receipt is kept this long after its command ended, microseconds of shard time.
pub(crate) const RECEIPT_AGE_US: i64 = 3600 * 1_000_000;

/// Receipts that a device keeps.
pub(crate) const RECEIPTS_MAX: usize = 16;

/// Commands of a device that may be open at a time.
pub(crate) const OPEN_COMMANDS_MAX: usize = 8;

/// How far a command has come; never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandState {
    Accepted = 1,
    Delivered = 2,
    Succeeded = 3,
    Failed = 4,
    Expired = 5,
    /// Since cluster version 2.
    Cancelled = 6,
}

impl CommandState {
    pub fn from_message(state: u32) -> Option<Self> {
        [Self::Accepted, Self::Delivered, Self::Succeeded, Self::Failed, Self::Expired, Self::Cancelled]
            .into_iter()
            .find(|known| known.to_message() == state)
    }

    pub fn to_message(self) -> u32 {
        self as u32
    }

    pub fn is_ended(self) -> bool {
        self >= Self::Succeeded
    }
}

/// Where and when a change happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) index: LogIndex,
    pub(crate) ordinal: u32,
    pub(crate) time_us: i64,
}

impl message::CommandRecord {
    pub(crate) fn is_open(&self) -> bool {
        self.state < CommandState::Succeeded.to_message()
    }

    /// When the sweep must look at it: at its deadline, then when its receipt may go.
    fn due_us(&self) -> i64 {
        if self.is_open() { self.deadline_us } else { self.state_us.saturating_add(RECEIPT_AGE_US) }
    }

    /// The command of `device` as callers see it.
    pub fn to_command(&self, device: DeviceNumber) -> message::Command {
        message::Command {
            id: self.id.clone(),
            action: self.action.clone(),
            arguments: self.arguments.clone(),
            state: self.state,
            issued_us: self.issued_us,
            deadline_us: self.deadline_us,
            state_us: self.state_us,
            detail: self.detail.clone(),
            priority: self.priority,
            service: self.service.clone(),
            position: Some(message::LogPosition { index: self.index, ordinal: self.ordinal }),
            traceparent: self.traceparent.clone(),
            device: Some(device.0),
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct CommandsPage {
    /// In the order of their issue.
    commands: Vec<Arc<message::CommandRecord>>,
    /// Earliest due time of all; derived.
    due_us: Option<i64>,
}

impl CommandsPage {
    /// The earliest time at which the sweep has work in this page.
    pub(crate) fn due_us(&self) -> Option<i64> {
        self.due_us
    }

    /// Commands and receipts of the device in `slot`, in the order of their issue.
    pub(crate) fn of(&self, slot: usize) -> impl Iterator<Item = &message::CommandRecord> {
        self.commands.iter().map(AsRef::as_ref).filter(move |command| command.slot as usize == slot)
    }

    /// All commands of the page that are due.
    pub(crate) fn due(&self, now_us: i64) -> impl Iterator<Item = &message::CommandRecord> {
        self.commands.iter().map(AsRef::as_ref).filter(move |command| command.due_us() <= now_us)
    }

    pub(crate) fn find(&self, slot: usize, id: &str) -> Option<&message::CommandRecord> {
        self.of(slot).find(|command| command.id == id)
    }

    /// Adds a command, unless the id is known.
    pub(crate) fn issue(&mut self, command: message::CommandRecord) -> bool {
        if self.find(command.slot as usize, &command.id).is_some() {
            return false;
        }
        self.commands.push(Arc::new(command));
        self.update_due();
        true
    }

    /// Moves a command on; `false` when it is unknown, has ended or is further already.
    pub(crate) fn change(&mut self, slot: usize, change: &message::CommandChanged, moment: Moment) -> bool {
        let command = self.commands.iter_mut().find(|command| command.slot as usize == slot && command.id == change.id);
        let Some(command) = command else { return false };
        if !command.is_open() || change.state <= command.state || CommandState::from_message(change.state).is_none() {
            return false;
        }
        let command = Arc::make_mut(command);
        command.state = change.state;
        command.detail.clone_from(&change.detail);
        command.state_us = moment.time_us;
        command.index = moment.index.0;
        command.ordinal = moment.ordinal;
        self.update_due();
        true
    }

    pub(crate) fn forget(&mut self, slot: usize, id: &str) {
        self.commands.retain(|command| command.slot as usize != slot || command.id != id);
        self.update_due();
    }

    pub(crate) fn forget_all(&mut self, slot: usize) {
        self.commands.retain(|command| command.slot as usize != slot);
        self.update_due();
    }

    fn update_due(&mut self) {
        self.due_us = self.commands.iter().map(|command| command.due_us()).min();
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let decoded: message::CommandsPage = page::decode(bytes)?;
        page::check_format(decoded.format)?;
        if let Some(command) = decoded.commands.iter().find(|command| command.slot >= PER_PAGE) {
            return Err(page::damaged(format!("command in slot {}", command.slot)));
        }
        let mut result = Self { commands: decoded.commands.into_iter().map(Arc::new).collect(), due_us: None };
        result.update_due();
        Ok(result)
    }
}

impl PageContent for CommandsPage {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let commands = self.commands.iter().map(|command| message::CommandRecord::clone(command)).collect();
        page::append(&message::CommandsPage { format: page::FORMAT, commands }, buffer);
    }
}
