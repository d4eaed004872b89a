//! Commands: their states and priorities, and what travels to devices.

use std::time::Duration;

use kvarter_actors::{CommandState, message};
use kvarter_api::v1;
use kvarter_cluster::ShardId;
use tonic::Status;

use super::{position, timestamp, timestamp_if_any, value};
use crate::api::{name, status};

/// When the caller names no time.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Arguments that one command takes at most, whatever its kind.
const ARGUMENTS_MAX: usize = 64;

/// `device` is `{district}/{device}`.
pub(crate) fn to_public(command: message::Command, device: &str, shard: ShardId) -> v1::Command {
    v1::Command {
        name: name::command(device, &command.id),
        action: command.action,
        arguments: arguments_to_public(command.arguments),
        state: state_to_public(command.state).into(),
        issue_time: timestamp_if_any(command.issued_us),
        deadline: timestamp_if_any(command.deadline_us),
        state_time: timestamp_if_any(command.state_us),
        detail: command.detail,
        priority: priority_to_public(command.priority).into(),
        position: command.position.map(|at| position(shard, at)),
    }
}

pub(crate) fn state_to_public(state: u32) -> v1::CommandState {
    match CommandState::from_message(state) {
        None => v1::CommandState::Unspecified,
        Some(CommandState::Accepted) => v1::CommandState::Accepted,
        Some(CommandState::Delivered) => v1::CommandState::Delivered,
        Some(CommandState::Succeeded) => v1::CommandState::Succeeded,
        Some(CommandState::Failed) => v1::CommandState::Failed,
        Some(CommandState::Expired) => v1::CommandState::Expired,
        Some(CommandState::Cancelled) => v1::CommandState::Cancelled,
    }
}

/// Whether a command in this state never changes again.
pub(crate) fn is_final(state: u32) -> bool {
    CommandState::from_message(state).is_some_and(CommandState::is_ended)
}

fn priority_to_public(priority: u32) -> v1::CommandPriority {
    match priority {
        1 => v1::CommandPriority::Emergency,
        2 => v1::CommandPriority::Operator,
        3 => v1::CommandPriority::Service,
        4 => v1::CommandPriority::Schedule,
        5 => v1::CommandPriority::Default,
        _ => v1::CommandPriority::Unspecified,
    }
}

/// The priority of a request; absent means default.
pub(crate) fn priority_from_public(priority: i32, field: &str) -> Result<u32, Status> {
    let unknown = |_| status::invalid(field, format!("{priority} is no priority"));
    Ok(match v1::CommandPriority::try_from(priority).map_err(unknown)? {
        v1::CommandPriority::Emergency => 1,
        v1::CommandPriority::Operator => 2,
        v1::CommandPriority::Service => 3,
        v1::CommandPriority::Schedule => 4,
        v1::CommandPriority::Unspecified | v1::CommandPriority::Default => 5,
    })
}

/// The time of a request in milliseconds, rounded up; 30 s when absent.
pub(crate) fn timeout_from_public(timeout: Option<prost_types::Duration>, field: &str) -> Result<u32, Status> {
    let Some(timeout) = timeout else { return Ok(milliseconds(TIMEOUT_DEFAULT)) };
    let duration = Duration::try_from(timeout).ok().filter(|duration| (TIMEOUT_MIN..=TIMEOUT_MAX).contains(duration));
    let wrong = || status::invalid(field, format!("{timeout} is not between 1 s and 24 h"));
    duration.map(milliseconds).ok_or_else(wrong)
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).expect("at most a day")
}

pub(crate) fn arguments_to_public(arguments: Vec<message::Argument>) -> Vec<v1::Argument> {
    let to_public =
        |argument: message::Argument| v1::Argument { name: argument.name, value: argument.value.map(value::to_public) };
    arguments.into_iter().map(to_public).collect()
}

pub(crate) fn arguments_from_public(
    arguments: Vec<v1::Argument>,
    field: &str,
) -> Result<Vec<message::Argument>, Status> {
    if arguments.len() > ARGUMENTS_MAX {
        let problem = format!("{} arguments, at most {ARGUMENTS_MAX} are allowed", arguments.len());
        return Err(status::invalid(field, problem));
    }
    let from_public = |(index, argument): (usize, v1::Argument)| {
        let value = value::from_public(argument.value, &format!("{field}[{index}].value"))?;
        Ok(message::Argument { name: argument.name, value: Some(value) })
    };
    arguments.into_iter().enumerate().map(from_public).collect()
}

/// A command on its way to the device under `alias`.
pub(crate) fn delivery(
    command: message::CommandDelivery,
    alias: u32,
    shard: ShardId,
    epoch: u64,
) -> v1::CommandDelivery {
    v1::CommandDelivery {
        alias,
        id: command.id,
        action: command.action,
        arguments: arguments_to_public(command.arguments),
        deadline: Some(timestamp(command.deadline_us)),
        shard: shard.0,
        epoch,
        traceparent: command.traceparent,
    }
}

/// Desired attributes on their way to the device under `alias`.
pub(crate) fn desired(desired: message::DesiredDelivery, alias: u32, shard: ShardId, epoch: u64) -> v1::DesiredState {
    let to_public = |desired: message::DesiredAttribute| v1::DesiredAttribute {
        attribute: desired.attribute,
        value: desired.value.map(value::to_public),
    };
    let attributes = desired.attributes.into_iter().map(to_public).collect();
    v1::DesiredState { alias, attributes, shard: shard.0, epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_and_states_keep_their_meaning() {
        for number in 1..=5 {
            let public = priority_to_public(number);
            assert_eq!(priority_from_public(public.into(), "priority").expect("a priority"), number);
            assert_eq!(state_to_public(number) as u32, number);
        }
        assert_eq!(priority_from_public(0, "priority").expect("the default"), 5);
        assert!(priority_from_public(99, "priority").is_err());
    }

    #[test]
    fn a_command_ends_once() {
        assert_eq!((1..=6).map(is_final).collect::<Vec<_>>(), [false, false, true, true, true, true]);
    }

    #[test]
    fn timeouts_have_bounds() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 1 });
        assert_eq!(timeout_from_public(None, "timeout").expect("the default"), 30_000);
        assert_eq!(timeout_from_public(seconds(2), "timeout").expect("in bounds"), 2_001);
        for wrong in [seconds(0), seconds(-5), seconds(24 * 3600), seconds(i64::MAX)] {
            assert!(timeout_from_public(wrong, "timeout").is_err());
        }
    }
}
