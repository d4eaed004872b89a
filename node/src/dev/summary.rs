//! The result of a run, as one JSON object for programs.
use kvarter_simulator::{FileTally, PlayReport};
use serde::Serialize;

use super::figures::ClusterFigures;

/// `readings_*`, `ack_*` and `errors` are of this run; `devices`, `commands_*` and `kwh_saved` of the cluster since it was
/// formed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// Nodes that answered.
    nodes: u64,
    shards: u64,
    shards_with_leader: u64,
    devices: u64,
    readings_sent: u64,
    readings_stored: u64,
    readings_late: u64,
    readings_duplicate: u64,
    readings_rejected: u64,
    /// Of the readings sent, those of sensors; the others are reports of lamps.
    sensor_readings: u64,
    /// What a replay's files foretell for the sensors' readings in a fresh cluster; empty for the town.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileTally>,
    /// Time from sending a reading until it was acknowledged.
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    commands_issued: u64,
    commands_succeeded: u64,
    kwh_saved: f64,
    /// Processes that failed and streams that were lost.
    errors: u64,
}

impl Summary {
    /// `failures` are those of processes.
    pub(super) fn new(cluster: &ClusterFigures, play: &PlayReport, failures: u64) -> Self {
        Self {
            nodes: cluster.nodes,
            shards: cluster.shards,
            shards_with_leader: cluster.shards_with_leader,
            devices: cluster.devices,
            readings_sent: play.readings_sent,
            readings_stored: play.readings_stored,
            readings_late: play.readings_late,
            readings_duplicate: play.readings_duplicate,
            readings_rejected: play.readings_rejected,
            sensor_readings: play.sensor_readings,
            files: play.expected.clone(),
            ack_p50_ms: play.ack_p50_ms,
            ack_p99_ms: play.ack_p99_ms,
            commands_issued: cluster.commands_issued,
            commands_succeeded: cluster.commands_succeeded,
            kwh_saved: cluster.energy_saved_kwh,
            errors: failures + play.errors,
        }
    }

    /// What is wrong with the run; empty when it succeeded.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let outcomes = self.readings_stored + self.readings_late + self.readings_duplicate + self.readings_rejected;
        if outcomes != self.readings_sent {
            faults.push(format!("{} readings were sent, but {outcomes} have an outcome", self.readings_sent));
        }
        if self.readings_sent == 0 {
            faults.push("no reading was sent".to_owned());
        }
        if self.shards == 0 || self.shards_with_leader != self.shards {
            faults.push(format!("{} of {} shards have a leader", self.shards_with_leader, self.shards));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(sent: u64, outcomes: u64) -> Summary {
        Summary {
            nodes: 3,
            shards: 16,
            shards_with_leader: 16,
            devices: 5,
            readings_sent: sent,
            readings_stored: outcomes,
            readings_late: 0,
            readings_duplicate: 0,
            readings_rejected: 0,
            sensor_readings: sent,
            files: Vec::new(),
            ack_p50_ms: 1.0,
            ack_p99_ms: 2.0,
            commands_issued: 0,
            commands_succeeded: 0,
            kwh_saved: 0.0,
            errors: 0,
        }
    }

    #[test]
    fn every_reading_needs_an_outcome() {
        assert!(summary(10, 10).faults().is_empty());
        assert_eq!(summary(10, 9).faults(), ["10 readings were sent, but 9 have an outcome"]);
    }

    #[test]
    fn a_cluster_without_leaders_is_a_fault() {
        let summary = Summary { shards_with_leader: 15, ..summary(10, 10) };
        assert_eq!(summary.faults(), ["15 of 16 shards have a leader"]);
    }
}
