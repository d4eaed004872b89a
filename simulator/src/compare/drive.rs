//! The same clients, schedule and stop watch for both systems: whatever differs between two figures is the system's.
//!
//! Start at [`Phase::drive`]. Records are dealt out in requests of fixed size to whichever client is free, each client with one
//! request at a time. A saturating phase asks as fast as answers come; a steady one by a schedule that does not wait for them.
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::latency::Latencies;

/// A client leaves a system alone for so long after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// One client of a system: it writes one request after the other.
pub(crate) trait Writer: Send + 'static {
    /// Writes the next `records` of this client as one request. Returns once they are durable, with the Raft group that has
    /// them (of several, any).
    fn write(&mut self, records: u32) -> impl Future<Output = Result<Group, WriteError>> + Send;
}

/// Number of a Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group(pub(crate) u32);

/// A request that was not acknowledged; its records are perhaps written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WriteError(pub(crate) String);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    Saturating,
    Steady { records_per_s: f64 },
}

/// How to put load on a system for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Phase {
    pub(crate) pace: Pace,
    pub(crate) records_per_request: u32,
    /// Not measured.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// What a phase measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhaseOutcome {
    /// Records acknowledged within the measured time.
    pub(crate) records: u64,
    /// The same of the whole phase, from its first moment until its last answer.
    pub(crate) acknowledged: u64,
    pub(crate) measured: Duration,
    /// From the moment a record was due, or in a saturating phase from its request, to its acknowledgement.
    pub(crate) latencies: Latencies,
    pub(crate) errors: u64,
    pub(crate) last_error: Option<WriteError>,
}

impl PhaseOutcome {
    pub(crate) fn records_per_s(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a phase has far fewer than 2^53 records")]
        let records = self.records as f64;
        records / self.measured.as_secs_f64().max(1e-9)
    }
}

/// Hears of every acknowledged request of a phase.
pub(crate) trait Witness: Send + Sync + 'static {
    fn acknowledged(&self, group: Group, now: Instant);
}

/// Hears nothing.
impl Witness for () {
    fn acknowledged(&self, _group: Group, _now: Instant) {}
}

impl Phase {
    /// Drives all `writers` and returns them with what was measured.
    pub(crate) async fn drive<W: Writer>(self, writers: Vec<W>, witness: Arc<impl Witness>) -> (PhaseOutcome, Vec<W>) {
        let start = Instant::now();
        let shared = Arc::new(Shared { next: AtomicU64::new(0), outcome: Mutex::default() });
        let mut tasks = JoinSet::new();
        for writer in writers {
            let course = Course { phase: self, start, shared: Arc::clone(&shared), witness: Arc::clone(&witness) };
            tasks.spawn(course.run(writer));
        }
        let writers = tasks.join_all().await;
        let mut outcome = std::mem::take(&mut *shared.outcome());
        outcome.measured = self.duration;
        (outcome, writers)
    }

    fn end(&self) -> Duration {
        self.warm_up + self.duration
    }

    /// When the record is due, from the start of the phase; a saturating phase has no schedule.
    fn due(&self, record: u64) -> Option<Duration> {
        match self.pace {
            Pace::Saturating => None,
            #[expect(clippy::cast_precision_loss, reason = "a phase has far fewer than 2^53 records")]
            Pace::Steady { records_per_s } => {
                Some(Duration::try_from_secs_f64(record as f64 / records_per_s).unwrap_or(Duration::MAX))
            }
        }
    }
}

struct Shared {
    /// Number of the next request.
    next: AtomicU64,
    outcome: Mutex<PhaseOutcome>,
}

