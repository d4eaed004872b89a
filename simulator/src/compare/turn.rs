//! A system's turn: the same phases for both, each on a system that has nothing else to do.
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::drive::{Pace, Phase, PhaseOutcome};
use super::plan::{BATCH_CLIENTS, ComparePlan, DEVICES, Part, RECORDS_PER_BATCH, SINGLE_CLIENTS};
use super::system::{Clients, System};
use super::{CompareError, Tell, failover};
use crate::latency::LatencySummary;
use crate::resources::Usage;

/// Shortened phases in which the best way to use a system is sought.
const SEARCH: Duration = Duration::from_secs(3);

/// How clients use a system best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RequestShape {
    pub clients: usize,
    pub records_per_request: u32,
    /// Connected to the leader alone; to all nodes otherwise.
    pub leader_only: bool,
}

/// A phase that is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseFigures {
    #[serde(flatten)]
    pub shape: RequestShape,
    /// The rate that was asked for; none in a saturating phase.
    pub asked_per_s: Option<f64>,
    pub records_per_s: f64,
    #[serde(flatten)]
    pub latency: LatencySummary,
    /// Processor time of the three nodes together.
    pub cpu_us_per_record: f64,
    /// Bytes that the three nodes together handed to the disk.
    pub written_bytes_per_record: f64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What one turn measured: the parts of the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TurnFigures {
    #[serde(flatten)]
    pub rates: Option<RateFigures>,
    /// Time without writes after the leader's node was killed.
    pub failover_ms: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateFigures {
    /// One record a request, as fast as it goes.
    pub single: PhaseFigures,
    /// At half the rate of `single`.
    pub single_half: PhaseFigures,
    /// 128 records a request, as fast as it goes.
    pub batched: PhaseFigures,
    /// At half the rate of `batched`.
    pub batched_half: PhaseFigures,
}

/// The shapes that a system does best with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestShapes {
    pub single: RequestShape,
    pub batched: RequestShape,
    /// All that were tried, each for a short time.
    pub tried: Vec<PhaseFigures>,
}

/// Tries the ways to use `system`. `leader_only` says whether it has one leader to be connected to.
pub(super) async fn search<S: System>(
    system: &mut S,
    plan: &ComparePlan,
    has_one_leader: bool,
    tell: &mut impl Tell,
) -> Result<RequestShapes, CompareError> {
    let mut tried = Vec::new();
    let targets: &[bool] = if has_one_leader { &[false, true] } else { &[false] };
    let single = SINGLE_CLIENTS.map(|clients| (clients, 1));
    for (clients, records_per_request) in single.into_iter().chain([(BATCH_CLIENTS, RECORDS_PER_BATCH)]) {
        for &leader_only in targets {
            let shape = RequestShape { clients, records_per_request, leader_only };
            let figures = drive(system, plan, shape, Pace::Saturating, SEARCH).await?;
            tell.tell(&format!("{}: {figures}", S::NAME));
            tried.push(figures);
        }
    }
    let best = |records_per_request| {
        let of_size = tried.iter().filter(|figures| figures.shape.records_per_request == records_per_request);
        let best = of_size.max_by(|left, right| left.records_per_s.total_cmp(&right.records_per_s));
        best.expect("every size was tried").shape
    };
    let (single, batched) = (best(1), best(RECORDS_PER_BATCH));
    Ok(RequestShapes { single, batched, tried })
}

/// All phases, with `shapes` those of the rates too, and at the end the failover, after which the system is not whole any more.
pub(super) async fn take<S: System>(
    system: &mut S,
    plan: &ComparePlan,
    shapes: Option<&RequestShapes>,
    tell: &mut impl Tell,
) -> Result<TurnFigures, CompareError> {
    let rates = match shapes {
        Some(shapes) => Some(rates(system, plan, shapes, tell).await?),
        None => None,
    };
    let failover_ms = if plan.parts.contains(&Part::Failover) {
        let clients = Clients::new(BATCH_CLIENTS, DEVICES, plan.payload);
        let failover_ms = failover::measure(system, &clients).await?.as_secs_f64() * 1e3;
        tell.tell(&format!("{}: {failover_ms:.0} ms without writes after the leader's node was killed", S::NAME));
        Some(failover_ms)
    } else {
        None
    };
    Ok(TurnFigures { rates, failover_ms })
}

