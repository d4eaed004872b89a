//! Linearizable reads of twins beside the readings, by a schedule of their own.
use std::time::Duration;

use kvarter_api::{Client, DeviceName};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Serial;
use super::report::REACHED;
use super::schedule::Schedule;
use crate::latency::{Latencies, LatencySummary};

/// Reads on their way at a time; those that are due beyond wait, and their latency counts on.
const READS_MAX: usize = 1_024;

/// The figures of the reads of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ReadReport {
    pub answered: u64,
    pub errors: u64,
    pub asked_per_s: f64,
    pub rate_per_s: f64,
    pub is_rate_reached: bool,
    /// From the moment a read was due to its answer.
    #[serde(flatten)]
    pub latency: LatencySummary,
}

/// Reads that are to be issued while readings are sent.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) client: Client,
    pub(super) devices: Vec<DeviceName>,
    pub(super) reads_per_s: f64,
}

impl Reads {
    /// Reads the twins by turns until the schedule is over or `stop`, and waits for what is on its way: each call has its
    /// deadline.
    pub(super) async fn run(self, schedule: Schedule, start: Instant, stop: CancellationToken) -> ReadReport {
        let mut tally = Tally::default();
        let mut running: JoinSet<Outcome> = JoinSet::new();
        for number in 0.. {
            let due = schedule.due(Serial(number));
            if schedule.is_over(due) {
                break;
            }
            tokio::select! {
                () = sleep_until(start + due) => {}
                () = stop.cancelled() => break,
            }
            while let Some(outcome) = running.try_join_next() {
                tally.take(outcome);
            }
            if running.len() >= READS_MAX
                && let Some(outcome) = running.join_next().await
            {
                tally.take(outcome);
            }
            let place = usize::try_from(number % self.devices.len() as u64).expect("below the number of devices");
            let (client, device) = (self.client.clone(), self.devices[place].clone());
            let is_measured = schedule.is_measured(Serial(number));
            running.spawn(async move {
                let answered = client.twin(&device, Duration::ZERO).await.is_ok();
                Outcome { answered, is_measured, latency: start.elapsed().saturating_sub(due), at: start.elapsed() }
            });
        }
        while let Some(outcome) = running.join_next().await {
            tally.take(outcome);
        }
        tally.report(self.reads_per_s)
    }
}

struct Outcome {
    answered: bool,
    is_measured: bool,
    latency: Duration,
    /// Of the answer, from the start of the load.
    at: Duration,
}

#[derive(Default)]
struct Tally {
    answered: u64,
    errors: u64,
    last: Duration,
    latencies: Latencies,
}

impl Tally {
    fn take(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        let Outcome { answered, is_measured, latency, at } = outcome.expect("a read does not panic and is not aborted");
        self.last = self.last.max(at);
        if !answered {
            self.errors += 1;
            return;
        }
        self.answered += 1;
        if is_measured {
            self.latencies.record(latency);
        }
    }

    fn report(&self, asked_per_s: f64) -> ReadReport {
        #[expect(clippy::cast_precision_loss, reason = "a load has far fewer than 2^53 reads")]
        let answered = self.answered as f64;
        let rate_per_s = if self.last.is_zero() { 0.0 } else { answered / self.last.as_secs_f64() };
        ReadReport {
            answered: self.answered,
            errors: self.errors,
            asked_per_s,
            rate_per_s,
            is_rate_reached: rate_per_s >= REACHED * asked_per_s,
            latency: self.latencies.summary(),
        }
    }
}
