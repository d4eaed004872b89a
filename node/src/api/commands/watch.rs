//! Watching one command: as it is, and each change until it has ended, read from its shard's feed.

use std::time::Duration;

use kvarter_actors::message::{self, fact::Fact as Logged};
use kvarter_actors::{CallContext, City, CommandId, DeviceName, FeedEntry, ordinals};
use kvarter_api::v1::Command;
use kvarter_cluster::{LogIndex, ShardId};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::api::caller::DEADLINE_DEFAULT;
use crate::api::conversion::command;
use crate::api::{silence, status};

/// Before a feed that failed is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Reads in a row that nobody answers before the watcher hears of it: another node may do better.
const READ_FAILURES_MAX: u32 = 3;

/// A command on its way to a caller who watches it.
pub(crate) struct Watch {
    pub(crate) city: City,
    pub(crate) shard: ShardId,
    pub(crate) device: DeviceName,
    pub(crate) id: CommandId,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// The caller is gone.
struct Lost;

impl Watch {
    /// Sends `current` and each change, until the command has ended or the caller is gone; the status is for them.
    pub(crate) async fn run(self, mut current: message::Command) -> Option<Status> {
        if self.send(&current).await.is_err() {
            return None;
        }
        let mut failures = 0;
        while !command::is_final(current.state) {
            let followed = tokio::select! {
                () = self.commands.closed() => return None,
                () = silence::cut_off(&self.city, self.shard) => return Some(status::no_replica(self.shard)),
                followed = self.follow(&mut current) => followed,
            };
            if followed.is_err() {
                return None;
            }
            if command::is_final(current.state) {
                break;
            }
            // The feed failed, or does not reach back any more: what the command has become meanwhile is in its shard.
            sleep(RETRY_PAUSE).await;
            let context = CallContext { deadline: DEADLINE_DEFAULT, ..CallContext::default() };
            match super::read(&self.city, self.shard, &self.device, &self.id, context).await {
                Ok(read) if read.state != current.state => {
                    failures = 0;
                    current = read;
                    if self.send(&current).await.is_err() {
                        return None;
                    }
                }
                Ok(_) => failures = 0,
                Err(status) if status.code() == Code::NotFound || failures == READ_FAILURES_MAX => return Some(status),
                // No leader for the moment.
                Err(_) => failures += 1,
            }
        }
        None
    }

    /// Follows the feed behind the last change, until the command has ended or the feed fails.
    async fn follow(&self, current: &mut message::Command) -> Result<(), Lost> {
        let after = current.position.map_or(0, |position| position.index);
        let mut feed = self.city.feed(self.shard, LogIndex(after));
        while let Ok(entries) = feed.next().await {
            for changed in entries.iter().filter_map(|entry| change_in(entry, current)).collect::<Vec<_>>() {
                *current = changed;
                self.send(current).await?;
                if command::is_final(current.state) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn send(&self, current: &message::Command) -> Result<(), Lost> {
        let public = command::to_public(current.clone(), self.device.as_str(), self.shard);
        self.commands.send(public).await.map_err(|_gone| Lost)
    }
}

/// The command as the last of its changes in `entry` leaves it.
fn change_in(entry: &FeedEntry, current: &message::Command) -> Option<message::Command> {
    let mut ordinal = 0;
    let mut changed = None;
    for fact in &entry.facts.facts {
        if let Some(Logged::CommandChanged(change)) = &fact.fact
            && change.id == current.id
            // Ids are chosen by callers: those of two devices may be the same.
            && current.device.is_none_or(|device| device == change.device)
        {
            changed = Some(message::Command {
                state: change.state,
                detail: change.detail.clone(),
                state_us: entry.facts.time_us,
                position: Some(message::LogPosition { index: entry.index.0, ordinal }),
                ..current.clone()
            });
        }
        ordinal += ordinals(fact);
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(facts: Vec<Logged>) -> FeedEntry {
        let facts = facts.into_iter().map(|fact| message::Fact { fact: Some(fact) }).collect();
        FeedEntry { index: LogIndex(9), facts: Arc::new(message::Facts { time_us: 77, facts, ..Default::default() }) }
    }

    fn change(device: u32, id: &str, state: u32) -> Logged {
        Logged::CommandChanged(message::CommandChanged { device, id: id.to_owned(), state, ..Default::default() })
    }

    fn command(device: Option<u32>, id: &str) -> message::Command {
        message::Command { device, id: id.to_owned(), state: 1, action: "dim".to_owned(), ..Default::default() }
    }

    #[test]
    fn a_change_brings_its_position_and_time() {
        let readings = message::Readings { device: vec![0; 3], ..Default::default() };
        let reported = message::ReadingsReported { readings: Some(readings), ..Default::default() };
        let entry =
            entry(vec![Logged::ReadingsReported(reported), change(1, "b", 5), change(1, "a", 2), change(1, "a", 3)]);
        let changed = change_in(&entry, &command(Some(1), "a")).expect("a change");
        assert_eq!((changed.state, changed.state_us, changed.action.as_str()), (3, 77, "dim"));
        assert_eq!(changed.position, Some(message::LogPosition { index: 9, ordinal: 5 }));
    }

    #[test]
    fn changes_of_other_commands_are_passed_over() {
        assert_eq!(change_in(&entry(vec![change(1, "a", 3)]), &command(Some(1), "c")), None);
    }

    #[test]
    fn the_same_id_at_another_device_is_another_command() {
        let entry = entry(vec![change(1, "a", 2), change(2, "a", 3)]);
        let state = |device| change_in(&entry, &command(device, "a")).map(|changed| changed.state);
        assert_eq!((state(Some(1)), state(Some(2)), state(Some(7))), (Some(2), Some(3), None));
        assert_eq!(state(None), Some(3), "a program that does not tell the device");
    }
}
