//! Collects what the checkers judge: the feed from the drill's begin, the twins, the replicas' hashes.
use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_api::v1::{FeedMessage, Position, SubscribeRequest, fact};
use kvarter_api::{Client, TwinSelection};
use kvarter_simulator::{Ledger, LoadPlan};
use tokio::time::{Instant, sleep, timeout_at};

use super::DrillError;
use super::health::Health;
use super::probe::EndMark;
use crate::check::{FeedAudit, FeedPosition, TwinObservation, Violations, check_replicas, check_twins};

/// A feed that shows no reading of the drill's devices for so long does not reach its end, whatever else the city writes.
const FEED_SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long replicas may take to be seen at one index; a city that goes on writing makes that a matter of luck.
const REPLICAS_MAX: Duration = Duration::from_secs(60);
const REPLICAS_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Evidence<'a> {
    pub(super) client: &'a Client,
    pub(super) health: &'a Health<'a>,
    pub(super) ledgers: &'a [Ledger],
}

impl Evidence<'_> {
    /// Reads the feed from `cursors` until each shard has shown its mark in `ends`, and audits it. Returns the number of facts
    /// too. A feed that ends early shows as lost readings.
    pub(super) async fn feed(
        &self,
        cursors: Vec<Position>,
        ends: &BTreeMap<u32, EndMark>,
    ) -> Result<(Violations, u64), DrillError> {
        let mut audit = FeedAudit::new(self.ledgers);
        let mut open = ends.clone();
        let mut subscription = self.client.subscribe(SubscribeRequest { cursors, ..Default::default() }).await?;
        let mut give_up = Instant::now() + FEED_SILENCE_MAX;
        while !open.is_empty() {
            match timeout_at(give_up, subscription.next()).await {
                Ok(message) => {
                    if take(&mut audit, &mut open, &message?) {
                        give_up = Instant::now() + FEED_SILENCE_MAX;
                    }
                }
                Err(_elapsed) => break,
            }
        }
        let facts = audit.facts();
        let readings_min = self.ledgers.len() as u64;
        Ok((audit.conclude(readings_min, ends.len() as u64), facts))
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

    /// Asks the nodes until all replicas of each of `shards` shards were seen at one index.
    pub(super) async fn replicas(&self, shards: u64) -> Result<Violations, DrillError> {
        let give_up = Instant::now() + REPLICAS_MAX;
        let mut seen = Vec::new();
        loop {
            seen.extend(self.health.replicas(true).await?.into_iter().filter(|replica| replica.shard != 0));
            let found = check_replicas(&seen, shards, self.health.nodes());
            if found.count == 0 || found.shows_difference() || Instant::now() >= give_up {
                return Ok(found);
            }
            sleep(REPLICAS_INTERVAL).await;
        }
    }
}

/// Audits a message; returns whether it had a reading of a device in a ledger.
fn take(audit: &mut FeedAudit<'_>, open: &mut BTreeMap<u32, EndMark>, message: &FeedMessage) -> bool {
    let shard = message.shard;
    let mut is_of_drill = false;
    if let Some(gap) = &message.gap {
        audit.gap(shard, position(gap.from.as_ref()), position(gap.to.as_ref()));
    }
    for fact in &message.facts {
        let at = position(fact.position.as_ref());
        let reported = match &fact.fact {
            Some(fact::Fact::ConnectivityChanged(_)) => {
                audit.shared_fact(shard, at, &fact.device);
                continue;
            }
            Some(fact::Fact::AttributeReported(reported)) => Some(reported),
            Some(_) | None => None,
        };
        audit.fact(shard, at);
        let of_load = reported.filter(|reported| reported.attribute == LoadPlan::ATTRIBUTE);
        let Some(observed) = of_load.and_then(|reported| reported.observe_time) else { continue };
        let observed_us = micros(observed.seconds, observed.nanos);
        is_of_drill |= audit.reading(&fact.device, observed_us);
        if open.get(&shard).is_some_and(|end| end.observed_us == observed_us && end.device == fact.device) {
            open.remove(&shard);
        }
    }
    is_of_drill
}

fn position(position: Option<&Position>) -> FeedPosition {
    position.map_or(FeedPosition { index: 0, ordinal: 0 }, |it| FeedPosition { index: it.index, ordinal: it.ordinal })
}

fn micros(seconds: i64, nanos: i32) -> i64 {
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1_000))
}
