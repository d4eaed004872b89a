//! What a play has come to, while it runs and at its end.
use jiff::Timestamp;
use kvarter_api::StreamTotals;
use serde::Serialize;

use crate::city::light::LightFigures;
use crate::clock::rfc3339;
use crate::latency::LatencySummary;
use crate::replay::FileTally;

/// A play on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayStatus {
    /// Everything that was observed before this moment has been measured.
    pub simulated: Timestamp,
    pub totals: StreamTotals,
    /// Readings of sensors, and of lamps.
    pub sensor_readings: u64,
    pub lamp_readings: u64,
    /// From handing a batch to its stream to the acknowledgement.
    pub latency: LatencySummary,
    /// Commands that devices carried out, and desired states that they followed.
    pub commands_executed: u64,
    /// Orders that a device neither followed nor answered.
    pub commands_ignored: u64,
    /// Commands that a device could not carry out, and said so.
    pub commands_failed: u64,
    /// Deliveries that the ledger refused: late, or of a deposed leader.
    pub deliveries_refused: u64,
    /// Connections that were lost and brought back.
    pub disconnects: u64,
    /// Streams that ended before their time, and devices that could not be attached again.
    pub errors: u64,
}

/// A play that is over. `readings_stored + readings_late + readings_duplicate + readings_rejected + readings_unanswered` is
/// `readings_sent`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlayReport {
    #[serde(serialize_with = "rfc3339::serialize")]
    pub simulated_until: Timestamp,
    pub readings_sent: u64,
    pub readings_stored: u64,
    pub readings_late: u64,
    pub readings_duplicate: u64,
    pub readings_rejected: u64,
    /// Sent without an outcome when the patience was over.
    pub readings_unanswered: u64,
    pub sensor_readings: u64,
    pub lamp_readings: u64,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    pub commands_executed: u64,
    pub commands_failed: u64,
    pub commands_ignored: u64,
    pub deliveries_refused: u64,
    pub disconnects: u64,
    pub errors: u64,
    /// Why streams ended before their time.
    pub failures: Vec<String>,
    /// The outcomes that the files of a replay must have in a fresh cluster when they are played to their end.
    pub expected: Vec<FileTally>,
    /// By district, of a world that watches its light.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub light: Vec<LightFigures>,
}

impl PlayReport {
    pub(super) fn new(
        status: &PlayStatus,
        failures: Vec<String>,
        expected: Vec<FileTally>,
        light: Vec<LightFigures>,
    ) -> Self {
        let PlayStatus { totals, latency, .. } = status;
        Self {
            simulated_until: status.simulated,
            readings_sent: totals.sent,
            readings_stored: totals.stored,
            readings_late: totals.late,
            readings_duplicate: totals.duplicate,
            readings_rejected: totals.rejected,
            readings_unanswered: totals.sent - totals.acknowledged,
            sensor_readings: status.sensor_readings,
            lamp_readings: status.lamp_readings,
            ack_p50_ms: latency.p50_ms,
            ack_p99_ms: latency.p99_ms,
            commands_executed: status.commands_executed,
            commands_failed: status.commands_failed,
            commands_ignored: status.commands_ignored,
            deliveries_refused: status.deliveries_refused,
            disconnects: status.disconnects,
            errors: status.errors,
            failures,
            expected,
            light,
        }
    }

    /// Whether the outcomes are those that the files foretell, lamps aside: their reports are all stored.
    pub fn is_as_expected(&self) -> bool {
        let sum = |of: fn(&FileTally) -> u64| self.expected.iter().map(of).sum::<u64>();
        let stored = sum(|tally| tally.stored) + self.lamp_readings;
        stored == self.readings_stored
            && sum(|tally| tally.late) == self.readings_late
            && sum(|tally| tally.duplicate) == self.readings_duplicate
            && self.readings_rejected == 0
            && self.readings_unanswered == 0
    }
}
