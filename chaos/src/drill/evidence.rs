//! Collects what the checkers judge, the twins and the replicas' hashes, and has them judge it and what was read of the feed.
use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::{Client, TwinSelection};
use kvarter_simulator::{Ledger, LoadPlan};
use tokio::time::{Instant, sleep};

use super::health::Health;
use super::steering::SteeringHistory;
use super::subscriber::{Read, number};
use super::{DrillError, micros};
use crate::check::{CommandCounts, TwinObservation, Violations, check_replicas, check_twins};

/// How long replicas may take to be seen at one index; a city that goes on writing makes that a matter of luck.
const REPLICAS_MAX: Duration = Duration::from_secs(60);
const REPLICAS_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Evidence<'a> {
    pub(super) client: &'a Client,
    pub(super) health: &'a Health<'a>,
    pub(super) ledgers: &'a [Ledger],
    pub(super) history: &'a SteeringHistory,
}

/// What the feed says.
pub(super) struct FeedFindings {
    pub(super) facts: u64,
    /// What was wrong with the feed that was read all the while.
    pub(super) feed: Violations,
    /// What was wrong with it when it was read again.
    pub(super) log: Violations,
    pub(super) commands: Violations,
    pub(super) counts: CommandCounts,
}

impl Evidence<'_> {
    /// Judges what was read of the feed of `shards` shards, and what was `read_again` from the same begin when all was over.
    pub(super) fn feed(&self, read: Read, read_again: Read, shards: usize) -> FeedFindings {
        let Self { ledgers, history, .. } = self;
        let (facts, readings_min, shards_min) = (read.feed.facts(), ledgers.len() as u64, shards as u64);
        let mut log = read_again.failure();
        log.append(read.commands.compare(&read_again.commands));
        log.append(read_again.feed.conclude(ledgers, readings_min, shards_min));
        let mut feed = read.failure();
        feed.append(read.feed.conclude(ledgers, readings_min, shards_min));
        let commands_min = history.operators as u64;
        let (commands, counts) = read.commands.conclude(&history.issued, &history.deliveries, commands_min);
        FeedFindings { facts, feed, log, commands, counts }
    }

    pub(super) async fn twins(&self) -> Result<Violations, DrillError> {
        let selection = TwinSelection { kind: Some(LoadPlan::KIND.to_owned()), ..TwinSelection::default() };
        let mut pages = self.client.twins(selection);
        let mut twins = Vec::new();
        while let Some(page) = pages.next().await? {
            twins.extend(page.into_iter().map(|twin| {
                let reported = twin.reported.iter().find(|reported| reported.attribute == LoadPlan::ATTRIBUTE);
                TwinObservation {
                    observed_us: reported.and_then(|reported| reported.observe_time.as_ref().map(micros)),
                    value: reported.and_then(|reported| reported.value.as_ref().and_then(number)),
                    device: twin.device.map(|device| device.name).unwrap_or_default(),
                }
            }));
        }
        Ok(check_twins(self.ledgers, &twins))
    }

    /// Asks the nodes until all replicas that each of `shards` is to have were seen at one index.
    pub(super) async fn replicas(&self, shards: &BTreeSet<u32>) -> Result<Violations, DrillError> {
        let give_up = Instant::now() + REPLICAS_MAX;
        let mut seen = Vec::new();
        loop {
            seen.extend(self.health.replicas(true).await?.into_iter().filter(|replica| replica.shard != 0));
            let mut placed = self.health.placed().await?;
            let placed = shards.iter().map(|shard| (*shard, placed.remove(shard).unwrap_or_default())).collect();
            let found = check_replicas(&seen, &placed);
            if found.count == 0 || found.shows_difference() || Instant::now() >= give_up {
                return Ok(found);
            }
            sleep(REPLICAS_INTERVAL).await;
        }
    }
}
