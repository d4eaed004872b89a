//! One order to every device that a list shows, wave after wave.
//!
//! Nothing of it is kept here: the ids of the commands follow from the caller's key, so whoever repeats the call, here or on
//! another node, finds the commands that were issued and goes on behind them.

use std::time::Duration;

use futures::future::join_all;
use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, CommandId, DeviceName};
use kvarter_api::v1::issue_commands_progress::State;
use kvarter_api::v1::{
    Command, CommandState, IssueCommandsProgress, IssueCommandsRequest, IssueCommandsTotals, IssuedCommand,
};
use kvarter_cluster::ShardId;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::{Code, Status};
use xxhash_rust::xxh3::xxh3_128;

use super::watch::Watch;
use crate::api::caller::{DEADLINE_BATCH, DEADLINE_DEFAULT};
use crate::api::conversion::command;
use crate::api::twins::list::{self, Page, Selection};
use crate::api::{ask, name, status};

const WAVE_DEFAULT: u32 = 50;
const WAVE_MAX: u32 = 200;

/// How often a command is issued that is not, or perhaps not, accepted.
const ATTEMPTS_MAX: u32 = 6;
/// Before the next attempt, unless the shard says when.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// A command changes a handful of times.
const CHANGES_MAX: usize = 8;

/// An order to many devices, checked.
pub(crate) struct Bulk {
    city: City,
    context: CallContext,
    selection: Selection,
    order: message::IssueCommand,
    key: CommandId,
    wave_size: u32,
    failures_max: u64,
    is_dry_run: bool,
}

/// A device of a wave, and what became of its command.
enum Outcome {
    Dry,
    Ended(Command),
    Refused(String),
}

impl Bulk {
    pub(crate) fn from_public(
        city: &City,
        request: IssueCommandsRequest,
        context: CallContext,
    ) -> Result<Self, Status> {
        let catalog = city.catalog().borrow().clone();
        let known = catalog.kind(&request.kind);
        let kind = known.ok_or_else(|| status::invalid("kind", format!("there is no kind `{}`", request.kind)))?;
        let arguments = command::arguments_from_public(request.arguments, "arguments")?;
        let checked = kind.check_command(&request.action, &arguments);
        checked.map_err(|failure| status::of_failure(&failure))?;
        let key = CommandId::parse(&request.request_id);
        let wave_size = match request.wave_size {
            0 => WAVE_DEFAULT,
            1..=WAVE_MAX => request.wave_size,
            size => return Err(status::invalid("wave_size", format!("{size} is above {WAVE_MAX}"))),
        };
        Ok(Self {
            city: city.clone(),
            context,
            selection: Selection::from_public(&request.parent, request.kind, request.filter, None, &catalog)?,
            order: message::IssueCommand {
                action: request.action,
                arguments,
                timeout_ms: command::timeout_from_public(request.timeout, "timeout")?,
                priority: command::priority_from_public(request.priority, "priority")?,
                ..message::IssueCommand::default()
            },
            key: key.ok_or_else(|| status::invalid("request_id", "it is not `[A-Za-z0-9-]{1,64}`"))?,
            wave_size,
            failures_max: u64::from(request.failures_max),
            is_dry_run: request.dry_run,
        })
    }

    /// Sends the progress of each wave, until the last one has ended, too many commands have failed, or the caller is gone; the
    /// status is for them.
    pub(crate) async fn run(self, progress: mpsc::Sender<IssueCommandsProgress>) -> Option<Status> {
        let mut page_token = String::new();
        let mut said = IssueCommandsProgress::default();
        loop {
            let wave = tokio::select! {
                () = progress.closed() => return None,
                wave = self.wave(&page_token) => wave,
            };
            let (outcomes, next) = match wave {
                Ok(wave) => wave,
                // The waves before are issued, whatever became of this one.
                Err(status) if said.wave > 0 && !self.is_dry_run => return Some(broken_off(&status)),
                Err(status) => return Some(status),
            };
            let is_last = next.is_empty();
            page_token = next;
            if outcomes.is_empty() && !is_last {
                continue;
            }
            let mut totals = said.totals.unwrap_or_default();
            outcomes.iter().for_each(|(_, outcome)| count(&mut totals, outcome));
            let state = if totals.failed + totals.expired + totals.refused > self.failures_max {
                State::Halted
            } else if is_last {
                State::Completed
            } else {
                State::Running
            };
            said = IssueCommandsProgress {
                wave: said.wave + 1,
                commands: outcomes.into_iter().map(|(device, outcome)| to_public(&device, outcome)).collect(),
                totals: Some(totals),
                state: state.into(),
            };
            if progress.send(said.clone()).await.is_err() || state != State::Running {
                return None;
            }
        }
    }

    /// Issues the commands of a page and waits for their ends; with where the next page begins.
    async fn wave(&self, page_token: &str) -> Result<(Vec<(DeviceName, Outcome)>, String), Status> {
        let context = CallContext { deadline: DEADLINE_BATCH, ..self.context.clone() };
        let page = list::page(&self.city, &self.selection, page_token, self.wave_size, context).await?;
        let Page { twins, next_page_token, .. } = page;
        let devices = twins.into_iter().filter_map(|twin| {
            // The shard holds no malformed names.
            name::parse_device(&name::device(&twin.name), "name").ok()
        });
        let outcomes = devices.map(async |device| {
            let outcome = if self.is_dry_run { Outcome::Dry } else { self.command(&device).await? };
            Ok::<_, Status>((device, outcome))
        });
        let outcomes: Result<Vec<_>, _> = join_all(outcomes).await.into_iter().collect();
        Ok((outcomes.map_err(|status| broken_off(&status))?, next_page_token))
    }

