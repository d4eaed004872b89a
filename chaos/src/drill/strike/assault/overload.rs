//! More than the cluster can take: first what goes through is found, beside calls that are always under way, then so many times
//! as much is sent, and called.
//!
//! Readings of streams wait at their gateways when windows are full; calls are refused with `OVERLOADED` and a time to come back.
use std::time::Duration;

use kvarter_api::v1::{DesiredValue, ErrorReason, PatchDesiredRequest, Value, value};
use kvarter_api::{ApiError, Client, ClientConfig};
use kvarter_simulator::{Load, LoadPlan, LoadReport, register};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Aftermath, DISTRICTS, Scene, failed, precise};
use crate::check::Violation;
use crate::drill::DrillError;

/// How long readings are sent as fast as they go, and how long the flood lasts. The feed is read afterwards: what four rounds
/// write is less than what a node keeps of its logs by default.
const SEARCH: Duration = Duration::from_secs(3);
const FLOOD: Duration = Duration::from_secs(6);
const DRAIN_MAX: Duration = Duration::from_secs(60);
const DEVICES: u32 = 2_000;
const LANES: u32 = 8;
/// No cluster takes so many on one machine: each lane sends as much as its window lets through.
const ENDLESS_PER_S: f64 = 5e6;
/// Of what went through before; below it the overload costs too much itself.
const GOODPUT_MIN: f64 = 0.8;
/// Calls at the same time for each time as much; all of them to one shard, so that its queue overflows at ten times as much.
const CALLS_PER_FACTOR: u32 = 1_200;
/// A node takes 1,024 calls at a time on one connection.
const CLIENTS: u32 = 16;
/// Requests that wait for a shard by default; callers beyond must be told.
const QUEUE_MAX: u32 = 8_192;
/// What a node may need more under overload than at its capacity: the queues of all shards of a development cluster, 32 MiB each,
/// as if it led them all.
const GROWTH_BYTES_MAX: u64 = 512 << 20;
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const WISHED: &str = "districts/drill-0/devices/besieged";

/// How many times as much as goes through.
pub(super) fn factor_of_round(round: u32) -> u32 {
    if round % 2 == 1 { 2 } else { 10 }
}

/// What callers of the flood were told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    served: u64,
    /// Refused with a time to come back.
    refused: u64,
    /// Refused without one.
    refused_bluntly: u64,
    /// Anything else.
    other: u64,
}

pub(super) async fn flood(scene: Scene<'_>, factor: u32) -> Result<Aftermath, DrillError> {
    let leaders = scene.health.leaderships().await?;
    let device = kvarter_api::v1::Device {
        name: WISHED.to_owned(),
        kind: "building".to_owned(),
        ..kvarter_api::v1::Device::default()
    };
    register(scene.client, vec![device]).await?;
    let capacity = find_capacity(scene.client).await?;
    // With everything that it keeps of its log in memory, also where it was started a moment ago.
    let at_capacity = scene.memory()?;

    let stop = CancellationToken::new();
    let callers = call_in_flood(scene.client.config(), factor, &stop).await?;
    let asked = capacity * f64::from(factor);
    let flooding = load(scene.client, asked, LANES * factor.min(4), FLOOD);
    let (flooded, peaks) = {
        let watching = watch_memory(scene, &stop);
        let flooding = async {
            let flooded = flooding.await;
            stop.cancel();
            flooded
        };
        tokio::join!(flooding, watching)
    };
    let told = callers.join_all().await.into_iter().fold(Told::default(), Told::and);
    let flooded = flooded?;

    let mut aftermath = Aftermath { acts: told.served + told.refused + told.other, ..Aftermath::default() };
    let violations = &mut aftermath.violations;
    let goodput = flooded.rate_per_s;
    if goodput < GOODPUT_MIN * capacity {
        violations.add(Violation::GoodputLow { factor, goodput_per_s: whole(goodput), found_per_s: whole(capacity) });
    }
    let must_tell = CALLS_PER_FACTOR * factor > QUEUE_MAX;
    if (must_tell && told.refused == 0) || told.refused_bluntly > 0 {
        violations.add(Violation::OverloadNotTold { told: told.refused, bluntly: told.refused_bluntly });
    }
    let (mut growth_max, mut peak_max) = (0, 0);
    for (node, peak) in peaks? {
        peak_max = peak.max(peak_max);
        let before = at_capacity.iter().find(|(id, _)| *id == node).map_or(0, |(_, bytes)| *bytes);
        let growth_bytes = peak.saturating_sub(before);
        growth_max = growth_bytes.max(growth_max);
        if growth_bytes > GROWTH_BYTES_MAX {
            violations.add(Violation::MemoryUnbounded { node, growth_bytes });
        }
    }
    scene.judge_same_leaders(&leaders, violations).await?;
    aftermath.figures = [
        ("times as much", f64::from(factor)),
        ("found readings/s", capacity),
        ("goodput readings/s", goodput),
        ("p99 ms", flooded.latency.p99_ms),
        ("calls served", precise(told.served)),
        ("calls refused with RetryInfo", precise(told.refused)),
        ("calls that failed otherwise", precise(told.other)),
        ("growth MB", precise(growth_max) / 1e6),
        ("peak MB", precise(peak_max) / 1e6),
    ]
    .into();
    Ok(aftermath)
}

