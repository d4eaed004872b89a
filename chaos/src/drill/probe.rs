//! One device in each shard that reports all the time: when does which shard take writes again?
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvarter_api::v1::Device;
use kvarter_api::{Client, GatewayOptions};
use kvarter_simulator::{AnsweredRound, Ledger, LoadPlan, Rounds, Serial, Turns, open_attached, register};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::DrillError;

/// Between two rounds of readings: the resolution of a measured outage.
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Rounds that may be open before the probe waits, so that a long outage does not fill the stream's window.
const ROUNDS_OPEN_MAX: u64 = 500;

/// One device for each shard, which has the same turn.
pub(super) struct Probe {
    rounds: Rounds,
    /// By turn.
    shards: Vec<u32>,
}

/// What a measurement saw: when each shard acknowledged a reading that was sent after its begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) waited: Duration,
    pub(super) served_after: BTreeMap<u32, Option<Duration>>,
}

/// The last reading of a shard: in its feed, everything acknowledged before stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndMark {
    pub(super) device: String,
    pub(super) observed_us: i64,
}

impl Outage {
    /// The shard that was last to take a write, and after how long.
    pub(super) fn longest(&self) -> Option<(u32, Duration)> {
        let waited = |served_after: Option<Duration>| served_after.unwrap_or(self.waited);
        self.served_after.iter().map(|(shard, after)| (*shard, waited(*after))).max_by_key(|(_, after)| *after)
    }

    /// A shard that took no write all the while.
    pub(super) fn not_serving(&self) -> Option<(u32, Duration)> {
        let silent = self.served_after.iter().find(|(_, after)| after.is_none())?;
        Some((*silent.0, self.waited))
    }
}

impl Probe {
    /// Registers a device in each district of a load's usual number, and keeps one for each shard.
    pub(super) async fn open(client: &Client) -> Result<Self, DrillError> {
        let devices: Vec<String> =
            (0..LoadPlan::DISTRICTS).map(|number| format!("districts/drill-{number}/devices/probe")).collect();
        let registrations = devices.iter().map(|name| Device {
            name: name.clone(),
            kind: LoadPlan::KIND.to_owned(),
            ..Device::default()
        });
        register(client, registrations.collect()).await?;
        let (finder, _, shards) = open_attached(client, GatewayOptions::default(), &devices).await?;
        finder.close(ROUND_INTERVAL).await;
        let of_shard: BTreeMap<u32, String> = shards.into_iter().zip(devices).collect();
        let (shards, devices): (Vec<u32>, Vec<String>) = of_shard.into_iter().unzip();
        let (rounds, _) = Rounds::attach(client, devices).await?;
        Ok(Self { rounds, shards })
    }

    /// What its devices will say.
    pub(super) fn turns(&self) -> Arc<Turns> {
        Arc::clone(self.rounds.ledger().turns())
    }

    /// One district of each shard, `districts/{district}`.
    pub(super) fn districts(&self) -> Vec<String> {
        let district = |device: &String| device.split_once("/devices/").map(|(district, _)| district.to_owned());
        self.rounds.ledger().devices().iter().filter_map(district).collect()
    }

    /// Sends rounds until every shard has acknowledged a reading that was sent from now on, at most for `patience`.
    pub(super) async fn measure(&mut self, patience: Duration) -> Result<Outage, DrillError> {
        let begin = Instant::now();
        let first_round = self.rounds.sent();
        let mut outage =
            Outage { waited: patience, served_after: self.shards.iter().map(|shard| (*shard, None)).collect() };
        let open_max = ROUNDS_OPEN_MAX * self.shards.len() as u64;
        let mut ticks = interval(ROUND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while outage.not_serving().is_some() {
            tokio::select! {
                _ = ticks.tick(), if self.rounds.open() < open_max => {
                    self.rounds.send().await?;
                }
                answer = self.rounds.next() => {
                    let AnsweredRound { round, readings } = answer?;
                    for reading in readings.iter().filter(|reading| reading.is_accepted && round >= first_round) {
                        let served_after = outage.served_after.entry(self.shards[reading.turn]).or_default();
                        served_after.get_or_insert_with(|| begin.elapsed());
                    }
                }
                () = sleep_until(begin + patience) => break,
            }
        }
        Ok(outage)
    }

    /// Waits for all open acknowledgements, then sends a last round and returns it, once acknowledged, by shard.
    pub(super) async fn mark_ends(&mut self, patience: Duration) -> Result<BTreeMap<u32, EndMark>, DrillError> {
        let give_up = Instant::now() + patience;
        self.settle(give_up).await?;
        let first = self.rounds.ledger().sent();
        self.rounds.send().await?;
        self.settle(give_up).await?;
        let ledger = self.rounds.ledger();
        let marks = (first..).map(Serial).zip(&self.shards).zip(ledger.devices()).map(|((serial, shard), device)| {
            (*shard, EndMark { device: device.clone(), observed_us: ledger.observed_us(serial) })
        });
        Ok(marks.collect())
    }

    /// What the probe's devices know themselves.
    pub(super) fn into_ledger(self) -> Ledger {
        self.rounds.into_ledger()
    }

    async fn settle(&mut self, give_up: Instant) -> Result<(), DrillError> {
        while self.rounds.open() > 0 {
            tokio::select! {
                answer = self.rounds.next() => drop(answer?),
                () = sleep_until(give_up) => {
                    let missing = format!("{} readings of the probe are not acknowledged", self.rounds.open());
                    return Err(DrillError::NotWhole { waited: Duration::ZERO, missing });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_outage_is_that_of_the_last_shard() {
        let ms = Duration::from_millis;
        let served_after = BTreeMap::from([(1, Some(ms(4))), (2, Some(ms(900))), (3, Some(ms(5)))]);
        let mut outage = Outage { waited: ms(9_000), served_after };
        assert_eq!((outage.longest(), outage.not_serving()), (Some((2, ms(900))), None));
        outage.served_after.insert(3, None);
        assert_eq!((outage.longest(), outage.not_serving()), (Some((3, ms(9_000))), Some((3, ms(9_000)))));
    }
}
