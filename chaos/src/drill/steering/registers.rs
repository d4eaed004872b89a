//! One desired attribute as a register: one caller writes, another reads through each node in turn, at the same time.
use std::time::Duration;

use kvarter_api::v1::{
    DesiredValue, GetTwinResponse, PatchDesiredRequest, PatchDesiredResponse, Position, Value, value,
};
use kvarter_api::{ApiError, Client, DeviceName};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{ATTRIBUTE, SETPOINT_MIN};
use crate::check::{FeedPosition, RegisterHistory, RegisterRead, RegisterWrite, WriteOutcome};

const WRITE_PAUSE: Duration = Duration::from_millis(200);
const READ_PAUSE: Duration = Duration::from_millis(100);
/// Degrees between two values.
const STEP: f64 = 0.001;
/// As many as there is room for below the attribute's maximum.
const VALUES_MAX: u64 = 24_000;

pub(super) struct Register {
    pub(super) client: Client,
    pub(super) nodes: Vec<Client>,
    pub(super) device: DeviceName,
    pub(super) begin: Instant,
}

impl Register {
    /// Writes and reads until `stop`.
    pub(super) async fn exercise(self, stop: CancellationToken) -> RegisterHistory {
        let (begun, has_begun) = watch::channel(false);
        let (writes, reads) = tokio::join!(self.write(&stop, begun), self.read(&stop, has_begun));
        RegisterHistory { device: self.device.to_string(), writes, reads }
    }

    async fn write(&self, stop: &CancellationToken, begun: watch::Sender<bool>) -> Vec<RegisterWrite> {
        let mut writes = Vec::new();
        for number in 1..=VALUES_MAX {
            if stop.is_cancelled() {
                break;
            }
            let set = DesiredValue { attribute: ATTRIBUTE.to_owned(), value: Some(encode(number)) };
            let name = self.device.to_string();
            let request = PatchDesiredRequest { name, set: vec![set], ..PatchDesiredRequest::default() };
            let called_us = self.now_us();
            let outcome = outcome(&self.client.patch_desired(request).await);
            writes.push(RegisterWrite { value: number, called_us, answered_us: self.now_us(), outcome });
            if matches!(outcome, WriteOutcome::Applied(_)) {
                begun.send_replace(true);
            }
            stop.run_until_cancelled(sleep(WRITE_PAUSE)).await;
        }
        writes
    }

    /// Reads once something was written: what an earlier drill has left could not be judged.
    async fn read(&self, stop: &CancellationToken, mut has_begun: watch::Receiver<bool>) -> Vec<RegisterRead> {
        let mut reads = Vec::new();
        // The writer that ends first has stopped too.
        drop(has_begun.wait_for(|has_begun| *has_begun).await);
        for node in self.nodes.iter().cycle() {
            if stop.is_cancelled() {
                break;
            }
            let called_us = self.now_us();
            if let Ok(answer) = node.twin(&self.device, Duration::ZERO).await
                && let Some(position) = answer.position
            {
                let (answered_us, position, value) = (self.now_us(), feed_position(position), shown(&answer));
                reads.push(RegisterRead { called_us, answered_us, position, value });
            }
            stop.run_until_cancelled(sleep(READ_PAUSE)).await;
        }
        reads
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn outcome(answer: &Result<PatchDesiredResponse, ApiError>) -> WriteOutcome {
    match answer {
        Ok(PatchDesiredResponse { position: Some(position), .. }) => WriteOutcome::Applied(feed_position(*position)),
        // Each value is new, so a write that changes nothing claims that it was there already.
        Ok(PatchDesiredResponse { position: None, .. }) | Err(ApiError::Unknown { .. }) => WriteOutcome::Unknown,
        Err(ApiError::NotApplied { .. } | ApiError::Rejected { .. }) => WriteOutcome::Refused,
    }
}

fn feed_position(position: Position) -> FeedPosition {
    FeedPosition { index: position.index, ordinal: position.ordinal }
}

#[expect(clippy::cast_precision_loss, reason = "numbers up to 24,000")]
fn encode(number: u64) -> Value {
    Value { kind: Some(value::Kind::Number(SETPOINT_MIN + number as f64 * STEP)) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "set points are 5 to 30")]
fn decode(value: &Value) -> Option<u64> {
    match value.kind.as_ref()? {
        value::Kind::Number(number) => Some(((number - SETPOINT_MIN) / STEP).round() as u64),
        _ => None,
    }
}

fn shown(answer: &GetTwinResponse) -> Option<u64> {
    let desired = &answer.twin.as_ref()?.desired;
    decode(desired.iter().find(|desired| desired.attribute == ATTRIBUTE)?.value.as_ref()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_register_is_told_apart() {
        for number in [0, 1, 2, 777, VALUES_MAX - 1, VALUES_MAX] {
            assert_eq!(decode(&encode(number)), Some(number));
        }
    }
}