/// Readings in a second that go through beside calls.
async fn find_capacity(client: &Client) -> Result<f64, DrillError> {
    let stop = CancellationToken::new();
    let callers = call_in_flood(client.config(), 1, &stop).await?;
    let found = load(client, ENDLESS_PER_S, LANES, SEARCH).await;
    stop.cancel();
    callers.join_all().await;
    Ok(found?.rate_per_s)
}

/// Sends at a rate for a time, and waits for the answers.
async fn load(client: &Client, readings_per_s: f64, lanes: u32, time: Duration) -> Result<LoadReport, DrillError> {
    let plan = LoadPlan {
        devices: DEVICES,
        districts: DISTRICTS,
        readings_per_s,
        duration: time,
        lanes,
        linger: Duration::from_millis(5),
        district_prefix: "flood".to_owned(),
    };
    let load = Load::prepare(client, plan).await?;
    let stop = CancellationToken::new();
    let stopping = async {
        sleep(time).await;
        // What is due by then and was not sent never is.
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(load.run(&stop, DRAIN_MAX, |_progress| {}), stopping);
    match outcome.failures.first() {
        Some(failure) => Err(failed(format!("a stream of the flood failed: {failure}"))),
        None => Ok(outcome.report),
    }
}

/// Writes to one device from many callers who never try twice.
async fn call_in_flood(
    config: &ClientConfig,
    factor: u32,
    stop: &CancellationToken,
) -> Result<JoinSet<Told>, DrillError> {
    let mut callers = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(ClientConfig { attempts_max: 1, ..config.clone() }).await?;
        for number in 0..CALLS_PER_FACTOR * factor / CLIENTS {
            callers.spawn(call_again_and_again(client.clone(), number, stop.clone()));
        }
    }
    Ok(callers)
}

async fn call_again_and_again(client: Client, number: u32, stop: CancellationToken) -> Told {
    let mut told = Told::default();
    let setpoint = 5.0 + f64::from(number % 250) / 10.0;
    let value = Some(Value { kind: Some(value::Kind::Number(setpoint)) });
    let set = vec![DesiredValue { attribute: "temperatureSetpoint".to_owned(), value }];
    let request = PatchDesiredRequest { name: WISHED.to_owned(), set, ..PatchDesiredRequest::default() };
    while !stop.is_cancelled() {
        let pause = match client.patch_desired(request.clone()).await {
            Ok(_) => {
                told.served += 1;
                Duration::ZERO
            }
            Err(ApiError::NotApplied { reason: Some(ErrorReason::Overloaded), retry_after: Some(after), .. }) => {
                told.refused += 1;
                after
            }
            Err(ApiError::NotApplied { reason: Some(ErrorReason::Overloaded), retry_after: None, .. }) => {
                told.refused_bluntly += 1;
                LOOK_INTERVAL
            }
            Err(error) => {
                tracing::debug!(%error, "a call of the flood failed");
                told.other += 1;
                LOOK_INTERVAL
            }
        };
        stop.run_until_cancelled(sleep(pause)).await;
    }
    told
}

impl Told {
    fn and(self, other: Self) -> Self {
        Self {
            served: self.served + other.served,
            refused: self.refused + other.refused,
            refused_bluntly: self.refused_bluntly + other.refused_bluntly,
            other: self.other + other.other,
        }
    }
}

/// The most that each node had until `stop`.
async fn watch_memory(scene: Scene<'_>, stop: &CancellationToken) -> Result<Vec<(u64, u64)>, DrillError> {
    let mut peaks = scene.memory()?;
    let begin = Instant::now();
    while !stop.is_cancelled() && begin.elapsed() < FLOOD + DRAIN_MAX {
        sleep(LOOK_INTERVAL).await;
        for ((_, peak), (_, now)) in peaks.iter_mut().zip(scene.memory()?) {
            *peak = now.max(*peak);
        }
    }
    Ok(peaks)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are far below 2^64")]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_turns_between_twice_and_ten_times() {
        assert_eq!([1, 2, 3].map(factor_of_round), [2, 10, 2]);
    }
}
