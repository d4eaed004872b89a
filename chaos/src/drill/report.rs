//! What a drill found, for programs (JSON) and people (a table).
use std::fmt;

use kvarter_simulator::LoadReport;
use serde::Serialize;

use super::probe::Outage;
use crate::check::{Violation, Violations};
use crate::fleet::NodeProcess;

/// Violations of one checker that people are shown; the JSON has more.
const SHOWN_MAX: usize = 10;

/// One kill and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KillRecord {
    pub round: u32,
    pub node: u64,
    pub pid: i32,
    /// From the kill until every shard had acknowledged a reading sent after it, milliseconds.
    pub outage_ms: u64,
    /// The shard that took longest.
    pub slowest_shard: u32,
}

impl KillRecord {
    pub(super) fn new(round: u32, killed: &NodeProcess, outage: &Outage) -> Self {
        let (slowest_shard, longest) = outage.longest().unwrap_or_default();
        let outage_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Self { round, node: killed.id, pid: killed.pid, outage_ms, slowest_shard }
    }
}

/// Outages of all kills; zero without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub outage_median_ms: u64,
    pub outage_worst_ms: u64,
}

impl Figures {
    fn of(kills: &[KillRecord]) -> Self {
        let mut outages: Vec<u64> = kills.iter().map(|kill| kill.outage_ms).collect();
        outages.sort_unstable();
        Self {
            outage_median_ms: outages.get(outages.len() / 2).copied().unwrap_or_default(),
            outage_worst_ms: outages.last().copied().unwrap_or_default(),
        }
    }
}

/// What each checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Kills that did not happen, shards that did not come back.
    pub availability: Violations,
    pub feed: Violations,
    pub twins: Violations,
    pub replicas: Violations,
}

impl Verdict {
    fn checkers(&self) -> [(&'static str, &Violations); 4] {
        let Self { availability, feed, twins, replicas } = self;
        [("availability", availability), ("feed", feed), ("twins", twins), ("replicas", replicas)]
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillReport {
    /// No promise was broken, and enough was seen to say so.
    pub is_passed: bool,
    #[serde(flatten)]
    pub figures: Figures,
    pub kills: Vec<KillRecord>,
    pub load: LoadReport,
    /// Facts of the feed that were audited.
    pub facts: u64,
    pub verdict: Verdict,
}

impl DrillReport {
    /// A drill with fewer kills than expected does not pass.
    pub(super) fn new(
        kills: Vec<KillRecord>,
        kills_expected: u64,
        load: LoadReport,
        facts: u64,
        mut verdict: Verdict,
    ) -> Self {
        verdict.availability.require("availability", "kills", kills.len() as u64, kills_expected);
        // Readings whose streams gave up are neither acknowledged nor refused: the load itself did not go through.
        if load.errors > 0 {
            let reason = format!("{} gateway streams or devices of the load failed", load.errors);
            verdict.availability.add(Violation::DrillAborted { reason });
        }
        let is_passed = verdict.checkers().iter().all(|(_, violations)| violations.count == 0);
        Self { is_passed, figures: Figures::of(&kills), kills, load, facts, verdict }
    }
}

impl fmt::Display for DrillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5}{:>6}{:>9}{:>12}{:>15}", "round", "node", "process", "outage ms", "slowest shard")?;
        for KillRecord { round, node, pid, outage_ms, slowest_shard } in &self.kills {
            writeln!(f, "{round:>5}{node:>6}{pid:>9}{outage_ms:>12}{slowest_shard:>15}")?;
        }
        let Figures { outage_median_ms, outage_worst_ms } = self.figures;
        writeln!(
            f,
            "\noutage until every shard took writes again: median {outage_median_ms} ms, worst {outage_worst_ms} ms"
        )?;
        let LoadReport { sent, stored, late, duplicate, rejected, unanswered, .. } = &self.load;
        writeln!(
            f,
            "load: {sent} readings sent, {stored} stored, {late} late, {duplicate} duplicate, {rejected} rejected, \
             {unanswered} unanswered"
        )?;
        writeln!(f, "feed: {} facts audited\n", self.facts)?;
        for (checker, violations) in self.verdict.checkers() {
            let word = if violations.count == 0 { "held" } else { "BROKEN" };
            writeln!(f, "{checker:<13}{word:<8}{} violations", violations.count)?;
            for violation in violations.first.iter().take(SHOWN_MAX) {
                writeln!(f, "  {violation}")?;
            }
        }
        write!(f, "\n{}", if self.is_passed { "PASSED" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(outage_ms: u64) -> KillRecord {
        KillRecord { round: 1, node: 1, pid: 77, outage_ms, slowest_shard: 4 }
    }

    fn report(kills: Vec<KillRecord>, load: LoadReport, verdict: Verdict) -> DrillReport {
        DrillReport::new(kills, 3, load, 9, verdict)
    }

    #[test]
    fn figures_are_the_median_and_the_worst() {
        let report = report([700, 20, 90].map(kill).to_vec(), LoadReport::default(), Verdict::default());
        assert!(report.is_passed);
        assert_eq!(report.figures, Figures { outage_median_ms: 90, outage_worst_ms: 700 });
        assert!(report.to_string().ends_with("PASSED"));
    }

    #[test]
    fn missing_kills_broken_streams_and_violations_fail_the_drill() {
        let kills = [1, 2, 3].map(kill);
        let too_few = report(kills[..2].to_vec(), LoadReport::default(), Verdict::default());
        let broken = report(kills.to_vec(), LoadReport { errors: 1, ..LoadReport::default() }, Verdict::default());
        let mut verdict = Verdict::default();
        verdict.feed.add(Violation::ReadingLost { device: "d".to_owned(), observed_us: 5 });
        let lost = report(kills.to_vec(), LoadReport::default(), verdict);
        for report in [too_few, broken, lost] {
            assert!(!report.is_passed && report.to_string().ends_with("FAILED"), "{report}");
        }
    }
}
