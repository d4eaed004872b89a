//! What the running development cluster looks like at one moment, as text.
use std::fmt::Write;
use std::time::Duration;

use kvarter_cluster::NodeId;

use kvarter_simulator::PlayStatus;

use super::figures::ClusterFigures;

/// One moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    /// Since the program was started.
    pub(super) elapsed: Duration,
    /// What is played, e.g. `town 7`.
    pub(super) scene: String,
    /// Nodes of the cluster, with ids from 1.
    pub(super) nodes: u64,
    /// Nodes whose process runs.
    pub(super) running: Vec<NodeId>,
    pub(super) cluster: ClusterFigures,
    pub(super) play: PlayStatus,
    /// Readings acknowledged, as of late.
    pub(super) readings_per_s: f64,
}

/// Readings in a second between two looks at their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    elapsed: Duration,
    readings: u64,
    per_s: f64,
}

impl Rate {
    /// Takes in that `readings` were acknowledged after `elapsed`, and returns the rate since the last time.
    pub(super) fn look(&mut self, elapsed: Duration, readings: u64) -> f64 {
        let time_s = elapsed.saturating_sub(self.elapsed).as_secs_f64();
        if time_s > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 readings")]
            let fresh = readings.saturating_sub(self.readings) as f64;
            *self = Self { elapsed, readings, per_s: fresh / time_s };
        }
        self.per_s
    }
}

impl Status {
    /// Several lines, for a terminal.
    pub(super) fn block(&self) -> String {
        let (cluster, play) = (&self.cluster, &self.play);
        let mut text = String::new();
        let mut row = |name: &str, content: String| {
            writeln!(text, "  {name:<9} {content}").expect("writing to a string can not fail");
        };
        row("kvarter", format!("{} · {} · Ctrl-C stops", clock(self.elapsed), self.scene()));
        row("nodes", format!("{} of {} up · {}", self.running.len(), self.nodes, self.leaders()));
        row("shards", format!("{} of {} with a leader", cluster.shards_with_leader, cluster.shards));
        row("devices", grouped(cluster.devices));
        row(
            "readings",
            format!(
                "{:.0}/s · {} acknowledged · p50 {} · p99 {}",
                self.readings_per_s,
                grouped(play.totals.acknowledged),
                milliseconds(play.latency.p50_ms),
                milliseconds(play.latency.p99_ms)
            ),
        );
        row(
            "commands",
            format!(
                "{} open · {} of {} succeeded",
                grouped(cluster.commands_open),
                grouped(cluster.commands_succeeded),
                grouped(cluster.commands_issued)
            ),
        );
        row("lighting", format!("{:.2} kWh saved", cluster.energy_saved_kwh));
        text
    }

    /// One line, for a log.
    pub(super) fn line(&self) -> String {
        let (cluster, play) = (&self.cluster, &self.play);
        format!(
            "{} {}: nodes {}/{}, {}, shards {}/{}, {:.0} readings/s, p50 {}, p99 {}, {} commands open, {:.2} kWh saved",
            clock(self.elapsed),
            self.scene(),
            self.running.len(),
            self.nodes,
            self.leaders(),
            cluster.shards_with_leader,
            cluster.shards,
            self.readings_per_s,
            milliseconds(play.latency.p50_ms),
            milliseconds(play.latency.p99_ms),
            cluster.commands_open,
            cluster.energy_saved_kwh,
        )
    }

    fn scene(&self) -> String {
        format!("{}, {}", self.scene, self.play.simulated.strftime("%Y-%m-%d %H:%M"))
    }

    fn leaders(&self) -> String {
        let of_node = |id| self.cluster.leaders.get(&NodeId(id)).copied().unwrap_or_default().to_string();
        let counts: Vec<String> = (1..=self.nodes).map(of_node).collect();
        format!("leaders {}", counts.join("+"))
    }
}

/// Hours, minutes and seconds.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn milliseconds(time_ms: f64) -> String {
    format!("{time_ms:.1} ms")
}

/// With a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_rate_is_that_of_the_last_interval() {
        let mut rate = Rate::default();
        let after = Duration::from_secs;
        assert_eq!([rate.look(after(2), 20), rate.look(after(2), 20), rate.look(after(4), 120)], [10.0, 10.0, 50.0]);
    }

    #[test]
    fn each_node_has_its_place_among_the_leaders() {
        let cluster = ClusterFigures { leaders: [(NodeId(3), 11)].into(), ..ClusterFigures::default() };
        let status = Status { cluster, nodes: 3, running: vec![NodeId(2), NodeId(3)], ..Status::default() };
        assert!(status.line().contains("nodes 2/3, leaders 0+0+11"), "{}", status.line());
    }

    #[test]
    fn the_block_fits_a_small_terminal() {
        let cluster = ClusterFigures {
            commands_open: 1_000,
            commands_issued: 1_000_000,
            commands_succeeded: 1_000_000,
            ..ClusterFigures::default()
        };
        let status = Status {
            elapsed: Duration::from_secs(100_000),
            scene: "replay of Aarhus".to_owned(),
            readings_per_s: 100_000.0,
            cluster,
            ..Status::default()
        };
        assert!(status.block().lines().all(|line| line.chars().count() < 80), "{}", status.block());
    }
}