    /// Issues the command for `device` and follows it to its end. It fails when that can not be followed from this node.
    async fn command(&self, device: &DeviceName) -> Result<Outcome, Status> {
        let id = format!("{:032x}", xxh3_128(format!("{}/{}", self.key.as_str(), device.as_str()).as_bytes()));
        let (Some(id), Some(shard)) = (CommandId::parse(&id), self.city.shard_of(device.district())) else {
            return Ok(Outcome::Refused(format!("the district of `{}` is gone", device.as_str())));
        };
        let issued = match self.issue(device, &id, shard).await {
            Ok(issued) => issued,
            Err(failure) if failure.reason() == FailureReason::Unknown => return Err(status::of_failure(&failure)),
            Err(failure) => return Ok(Outcome::Refused(failure.message)),
        };
        let (commands, mut changes) = mpsc::channel(CHANGES_MAX);
        let watch = Watch { city: self.city.clone(), shard, device: device.clone(), id: id.clone(), commands };
        let watched = watch.run(issued);
        let followed = async {
            let mut last = None;
            while let Some(changed) = changes.recv().await {
                last = Some(changed);
            }
            last
        };
        match futures::join!(watched, followed) {
            (None, Some(ended)) => Ok(Outcome::Ended(ended)),
            (None, None) => Ok(Outcome::Refused(format!("the command `{}` was not followed to its end", id.as_str()))),
            (Some(status), _) if status.code() == Code::NotFound => Ok(Outcome::Refused(status.message().to_owned())),
            (Some(status), _) => Err(status),
        }
    }

    /// Issues the command, or finds that it was. Once it may have been, only an answer of its shard says more than `UNKNOWN`.
    async fn issue(&self, device: &DeviceName, id: &CommandId, shard: ShardId) -> Result<message::Command, Failure> {
        let (mut attempts, mut unknown) = (0, None);
        loop {
            let (name, id) = (device.as_str().to_owned(), id.as_str().to_owned());
            let issue = shard_request::Request::IssueCommand(message::IssueCommand { name, id, ..self.order.clone() });
            let context = CallContext { deadline: DEADLINE_DEFAULT, ..self.context.clone() };
            let failure = match ask::try_ask(&self.city, shard, issue, context).await {
                Ok(Reply::CommandRead(message::CommandRead { command: Some(command) })) => return Ok(command),
                Ok(_) => Failure::new(FailureReason::Unknown, format!("{shard} gave an answer of another request")),
                Err(failure) => failure,
            };
            attempts += 1;
            // Under its id it is issued once, whatever the attempts before have done.
            let may_repeat = matches!(
                failure.reason(),
                FailureReason::NotLeader | FailureReason::Unknown | FailureReason::Overloaded | FailureReason::DiskFull
            );
            if !may_repeat {
                return Err(failure);
            }
            if attempts >= ATTEMPTS_MAX {
                return Err(unknown.unwrap_or(failure));
            }
            if failure.reason() == FailureReason::Unknown {
                unknown = Some(failure.clone());
            }
            sleep(ATTEMPT_PAUSE.max(Duration::from_millis(u64::from(failure.retry_after_ms)))).await;
        }
    }
}

/// What ends an order of which commands are issued. Repeated under its key, here or on another node, it goes on behind them.
fn broken_off(status: &Status) -> Status {
    status::unknown(format!("commands of the order were issued before it broke off: {}", status.message()))
}

fn count(totals: &mut IssueCommandsTotals, outcome: &Outcome) {
    totals.devices += 1;
    match outcome {
        Outcome::Dry => {}
        Outcome::Refused(_) => totals.refused += 1,
        Outcome::Ended(command) => match command.state() {
            CommandState::Succeeded => totals.succeeded += 1,
            CommandState::Failed => totals.failed += 1,
            CommandState::Expired => totals.expired += 1,
            CommandState::Cancelled => totals.cancelled += 1,
            // An end that this program does not know.
            CommandState::Accepted | CommandState::Delivered | CommandState::Unspecified => totals.refused += 1,
        },
    }
}

fn to_public(device: &DeviceName, outcome: Outcome) -> IssuedCommand {
    let issued = IssuedCommand { device: name::device(device.as_str()), ..IssuedCommand::default() };
    match outcome {
        Outcome::Dry => issued,
        Outcome::Refused(error) => IssuedCommand { error, ..issued },
        Outcome::Ended(ended) => IssuedCommand { command: Some(ended), ..issued },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_counted_once() {
        let ended = |state: i32| Outcome::Ended(Command { state, ..Command::default() });
        let mut totals = IssueCommandsTotals::default();
        for outcome in (3..=6).map(ended).chain([Outcome::Dry, Outcome::Refused(String::new()), ended(3)]) {
            count(&mut totals, &outcome);
        }
        let expected =
            IssueCommandsTotals { devices: 7, succeeded: 2, failed: 1, expired: 1, cancelled: 1, refused: 1 };
        assert_eq!(totals, expected);
    }
}
