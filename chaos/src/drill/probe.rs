//! One device in each shard that reports all the time: when does which shard take writes again?
use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_api::v1::{Device, Reading, ReadingOutcome, reading};
use kvarter_api::{
    BatchAcknowledgement, BatchSequence, Client, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, SendError,
};
use kvarter_simulator::{Ledger, LoadPlan, Serial, load_attribute, open_attached, register, wall_clock};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::DrillError;

/// Between two rounds of readings: the resolution of a measured outage.
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Rounds that may be open before the probe waits, so that a long outage does not fill the stream's window.
const ROUNDS_OPEN_MAX: u64 = 500;

/// A gateway stream with one device for each shard. A round is one batch with one reading of each device, so shard and device
/// have the same turn, and the number of the batch is the number of the round.
pub(super) struct Probe {
    stream: GatewayStream,
    events: GatewayEvents,
    attribute: u32,
    /// By turn.
    shards: Vec<u32>,
    ledger: Ledger,
    answered: u64,
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
        let attribute = load_attribute(client).await?;
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
        let (stream, events, _) = open_attached(client, GatewayOptions::default(), &devices).await?;
        let ledger = Ledger::new(devices, wall_clock().as_microsecond());
        Ok(Self { stream, events, attribute, shards, ledger, answered: 0 })
    }

    /// One district of each shard, `districts/{district}`.
    pub(super) fn districts(&self) -> Vec<String> {
        let district = |device: &String| device.split_once("/devices/").map(|(district, _)| district.to_owned());
        self.ledger.devices().iter().filter_map(district).collect()
    }

    /// Sends rounds until every shard has acknowledged a reading that was sent from now on, at most for `patience`.
    pub(super) async fn measure(&mut self, patience: Duration) -> Result<Outage, DrillError> {
        let begin = Instant::now();
        let first_round = self.rounds();
        let mut outage =
            Outage { waited: patience, served_after: self.shards.iter().map(|shard| (*shard, None)).collect() };
        let mut rounds = interval(ROUND_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while outage.not_serving().is_some() {
            let room =
                self.rounds() * self.shards.len() as u64 - self.answered < ROUNDS_OPEN_MAX * self.shards.len() as u64;
            tokio::select! {
                _ = rounds.tick(), if room => self.send_round().await?,
                event = self.events.next() => {
                    if let Some(acknowledgement) = acknowledgement(event)? {
                        let is_after = round(acknowledgement.sequence) >= first_round;
                        for turn in self.accept(&acknowledgement) {
                            let served_after = outage.served_after.entry(self.shards[turn]).or_default();
                            if is_after && served_after.is_none() {
                                *served_after = Some(begin.elapsed());
                            }
                        }
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
        let first = Serial(self.ledger.sent());
        self.send_round().await?;
        self.settle(give_up).await?;
        let marks = (first.0..).map(Serial).zip(&self.shards).map(|(serial, shard)| {
            let device = self.ledger.devices()[self.ledger.turn(serial)].clone();
            (*shard, EndMark { device, observed_us: self.ledger.observed_us(serial) })
        });
        Ok(marks.collect())
    }

    /// What the probe's devices know themselves.
    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger
    }

    fn rounds(&self) -> u64 {
        self.ledger.sent() / self.shards.len() as u64
    }

    async fn settle(&mut self, give_up: Instant) -> Result<(), DrillError> {
        while self.answered < self.ledger.sent() {
            tokio::select! {
                event = self.events.next() => {
                    if let Some(acknowledgement) = acknowledgement(event)? {
                        self.accept(&acknowledgement);
                    }
                }
                () = sleep_until(give_up) => {
                    let open = self.ledger.sent() - self.answered;
                    let missing = format!("{open} readings of the probe are not acknowledged");
                    return Err(DrillError::NotWhole { waited: Duration::ZERO, missing });
                }
            }
        }
        Ok(())
    }

    async fn send_round(&mut self) -> Result<(), SendError> {
        let (alias, attribute) = (0.., self.attribute);
        let first = self.ledger.sent();
        let readings = alias.zip(first..first + self.shards.len() as u64).map(|(alias, number)| Reading {
            alias,
            attribute,
            observed_us: self.ledger.observed_us(Serial(number)),
            value: Some(reading::Value::Number(1.0)),
        });
        let readings: Vec<Reading> = readings.collect();
        self.stream.send(readings).await?;
        for _ in &self.shards {
            self.ledger.send();
        }
        Ok(())
    }

    /// Enters an acknowledgement in the ledger; returns the turns of the readings that the cluster has.
    fn accept(&mut self, acknowledgement: &BatchAcknowledgement) -> Vec<usize> {
        let first = round(acknowledgement.sequence) * self.shards.len() as u64;
        self.answered += acknowledgement.readings.len() as u64;
        let mut turns = Vec::new();
        for reading in &acknowledgement.readings {
            let serial = Serial(first + u64::from(reading.index));
            if reading.outcome == ReadingOutcome::Rejected {
                self.ledger.reject(serial);
            } else {
                self.ledger.accept(serial);
                turns.push(self.ledger.turn(serial));
            }
        }
        turns
    }
}

/// Rounds count from 0, batches from 1.
fn round(BatchSequence(sequence): BatchSequence) -> u64 {
    sequence - 1
}

fn acknowledgement(event: Option<GatewayEvent>) -> Result<Option<BatchAcknowledgement>, DrillError> {
    match event {
        Some(GatewayEvent::Acknowledged(acknowledgement)) => Ok(Some(acknowledgement)),
        Some(GatewayEvent::Failed(error)) => Err(error.into()),
        None => Err(SendError::Ended.into()),
        Some(
            GatewayEvent::Command(_)
            | GatewayEvent::Desired(_)
            | GatewayEvent::Moving
            | GatewayEvent::Disconnected(_)
            | GatewayEvent::Resumed { .. }
            | GatewayEvent::Detached { .. },
        ) => Ok(None),
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
