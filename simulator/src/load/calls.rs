//! Calls beside the readings, by a schedule of their own: open loop as the readings, each counted from when it was due.
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Serial;
use super::report::REACHED;
use super::schedule::Schedule;
use crate::latency::{Latencies, LatencySummary};

/// Calls on their way at a time; those that are due beyond wait, and their latency counts on.
const CALLS_MAX: usize = 1_024;

/// The figures of the calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CallReport {
    pub answered: u64,
    pub errors: u64,
    pub asked_per_s: f64,
    pub rate_per_s: f64,
    pub is_rate_reached: bool,
    /// From the moment a call was due to its answer.
    #[serde(flatten)]
    pub latency: LatencySummary,
}

/// Makes the calls of `schedule`, so many in a second, until it is over or `stop`, and waits for what is on its way: each call
/// has its deadline. `call` makes call number n; it says whether it was answered.
pub(super) async fn run<F: Future<Output = bool> + Send + 'static>(
    (schedule, calls_per_s): (Schedule, f64),
    start: Instant,
    stop: &CancellationToken,
    call: impl Fn(u64) -> F,
) -> CallReport {
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
        if running.len() >= CALLS_MAX
            && let Some(outcome) = running.join_next().await
        {
            tally.take(outcome);
        }
        let is_measured = schedule.is_measured(Serial(number));
        let answer = call(number);
        running.spawn(async move {
            let answered = answer.await;
            Outcome { answered, is_measured, latency: start.elapsed().saturating_sub(due), at: start.elapsed() }
        });
    }
    while let Some(outcome) = running.join_next().await {
        tally.take(outcome);
    }
    tally.report(calls_per_s)
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
        let Outcome { answered, is_measured, latency, at } = outcome.expect("a call does not panic and is not aborted");
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

    fn report(&self, asked_per_s: f64) -> CallReport {
        #[expect(clippy::cast_precision_loss, reason = "a load has far fewer than 2^53 calls")]
        let answered = self.answered as f64;
        let rate_per_s = if self.last.is_zero() { 0.0 } else { answered / self.last.as_secs_f64() };
        CallReport {
            answered: self.answered,
            errors: self.errors,
            asked_per_s,
            rate_per_s,
            is_rate_reached: rate_per_s >= REACHED * asked_per_s,
            latency: self.latencies.summary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_made_by_the_schedule_and_each_counts_from_when_it_was_due() {
        let schedule = Schedule::new(100.0, Duration::from_secs(5), Duration::from_secs(1));
        let call = |number| async move {
            sleep(Duration::from_millis(30)).await;
            number % 10 != 0
        };
        let report = run((schedule, 100.0), Instant::now(), &CancellationToken::new(), call).await;
        assert_eq!((report.answered, report.errors), (450, 50));
        assert!((29.0..32.0).contains(&report.latency.p99_ms), "{report:?}");
        assert!(!report.is_rate_reached, "a tenth failed: {report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_room_show_it() {
        // 2,000 calls are due in a second, of which each takes a second: half of them wait for another second.
        let schedule = Schedule::new(2_000.0, Duration::from_secs(1), Duration::ZERO);
        let call = |_number| async {
            sleep(Duration::from_secs(1)).await;
            true
        };
        let report = run((schedule, 2_000.0), Instant::now(), &CancellationToken::new(), call).await;
        assert_eq!(report.answered, 2_000);
        assert!(report.latency.max_ms > 1_400.0, "{report:?}");
    }
}
