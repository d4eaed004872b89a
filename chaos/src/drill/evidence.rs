//! Collects what the checkers judge: the feed from the drill's begin, the twins, the replicas' hashes.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvarter_api::v1::{Fact, FeedMessage, Position, SubscribeRequest, fact};
use kvarter_api::{Client, TwinSelection};
use kvarter_simulator::{Ledger, LoadPlan};
use tokio::time::{Instant, sleep, timeout_at};

use super::DrillError;
use super::health::Health;
use super::probe::EndMark;
use super::steering::{SteeringHistory, receipt_state};
use crate::check::{
    CommandAudit, CommandCounts, FeedAudit, FeedPosition, TwinObservation, Violations, check_replicas, check_twins,
};

/// A feed that shows no reading of the drill's devices for so long does not reach its end, whatever else the city writes.
const FEED_SILENCE_MAX: Duration = Duration::from_secs(60);
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
    pub(super) readings: Violations,
    pub(super) commands: Violations,
    pub(super) counts: CommandCounts,
}

/// Who listens to the feed.
struct Audits<'a> {
    feed: FeedAudit<'a>,
    commands: CommandAudit,
    history: &'a SteeringHistory,
}

impl Evidence<'_> {
    /// Reads the feed from `cursors` until each shard has shown its mark in `ends`, and audits it. A feed that ends early shows as
    /// lost readings and commands.
    pub(super) async fn feed(
        &self,
        cursors: Vec<Position>,
        ends: &BTreeMap<u32, EndMark>,
    ) -> Result<FeedFindings, DrillError> {
        let history = self.history;
        let mut audits = Audits { feed: FeedAudit::new(self.ledgers), commands: CommandAudit::default(), history };
        let mut open = ends.clone();
        let mut subscription = self.client.subscribe(SubscribeRequest { cursors, ..Default::default() }).await?;
        let mut give_up = Instant::now() + FEED_SILENCE_MAX;
        while !open.is_empty() {
            match timeout_at(give_up, subscription.next()).await {
                Ok(message) => {
                    if audits.take(&mut open, &message?) {
                        give_up = Instant::now() + FEED_SILENCE_MAX;
                    }
                }
                Err(_elapsed) => break,
            }
        }
        let Audits { feed, commands, .. } = audits;
        let (facts, readings_min) = (feed.facts(), self.ledgers.len() as u64);
        let readings = feed.conclude(readings_min, ends.len() as u64);
        let commands_min = history.operators as u64;
        let (commands, counts) = commands.conclude(&history.issued, &history.deliveries, commands_min);
        Ok(FeedFindings { facts, readings, commands, counts })
    }

    pub(super) async fn twins(&self) -> Result<Violations, DrillError> {
        let selection = TwinSelection { kind: Some(LoadPlan::KIND.to_owned()), ..TwinSelection::default() };
        let mut pages = self.client.twins(selection);
        let mut twins = Vec::new();
        while let Some(page) = pages.next().await? {
            twins.extend(page.into_iter().map(|twin| {
                let reported = twin.reported.iter().find(|reported| reported.attribute == LoadPlan::ATTRIBUTE);
                let observe_time = reported.and_then(|reported| reported.observe_time);
                TwinObservation {
                    device: twin.device.map(|device| device.name).unwrap_or_default(),
                    observed_us: observe_time.map(|time| micros(time.seconds, time.nanos)),
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

impl Audits<'_> {
    /// Audits a message; returns whether it had a reading of a device in a ledger.
    fn take(&mut self, open: &mut BTreeMap<u32, EndMark>, message: &FeedMessage) -> bool {
        let shard = message.shard;
        if let Some(gap) = &message.gap {
            self.feed.gap(shard, position(gap.from.as_ref()), position(gap.to.as_ref()));
        }
        let mut is_of_drill = false;
        for fact in &message.facts {
            let Some(observed_us) = self.take_fact(shard, fact) else { continue };
            is_of_drill |= self.feed.reading(&fact.device, observed_us);
            if open.get(&shard).is_some_and(|end| end.observed_us == observed_us && end.device == fact.device) {
                open.remove(&shard);
            }
        }
        is_of_drill
    }

    /// Audits a fact; returns the observation time of a reading that is like the load's.
    fn take_fact(&mut self, shard: u32, fact: &Fact) -> Option<i64> {
        let at = position(fact.position.as_ref());
        if let Some(fact::Fact::ConnectivityChanged(_)) = &fact.fact {
            self.feed.shared_fact(shard, at, &fact.device);
            return None;
        }
        self.feed.fact(shard, at);
        match fact.fact.as_ref()? {
            fact::Fact::AttributeReported(reported) if reported.attribute == LoadPlan::ATTRIBUTE => {
                reported.observe_time.map(|time| micros(time.seconds, time.nanos))
            }
            fact::Fact::CommandChanged(changed) if self.history.has_issued(&changed.command) => {
                if let Some(state) = receipt_state(changed.state()) {
                    self.commands.change(&changed.command, state);
                }
                None
            }
            _ => None,
        }
    }
}

fn position(position: Option<&Position>) -> FeedPosition {
    position.map_or(FeedPosition { index: 0, ordinal: 0 }, |it| FeedPosition { index: it.index, ordinal: it.ordinal })
}

fn micros(seconds: i64, nanos: i32) -> i64 {
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1_000))
}