impl Shared {
    fn outcome(&self) -> MutexGuard<'_, PhaseOutcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's way through a phase.
struct Course<I> {
    phase: Phase,
    start: Instant,
    shared: Arc<Shared>,
    witness: Arc<I>,
}

impl<I: Witness> Course<I> {
    async fn run<W: Writer>(self, mut writer: W) -> W {
        let Phase { records_per_request, .. } = self.phase;
        loop {
            let first = self.shared.next.fetch_add(1, Ordering::Relaxed) * u64::from(records_per_request);
            // A request is sent when its last record is due, since a client can not send what it does not have.
            let complete = self.phase.due(first + u64::from(records_per_request) - 1);
            if complete.unwrap_or_else(|| self.start.elapsed()) >= self.phase.end() {
                return writer;
            }
            if let Some(complete) = complete {
                sleep_until(self.start + complete).await;
            }
            let asked = self.start.elapsed();
            // A system that is far behind its schedule is not waited for: what is still due stays unanswered.
            if asked >= self.phase.end() + self.phase.duration {
                return writer;
            }
            match writer.write(records_per_request).await {
                Ok(group) => {
                    let now = Instant::now();
                    self.witness.acknowledged(group, now);
                    self.count(first, asked, now - self.start);
                }
                Err(error) => {
                    {
                        let mut outcome = self.shared.outcome();
                        outcome.errors += 1;
                        outcome.last_error = Some(error);
                    }
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    fn count(&self, first: u64, asked: Duration, acknowledged: Duration) {
        let Phase { records_per_request, warm_up, .. } = self.phase;
        let mut outcome = self.shared.outcome();
        outcome.acknowledged += u64::from(records_per_request);
        if (warm_up..self.phase.end()).contains(&acknowledged) {
            outcome.records += u64::from(records_per_request);
        }
        for record in first..first + u64::from(records_per_request) {
            let due = self.phase.due(record).unwrap_or(asked);
            if due >= warm_up {
                outcome.latencies.record(acknowledged.saturating_sub(due));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after a fixed time.
    struct Slow {
        service: Duration,
    }

    impl Writer for Slow {
        async fn write(&mut self, _records: u32) -> Result<Group, WriteError> {
            sleep(self.service).await;
            Ok(Group(0))
        }
    }

    fn phase(pace: Pace) -> Phase {
        let (warm_up, duration) = (Duration::from_secs(1), Duration::from_secs(10));
        Phase { pace, records_per_request: 4, warm_up, duration }
    }

    fn writers(count: usize, service: Duration) -> Vec<Slow> {
        (0..count).map(|_| Slow { service }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn saturated_clients_ask_as_fast_as_answers_come() {
        let writers = writers(5, Duration::from_millis(10));
        let (outcome, writers) = phase(Pace::Saturating).drive(writers, Arc::new(())).await;
        assert_eq!(writers.len(), 5);
        let expected = 5.0 * 4.0 * 100.0;
        assert!((outcome.records_per_s() - expected).abs() < 0.15 * expected, "{}", outcome.records_per_s());
        assert!((9.0..=12.0).contains(&outcome.latencies.summary().p50_ms));
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_is_too_slow_can_not_hide_it() {
        // One client answers 400 records in a second; 800 are due: they wait for half of the phase on average.
        let pace = Pace::Steady { records_per_s: 800.0 };
        let (outcome, _) = phase(pace).drive(writers(1, Duration::from_millis(10)), Arc::new(())).await;
        assert!(outcome.latencies.summary().p50_ms > 3_000.0, "{:?}", outcome.latencies.summary());
        assert!(outcome.records_per_s() < 410.0);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_when_each_record_was_due() {
        // A request of four at 400 records a second is complete 7.5 ms after its first record.
        let pace = Pace::Steady { records_per_s: 400.0 };
        let (outcome, _) = phase(pace).drive(writers(8, Duration::from_millis(10)), Arc::new(())).await;
        let summary = outcome.latencies.summary();
        assert!((10.0..=19.5).contains(&summary.p50_ms) && summary.max_ms >= 16.5, "{summary:?}");
        assert!((outcome.records_per_s() - 400.0).abs() < 5.0);
    }
}
