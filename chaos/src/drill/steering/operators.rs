//! Operators: each orders one device about, one command after the other, watches every command to its end, and finds out about
//! calls whose outcome they were not told.
use std::time::Duration;

use kvarter_api::v1::{Argument, Command, CommandState, IssueCommandRequest, Value, value};
use kvarter_api::{ApiError, Client, CommandName, DeviceName};
use kvarter_simulator::wall_clock;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::SETPOINT_MIN;
use crate::check::{FeedPosition, IssueOutcome, IssuedCommand, Receipt, ReceiptState};

const ACTION: &str = "set_temperature";
const ARGUMENT: &str = "setpoint";
/// Between the end of one command and the next.
const PAUSE: Duration = Duration::from_millis(150);
/// Taken in turn. The shortest that there is ends in the middle of most faults.
const TIMEOUTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];
/// How long an operator tries to find out what became of a call.
const RESOLVE_MAX: Duration = Duration::from_secs(60);
const RESOLVE_INTERVAL: Duration = Duration::from_millis(200);
/// How long after its deadline a command's end is waited for.
const END_MAX: Duration = Duration::from_secs(60);

pub(super) struct Operator {
    pub(super) client: Client,
    pub(super) device: DeviceName,
    /// Begins the ids of its commands.
    pub(super) ids: String,
}

impl Operator {
    /// Works until `stop`, and sees its last command through.
    pub(super) async fn work(self, stop: CancellationToken) -> Vec<IssuedCommand> {
        let mut issued = Vec::new();
        while !stop.is_cancelled() {
            issued.push(self.order(issued.len()).await);
            stop.run_until_cancelled(sleep(PAUSE)).await;
        }
        issued
    }

    async fn order(&self, number: usize) -> IssuedCommand {
        let id = format!("{}-{number}", self.ids);
        let timeout = TIMEOUTS[number % TIMEOUTS.len()];
        let steps = u32::try_from(number % 200).unwrap_or(0);
        let setpoint = value::Kind::Number(SETPOINT_MIN + f64::from(steps) / 10.0);
        let request = IssueCommandRequest {
            device: self.device.to_string(),
            action: ACTION.to_owned(),
            arguments: vec![Argument { name: ARGUMENT.to_owned(), value: Some(Value { kind: Some(setpoint) }) }],
            timeout: prost_types::Duration::try_from(timeout).ok(),
            request_id: id.clone(),
            ..IssueCommandRequest::default()
        };
        let name: CommandName = format!("{}/commands/{id}", self.device).parse().expect("a name made of names");
        let called_us = now_us();
        let outcome = match self.client.issue_command(request.clone()).await {
            Ok(_) => IssueOutcome::Accepted,
            Err(ApiError::NotApplied { .. } | ApiError::Rejected { .. }) => IssueOutcome::Refused,
            // One half asks again under the same id, the other half looks.
            Err(ApiError::Unknown { .. }) if number.is_multiple_of(2) => self.repeat(&request).await,
            Err(ApiError::Unknown { .. }) => self.look(&name).await,
        };
        let answered_us = now_us();
        let receipts = match outcome {
            IssueOutcome::Accepted => self.watch(&name, timeout + END_MAX).await,
            IssueOutcome::Refused | IssueOutcome::Unknown => Vec::new(),
        };
        let timeout_us = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
        IssuedCommand { name: name.into(), called_us, answered_us, timeout_us, outcome, receipts }
    }

    /// Issues the same command until it is known to be there; one that is refused now may be there from before.
    async fn repeat(&self, request: &IssueCommandRequest) -> IssueOutcome {
        let give_up = Instant::now() + RESOLVE_MAX;
        while Instant::now() < give_up {
            if self.client.issue_command(request.clone()).await.is_ok() {
                return IssueOutcome::Accepted;
            }
            sleep(RESOLVE_INTERVAL).await;
        }
        IssueOutcome::Unknown
    }

    /// One that is not found may still come.
    async fn look(&self, name: &CommandName) -> IssueOutcome {
        let give_up = Instant::now() + RESOLVE_MAX;
        while Instant::now() < give_up {
            match self.client.command(name).await {
                Ok(_) => return IssueOutcome::Accepted,
                Err(error) if error.is_not_found() => return IssueOutcome::Unknown,
                Err(_) => sleep(RESOLVE_INTERVAL).await,
            }
        }
        IssueOutcome::Unknown
    }

    /// Notes each receipt until the command has ended, at most for `patience`.
    async fn watch(&self, name: &CommandName, patience: Duration) -> Vec<Receipt> {
        let give_up = Instant::now() + patience;
        let mut watch = self.client.watch_command(name);
        let mut receipts = Vec::new();
        // A watch that fails leaves the end to the feed.
        while let Ok(Ok(Some(command))) = timeout_at(give_up, watch.next()).await {
            receipts.extend(receipt(&command));
        }
        receipts
    }
}

fn receipt(command: &Command) -> Option<Receipt> {
    let position = command.position?;
    let position = FeedPosition { index: position.index, ordinal: position.ordinal };
    Some(Receipt { state: receipt_state(command.state())?, position, seen_us: now_us() })
}

pub(in crate::drill) fn receipt_state(state: CommandState) -> Option<ReceiptState> {
    match state {
        CommandState::Unspecified => None,
        CommandState::Accepted => Some(ReceiptState::Accepted),
        CommandState::Delivered => Some(ReceiptState::Delivered),
        CommandState::Succeeded => Some(ReceiptState::Succeeded),
        CommandState::Failed => Some(ReceiptState::Failed),
        CommandState::Expired => Some(ReceiptState::Expired),
        CommandState::Cancelled => Some(ReceiptState::Cancelled),
    }
}

fn now_us() -> i64 {
    wall_clock().as_microsecond()
}