async fn rates<S: System>(
    system: &mut S,
    plan: &ComparePlan,
    shapes: &RequestShapes,
    tell: &mut impl Tell,
) -> Result<RateFigures, CompareError> {
    let mut measured = Vec::new();
    for shape in [shapes.single, shapes.batched] {
        let most = drive(system, plan, shape, Pace::Saturating, plan.duration).await?;
        tell.tell(&format!("{}: {most}", S::NAME));
        let pace = Pace::Steady { records_per_s: most.records_per_s / 2.0 };
        let half = drive(system, plan, shape, pace, plan.duration).await?;
        tell.tell(&format!("{}: {half}", S::NAME));
        measured.extend([most, half]);
    }
    let [single, single_half, batched, batched_half] =
        <[PhaseFigures; 4]>::try_from(measured).expect("two shapes, two phases each");
    Ok(RateFigures { single, single_half, batched, batched_half })
}

async fn drive<S: System>(
    system: &mut S,
    plan: &ComparePlan,
    shape: RequestShape,
    pace: Pace,
    duration: Duration,
) -> Result<PhaseFigures, CompareError> {
    let RequestShape { clients, leader_only, .. } = shape;
    let clients = Clients { leader_only, ..Clients::new(clients, DEVICES, plan.payload) };
    let writers = system.writers(&clients).await?;
    measure(system, writers, shape, pace, plan.warm_up, duration).await
}

/// One phase with `writers`, which are so many and as they are in `shape`.
pub(crate) async fn measure<S: System>(
    system: &S,
    writers: Vec<S::Writer>,
    shape: RequestShape,
    pace: Pace,
    warm_up: Duration,
    duration: Duration,
) -> Result<PhaseFigures, CompareError> {
    let before = usage(system)?;
    let phase = Phase { pace, records_per_request: shape.records_per_request, warm_up, duration };
    let (outcome, _writers) = phase.drive(writers, Arc::new(())).await;
    let after = usage(system)?;
    if outcome.records == 0 {
        return Err(outcome.last_error.map_or(CompareError::NoWrites { system: S::NAME }, Into::into));
    }
    Ok(figures(shape, pace, &outcome, before, after))
}

fn figures(shape: RequestShape, pace: Pace, outcome: &PhaseOutcome, before: Usage, after: Usage) -> PhaseFigures {
    // The nodes' use is that of the whole phase, its warm-up included, and so are these records.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 records and bytes")]
    let (acknowledged, written) =
        ((outcome.acknowledged.max(1)) as f64, after.written_bytes.saturating_sub(before.written_bytes) as f64);
    PhaseFigures {
        shape,
        asked_per_s: match pace {
            Pace::Saturating => None,
            Pace::Steady { records_per_s } => Some(records_per_s),
        },
        records_per_s: outcome.records_per_s(),
        latency: outcome.latencies.summary(),
        cpu_us_per_record: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / acknowledged,
        written_bytes_per_record: written / acknowledged,
        errors: outcome.errors,
        last_error: outcome.last_error.as_ref().map(ToString::to_string),
    }
}

/// Of all nodes together.
fn usage<S: System>(system: &S) -> Result<Usage, CompareError> {
    let mut sum = Usage::default();
    for pid in system.pids()? {
        let usage = Usage::of(pid)?;
        sum.cpu += usage.cpu;
        sum.resident_bytes += usage.resident_bytes;
        sum.anonymous_bytes += usage.anonymous_bytes;
        sum.written_bytes += usage.written_bytes;
    }
    Ok(sum)
}

impl std::fmt::Display for PhaseFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shape: RequestShape { clients, records_per_request, leader_only }, latency, .. } = self;
        write!(f, "{clients} clients")?;
        if *leader_only {
            write!(f, " at the leader")?;
        }
        write!(f, ", {records_per_request} records a request: {:.0} records/s", self.records_per_s)?;
        if let Some(asked_per_s) = self.asked_per_s {
            write!(f, " of {asked_per_s:.0} asked")?;
        }
        write!(f, ", p50 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p99_ms)?;
        write!(
            f,
            ", {:.1} µs of CPU and {:.0} bytes written a record",
            self.cpu_us_per_record, self.written_bytes_per_record
        )?;
        if let Some(error) = &self.last_error {
            write!(f, ", {} errors, e.g. {error}", self.errors)?;
        }
        Ok(())
    }
}
