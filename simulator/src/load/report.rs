//! What a load saw, for people and programs.
use std::time::Duration;

use kvarter_api::StreamTotals;
use serde::Serialize;

use super::lane::LaneOutcome;
use super::{CallReport, CommandReport, Ledger, LoadPlan, LoadSecond};
use crate::latency::{Latencies, LatencySummary};

/// A load on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadProgress {
    pub elapsed: Duration,
    pub totals: StreamTotals,
}

/// A load that is over.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    pub report: LoadReport,
    /// What the devices of each lane know themselves.
    pub ledgers: Vec<Ledger>,
    /// Why streams ended before their time.
    pub failures: Vec<String>,
    pub seconds: Vec<LoadSecond>,
    /// Those of the report.
    pub latencies: Latencies,
    /// Of twins, when the load had some.
    pub reads: Option<CallReport>,
    /// When the load had some.
    pub commands: Option<CommandReport>,
}

/// Below this part of it, a rate is not reached: the last readings of a load are acknowledged a little after its end.
pub(super) const REACHED: f64 = 0.98;

/// The figures of a load. `stored + late + duplicate + rejected + unanswered == sent`, unless a shard accepted readings whose
/// acknowledgement was lost for good: those count twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    pub sent: u64,
    pub stored: u64,
    pub late: u64,
    pub duplicate: u64,
    pub rejected: u64,
    /// Readings without an answer when the patience was over.
    pub unanswered: u64,
    /// Shards that the devices belong to.
    pub shards: usize,
    /// From the start to the last acknowledgement.
    pub elapsed_s: f64,
    /// Readings in a second that the load had to send.
    pub asked_per_s: f64,
    /// Acknowledged readings in a second of `elapsed_s`.
    pub rate_per_s: f64,
    /// Whether they are as many as were asked for, give or take a fiftieth. The wait for the last answers and the first
    /// second, in which the first are awaited, do not count against it.
    pub is_rate_reached: bool,
    /// From the moment a reading was due to its acknowledgement.
    #[serde(flatten)]
    pub latency: LatencySummary,
    /// Connections that were lost and brought back.
    pub disconnects: u64,
    /// Streams that ended before their time, and devices that could not be attached again.
    pub errors: u64,
}

impl LoadProgress {
    pub(super) fn sum(elapsed: Duration, lanes: impl Iterator<Item = StreamTotals>) -> Self {
        Self { elapsed, totals: lanes.fold(StreamTotals::default(), sum_totals) }
    }
}

impl LoadOutcome {
    /// Of the readings; there is nothing else yet.
    pub(super) fn merge(lanes: Vec<LaneOutcome>, plan: &LoadPlan, shards: usize, seconds: Vec<LoadSecond>) -> Self {
        let totals = lanes.iter().map(|lane| lane.totals).fold(StreamTotals::default(), sum_totals);
        let mut latencies = Latencies::default();
        lanes.iter().for_each(|lane| latencies.merge(&lane.latencies));
        let elapsed_s = lanes.iter().map(|lane| lane.elapsed).max().unwrap_or_default().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a load has far fewer than 2^53 readings")]
        let acknowledged = totals.acknowledged as f64;
        let failures: Vec<String> =
            lanes.iter().filter_map(|lane| lane.failure.as_ref()).map(ToString::to_string).collect();
        let rate_per_s = if elapsed_s > 0.0 { acknowledged / elapsed_s } else { 0.0 };
        let report = LoadReport {
            sent: totals.sent,
            stored: totals.stored,
            late: totals.late,
            duplicate: totals.duplicate,
            rejected: totals.rejected,
            unanswered: totals.sent - totals.acknowledged,
            shards,
            elapsed_s,
            asked_per_s: plan.readings_per_s,
            rate_per_s,
            is_rate_reached: rate_per_s.max(steady_rate_per_s(&seconds, plan)) >= REACHED * plan.readings_per_s,
            latency: latencies.summary(),
            disconnects: lanes.iter().map(|lane| lane.disconnects).sum(),
            errors: lanes.iter().map(|lane| lane.detached).sum::<u64>() + failures.len() as u64,
        };
        Self {
            report,
            ledgers: lanes.into_iter().map(|lane| lane.ledger).collect(),
            failures,
            seconds,
            latencies,
            reads: None,
            commands: None,
        }
    }
}

/// Acknowledged readings in a second, from the second second of the plan until its end; 0 when it is too short to tell.
fn steady_rate_per_s(seconds: &[LoadSecond], plan: &LoadPlan) -> f64 {
    let planned = usize::try_from(plan.duration.as_secs()).unwrap_or(usize::MAX);
    let steady = seconds.get(1..planned.min(seconds.len())).unwrap_or_default();
    if steady.len() + 1 < planned || steady.len() < 2 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 readings and seconds")]
    let (acknowledged, count) =
        (steady.iter().map(|second| second.acknowledged).sum::<u64>() as f64, steady.len() as f64);
    acknowledged / count
}

/// Totals of streams that have no reading in common.
pub(crate) fn sum_totals(left: StreamTotals, right: StreamTotals) -> StreamTotals {
    StreamTotals {
        sent: left.sent + right.sent,
        acknowledged: left.acknowledged + right.acknowledged,
        stored: left.stored + right.stored,
        late: left.late + right.late,
        duplicate: left.duplicate + right.duplicate,
        rejected: left.rejected + right.rejected,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_wait_for_the_last_answers_does_not_lower_a_steady_rate() {
        let plan = LoadPlan {
            devices: 1,
            districts: 1,
            readings_per_s: 1_000.0,
            duration: Duration::from_secs(4),
            lanes: 1,
            linger: Duration::ZERO,
            district_prefix: String::new(),
        };
        let seconds = |counts: &[u64]| -> Vec<LoadSecond> {
            counts.iter().map(|&acknowledged| LoadSecond { acknowledged, ..LoadSecond::default() }).collect()
        };
        assert!((steady_rate_per_s(&seconds(&[800, 1_000, 1_000, 1_000, 200]), &plan) - 1_000.0).abs() < 1e-9);
        assert!(steady_rate_per_s(&seconds(&[900, 700, 700, 700, 700, 300]), &plan) < 701.0);
        assert!(steady_rate_per_s(&seconds(&[1_000, 1_000, 1_000]), &plan).abs() < 1e-9, "it ended before its time");
    }
}
