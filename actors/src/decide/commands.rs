//! Issuing commands, and what becomes of them.

use std::time::Duration;

use crate::decide::{Decider, Effect};
use crate::kind::{CommandKind, Kind};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::state::CommandState;
use crate::state::commands::{OPEN_COMMANDS_MAX, RECEIPTS_MAX};
use crate::{CommandId, DeviceNumber};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

const PRIORITY_MAX: u32 = 5;

/// Acknowledgements of one request: bounds the entry.
const ACKNOWLEDGEMENTS_MAX: usize = 1_000;

/// Longest detail of a receipt.
const DETAIL_BYTES_MAX: usize = 256;

/// Longest texts of a command's arguments together: receipts are kept in pages of bounded size.
const ARGUMENT_BYTES_MAX: usize = 256;

/// A command before it is checked.
pub(super) struct Order<'o> {
    pub(super) device: DeviceNumber,
    pub(super) id: &'o CommandId,
    pub(super) action: &'o str,
    pub(super) arguments: &'o [message::Argument],
    /// Zero: the default.
    pub(super) timeout: Duration,
    /// Zero: the default.
    pub(super) priority: u32,
    /// `{district}/{service}`, empty for callers of the API.
    pub(super) service: &'o str,
    pub(super) traceparent: &'o str,
}

impl Decider<'_> {
    pub(super) fn issue_command(
        &mut self,
        request: &message::IssueCommand,
        traceparent: &str,
    ) -> Result<Reply, Failure> {
        let device = self.scratch.find(&request.name).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let id = CommandId::parse(&request.id)
            .ok_or_else(|| Failure::invalid("id", "a command's id must match [A-Za-z0-9-]{1,64}"))?;
        self.order(&Order {
            device,
            id: &id,
            action: &request.action,
            arguments: &request.arguments,
            timeout: Duration::from_millis(u64::from(request.timeout_ms)),
            priority: request.priority,
            service: "",
            traceparent,
        })?;
        let command = self.scratch.device(device).and_then(|device| device.command(id.as_str()));
        Ok(Reply::CommandRead(message::CommandRead { command: command.map(|command| command.to_command(device)) }))
    }

    /// Issues a command; one whose id the device has already is left as it is.
    pub(super) fn order(&mut self, order: &Order<'_>) -> Result<(), Failure> {
        let device = self
            .scratch
            .device(order.device)
            .ok_or_else(|| Failure::new(FailureReason::NotFound, format!("{} is not registered", order.device)))?;
        if device.command(order.id.as_str()).is_some() {
            return Ok(());
        }
        if device.open_commands().count() >= OPEN_COMMANDS_MAX {
            let text = format!("device `{}` has {OPEN_COMMANDS_MAX} open commands, its limit", device.name());
            return Err(Failure::new(FailureReason::Limit, text));
        }
        let kind_name = device.kind().to_owned();
        let kind = self.kind_of(order.device).ok_or_else(|| {
            Failure::new(FailureReason::NotFound, format!("kind `{kind_name}` is not in the catalog"))
        })?;
        let arguments = kind.check_command(order.action, order.arguments)?;
        let timeout = if order.timeout.is_zero() { TIMEOUT_DEFAULT } else { order.timeout };
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
            return Err(Failure::invalid("timeout", "a timeout lies between 1 s and 24 h"));
        }
        if order.priority > PRIORITY_MAX {
            return Err(Failure::invalid("priority", format!("priority {} is not known", order.priority)));
        }
        let timeout_us = i64::try_from(timeout.as_micros()).expect("a timeout is at most a day");
        self.push(fact::Fact::CommandIssued(message::CommandIssued {
            device: order.device.0,
            id: order.id.as_str().to_owned(),
            action: order.action.to_owned(),
            arguments,
            deadline_us: self.now.0.saturating_add(timeout_us),
            priority: if order.priority == 0 { PRIORITY_MAX } else { order.priority },
            service: order.service.to_owned(),
            traceparent: order.traceparent.to_owned(),
        }));
        self.effects.push(Effect::Activate(order.device));
        Ok(())
    }

    pub(super) fn acknowledge_commands(&mut self, request: &message::AcknowledgeCommands) -> Result<Reply, Failure> {
        if request.acknowledgements.len() > ACKNOWLEDGEMENTS_MAX {
            let text = format!("more than {ACKNOWLEDGEMENTS_MAX} acknowledgements in one request");
            return Err(Failure::invalid("acknowledgements", text));
        }
        let facts_before = self.facts.len();
        for acknowledgement in &request.acknowledgements {
            let state = match acknowledgement.outcome {
                1 => CommandState::Succeeded,
                2 => CommandState::Failed,
                _ => continue,
            };
            let detail = truncate(&acknowledgement.detail, DETAIL_BYTES_MAX);
            self.end_command(DeviceNumber(acknowledgement.device), &acknowledgement.id, state, detail);
        }
        let is_changed = self.facts.len() > facts_before;
        let position = is_changed.then(|| message::LogPosition { index: 0, ordinal: self.ordinal.saturating_sub(1) });
        Ok(Reply::Done(message::Done { position }))
    }

    /// Ends a command that no gateway has taken yet. One that was delivered, or has ended, is left as it is.
    pub(super) fn cancel_command(&mut self, request: &message::CancelCommand) -> Result<Reply, Failure> {
        let number = self.scratch.find(&request.name).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let current = |decider: &Self| -> Option<message::Command> {
            Some(decider.scratch.device(number)?.command(&request.id)?.to_command(number))
        };
        let mut command = current(self).ok_or_else(|| Failure::command_not_found(&request.name, &request.id))?;
        if command.state == CommandState::Accepted.to_message() {
            self.end_command(number, &request.id, CommandState::Cancelled, "");
            // Its own receipt is never the oldest.
            command = current(self).unwrap_or(command);
        }
        Ok(Reply::CommandRead(message::CommandRead { command: Some(command) }))
    }

    /// Notes that commands reached the gateway of their device; those that went on since are left as they are.
    pub fn mark_delivered<'d>(&mut self, delivered: impl IntoIterator<Item = (DeviceNumber, &'d str)>) {
        for (device, id) in delivered {
            let command = self.scratch.device(device).and_then(|device| device.command(id));
            if command.is_some_and(|command| command.state == CommandState::Accepted.to_message()) {
                self.change_command(device, id, CommandState::Delivered, "");
            }
        }
    }

    /// Ends a command that is open, and forgets the device's oldest receipt when it has too many.
    pub(super) fn end_command(&mut self, number: DeviceNumber, id: &str, state: CommandState, detail: &str) {
        let command = self.scratch.device(number).and_then(|device| device.command(id));
        if !command.is_some_and(message::CommandRecord::is_open) {
            return;
        }
        self.change_command(number, id, state, detail);
        self.effects.push(Effect::CommandEnded { device: number, id: id.to_owned() });
        let Some(device) = self.scratch.device(number) else { return };
        let receipts = || device.commands().filter(|command| !command.is_open());
        if receipts().count() > RECEIPTS_MAX
            && let Some(oldest) = receipts().min_by_key(|receipt| receipt.state_us).map(|receipt| receipt.id.clone())
        {
            self.forget_command(number, oldest);
        }
    }

    pub(super) fn forget_command(&mut self, device: DeviceNumber, id: String) {
        self.push(fact::Fact::CommandForgotten(message::CommandForgotten { device: device.0, id }));
    }

    fn change_command(&mut self, device: DeviceNumber, id: &str, state: CommandState, detail: &str) {
        // What becomes of a command belongs to the trace of whoever issued it.
        let command = self.scratch.device(device).and_then(|device| device.command(id));
        if let Some(traceparent) = command.map(|command| command.traceparent.clone()) {
            self.trace(&traceparent);
        }
        self.push(fact::Fact::CommandChanged(message::CommandChanged {
            device: device.0,
            id: id.to_owned(),
            state: state.to_message(),
            detail: detail.to_owned(),
        }));
    }
}

