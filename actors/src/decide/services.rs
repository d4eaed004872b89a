//! Steps of services, and their modes.

use std::time::Duration;

use bytes::Bytes;

use crate::decide::commands::Order;
use crate::decide::{Decider, Effect};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::state::{SERVICE_STATE_BYTES_MAX, ServiceMode};
use crate::{CommandId, DeviceNumber};

/// Commands of one step: bounds the entry.
pub const STEP_COMMANDS_MAX: usize = 2_000;

/// What a service wants to commit: compare and set by its cursor.
#[derive(Clone, Debug)]
pub struct ServiceStep {
    /// `{district}/{service}`
    pub service: String,
    /// The cursor that the service read on from; zeros before its first step.
    pub expected: message::LogPosition,
    /// The last fact that it has seen now.
    pub cursor: message::LogPosition,
    /// `None`: unchanged.
    pub state: Option<Bytes>,
    /// At most [`STEP_COMMANDS_MAX`].
    pub commands: Vec<ServiceCommand>,
}

/// A command of a service to a device of its shard.
#[derive(Clone, Debug)]
pub struct ServiceCommand {
    pub device: DeviceNumber,
    /// The same when the step is made again.
    pub id: CommandId,
    pub action: String,
    pub arguments: Vec<message::Argument>,
    pub timeout: Duration,
    /// 1 to 5; zero: the default.
    pub priority: u32,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDecision {
    /// Commands that the shard refused, by their place in the step; the rest was issued.
    pub refused: Vec<(usize, Failure)>,
    pub effects: Vec<Effect>,
}

/// Why a step was not taken; it changed nothing.
///
/// Only the first is news to a service that runs; the others are its own faults.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    #[error("service `{service}` stands at ({}, {})", cursor.index, cursor.ordinal)]
    CursorMoved { service: String, cursor: message::LogPosition },
    #[error("service `{service}` has a state of {bytes} bytes, at most {SERVICE_STATE_BYTES_MAX} are kept")]
    StateTooLarge { service: String, bytes: usize },
    #[error("service `{service}` issues {commands} commands in a step, at most {STEP_COMMANDS_MAX} go in")]
    TooManyCommands { service: String, commands: usize },
    #[error("deciding a step of service `{service}` panicked")]
    Defect { service: String },
}

impl Decider<'_> {
    pub fn step_service(&mut self, step: &ServiceStep) -> Result<StepDecision, StepError> {
        let cursor = self.scratch.service(&step.service).map(|service| service.cursor).unwrap_or_default();
        if cursor != step.expected {
            return Err(StepError::CursorMoved { service: step.service.clone(), cursor });
        }
        if let Some(bytes) = step.state.as_ref().map(Bytes::len).filter(|bytes| *bytes > SERVICE_STATE_BYTES_MAX) {
            return Err(StepError::StateTooLarge { service: step.service.clone(), bytes });
        }
        if step.commands.len() > STEP_COMMANDS_MAX {
            let (service, commands) = (step.service.clone(), step.commands.len());
            return Err(StepError::TooManyCommands { service, commands });
        }
        self.push(fact::Fact::ServiceStepped(message::ServiceStepped {
            service: step.service.clone(),
            cursor_index: step.cursor.index,
            cursor_ordinal: step.cursor.ordinal,
            state: step.state.clone(),
        }));
        let mut refused = Vec::new();
        for (place, command) in step.commands.iter().enumerate() {
            let order = Order {
                device: command.device,
                id: &command.id,
                action: &command.action,
                arguments: &command.arguments,
                timeout: command.timeout,
                priority: command.priority,
                service: &step.service,
                traceparent: "",
            };
            if let Err(failure) = self.order(&order) {
                refused.push((place, failure));
            }
        }
        Ok(StepDecision { refused, effects: std::mem::take(&mut self.effects) })
    }

    pub(super) fn set_service_mode(&mut self, request: &message::SetServiceMode) -> Result<Reply, Failure> {
        let mode = ServiceMode::from_message(request.mode)
            .ok_or_else(|| Failure::invalid("mode", format!("mode {} is not known", request.mode)))?;
        let service = self.scratch.service(&request.service).ok_or_else(|| {
            Failure::new(FailureReason::NotFound, format!("service `{}` does not run", request.service))
        })?;
        let position = (service.mode != mode).then(|| {
            let set = message::ServiceModeSet { service: request.service.clone(), mode: request.mode };
            self.push(fact::Fact::ServiceModeSet(set))
        });
        Ok(Reply::Done(message::Done { position }))
    }
}