impl Kind {
    /// The arguments of a command of this kind, in the order and of the types that the kind declares. `INVALID`: it has no such
    /// command, or they do not fit.
    pub fn check_command(
        &self,
        action: &str,
        arguments: &[message::Argument],
    ) -> Result<Vec<message::Argument>, Failure> {
        let command = self.command(action).ok_or_else(|| {
            let known: Vec<_> = self.commands.iter().map(|command| command.name.as_str()).collect();
            let text = format!("a {} has no command `{action}`, but: {}", self.name, known.join(", "));
            Failure::invalid("action", text)
        })?;
        check_arguments(command, arguments).map_err(|text| Failure::invalid("arguments", text))
    }
}

fn check_arguments(command: &CommandKind, given: &[message::Argument]) -> Result<Vec<message::Argument>, String> {
    let is_declared = |name: &str| command.arguments.iter().any(|declared| declared.name == name);
    if let Some(unknown) = given.iter().find(|argument| !is_declared(&argument.name)) {
        return Err(format!("`{}` has no argument `{}`", command.name, unknown.name));
    }
    let mut arguments = Vec::with_capacity(command.arguments.len());
    let mut text_bytes = 0;
    for declared in &command.arguments {
        let mut named = given.iter().filter(|argument| argument.name == declared.name);
        let argument = named.next().ok_or_else(|| format!("`{}` needs `{}`", command.name, declared.name))?;
        if named.next().is_some() {
            return Err(format!("`{}` is given twice", declared.name));
        }
        let value = declared.accept(argument.value.as_ref())?;
        if let crate::value::Value::Text(text) = &value {
            text_bytes += text.len();
        }
        arguments.push(message::Argument { name: declared.name.clone(), value: Some(value.to_message()) });
    }
    if text_bytes > ARGUMENT_BYTES_MAX {
        return Err(format!("texts above {ARGUMENT_BYTES_MAX} bytes together"));
    }
    Ok(arguments)
}

/// The longest beginning of `text` with at most `bytes_max` bytes.
fn truncate(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}
