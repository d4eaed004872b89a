//! What a drill found, for programs (JSON) and people (a table).
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kvarter_simulator::LoadReport;
use serde::Serialize;

use super::Drill;
use super::probe::Outage;
use super::strike::Aftermath;
use crate::check::{CommandCounts, RegisterCounts, Violation, Violations};
use crate::fleet::NodeProcess;

/// Violations of one checker that people are shown; the JSON has more.
const SHOWN_MAX: usize = 10;

/// One strike and what it did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StrikeRecord {
    pub round: u32,
    pub nodes: Vec<u64>,
    /// Their processes.
    pub pids: Vec<i32>,
    /// Shards that they led.
    pub shards_led: usize,
    /// From the strike until every shard had acknowledged a reading sent after it, milliseconds. All nodes at once are away for
    /// as long as their supervisor waits before it starts them again; that counts.
    pub outage_ms: u64,
    /// The shard that took longest.
    pub slowest_shard: u32,
    /// From a pause's begin until other nodes led all shards, milliseconds; the outage also has the time in which a client
    /// notices that its node stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_over_ms: Option<u64>,
    /// Things that a strike of many did, each of them judged.
    #[serde(skip_serializing_if = "is_zero")]
    pub acts: u64,
    /// What was measured, by name and unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<&'static str, f64>,
    /// The last word of a process that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(acts: &u64) -> bool {
    *acts == 0
}

impl StrikeRecord {
    /// `leaders` has the leader of each shard before the strike.
    pub(super) fn new(
        round: u32,
        struck: &[NodeProcess],
        leaders: &[u64],
        outage: &Outage,
        aftermath: Aftermath,
    ) -> Self {
        let Aftermath { taken_over, acts, figures, said, violations: _, ledgers: _ } = aftermath;
        let (slowest_shard, longest) = outage.longest().unwrap_or_default();
        let (outage_ms, taken_over_ms) = (millis(longest), taken_over.map(millis));
        let nodes: Vec<u64> = struck.iter().map(|node| node.id).collect();
        let pids = struck.iter().map(|node| node.pid).collect();
        let shards_led = leaders.iter().filter(|leader| nodes.contains(leader)).count();
        Self { round, nodes, pids, shards_led, outage_ms, slowest_shard, taken_over_ms, acts, figures, said }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Outages of all strikes; zero without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub outage_median_ms: u64,
    pub outage_worst_ms: u64,
}

impl Figures {
    fn of(strikes: &[StrikeRecord]) -> Self {
        let mut outages: Vec<u64> = strikes.iter().map(|strike| strike.outage_ms).collect();
        outages.sort_unstable();
        Self {
            outage_median_ms: outages.get(outages.len() / 2).copied().unwrap_or_default(),
            outage_worst_ms: outages.last().copied().unwrap_or_default(),
        }
    }
}

/// How much the checkers had before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Acknowledged readings, each held against the feed.
    pub readings: u64,
    /// Facts of the feed.
    pub facts: u64,
    /// Devices, each held against its twin.
    pub twins: u64,
    /// Shards whose replicas were compared.
    pub shards: u64,
    /// Commands, each followed from its issue to its end.
    pub commands: CommandCounts,
    /// Desired attributes that were written and read.
    pub registers: RegisterCounts,
}

impl Checked {
    /// Everything that a checker held against something else.
    pub fn operations(&self) -> u64 {
        let Self { readings, commands, registers, .. } = self;
        readings + commands.issued + commands.deliveries + registers.writes + registers.reads
    }
}

/// What each checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Strikes that did not happen, shards that did not come back.
    pub availability: Violations,
    /// What strikes of many found themselves.
    pub strikes: Violations,
    /// The feed as it was read all the while.
    pub feed: Violations,
    /// The feed as it was read again from the same begin when all was over.
    pub log: Violations,
    pub twins: Violations,
    pub replicas: Violations,
    pub commands: Violations,
    pub registers: Violations,
}

impl Verdict {
    /// No checker got anything to see, which none of them passes.
    pub(super) fn unchecked(availability: Violations) -> Self {
        let mut verdict = Self { availability, ..Self::default() };
        verdict.feed.require("feed", "acknowledged readings", 0, 1);
        verdict.log.require("feed", "acknowledged readings", 0, 1);
        verdict.twins.require("twins", "devices with an acknowledged reading", 0, 1);
        verdict.replicas.require("replicas", "shards with all replicas at one index", 0, 1);
        verdict.commands.require("commands", "commands from their issue to their effect", 0, 1);
        verdict.registers.require("registers", "reads", 0, 1);
        verdict
    }

    pub fn checkers(&self) -> [(&'static str, &Violations); 8] {
        let Self { availability, strikes, feed, log, twins, replicas, commands, registers } = self;
        [
            ("availability", availability),
            ("strikes", strikes),
            ("feed", feed),
            ("log", log),
            ("twins", twins),
            ("replicas", replicas),
            ("commands", commands),
            ("registers", registers),
        ]
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DrillReport {
    /// What was done to whom, in words.
    pub fault: String,
    /// No promise was broken, and enough was seen to say so.
    pub is_passed: bool,
    #[serde(flatten)]
    pub figures: Figures,
    pub strikes: Vec<StrikeRecord>,
    pub load: LoadReport,
    pub checked: Checked,
    pub verdict: Verdict,
}

impl DrillReport {
    /// A drill with fewer strikes than it was to make on `nodes` nodes does not pass.
    pub(super) fn new(
        drill: &Drill,
        nodes: usize,
        strikes: Vec<StrikeRecord>,
        load: LoadReport,
        checked: Checked,
        mut verdict: Verdict,
    ) -> Self {
        let expected = u64::from(drill.rounds) * drill.victims.strikes_per_round(nodes) as u64;
        verdict.availability.require("availability", "strikes", strikes.len() as u64, expected);
        // Readings whose streams gave up are neither acknowledged nor refused: the load itself did not go through.
        if load.errors > 0 {
            let reason = format!("{} gateway streams or devices of the load failed", load.errors);
            verdict.availability.add(Violation::DrillAborted { reason });
        }
        // A lane that is stuck for ever, or refused for good, must not hide behind others that are served.
        for (count, violation) in [
            (load.unanswered, Violation::ReadingsUnanswered { count: load.unanswered }),
            (load.rejected, Violation::ValidReadingsRejected { count: load.rejected }),
        ] {
            if count > 0 {
                verdict.availability.add(violation);
            }
        }
        let is_passed = verdict.checkers().iter().all(|(_, violations)| violations.count == 0);
        let fault = format!("{} of {}", drill.fault, drill.victims);
        Self { fault, is_passed, figures: Figures::of(&strikes), strikes, load, checked, verdict }
    }
}

impl fmt::Display for DrillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} times\n", self.fault, self.strikes.len())?;
        writeln!(f, "{:>5}  {:<10}{:>10}{:>12}{:>15}", "round", "nodes", "shards led", "outage ms", "slowest shard")?;
        for strike in &self.strikes {
            let StrikeRecord {
                round,
                nodes,
                shards_led,
                outage_ms,
                slowest_shard,
                taken_over_ms,
                acts,
                figures,
                said,
                ..
            } = strike;
            let nodes = nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            write!(f, "{round:>5}  {nodes:<10}{shards_led:>10}{outage_ms:>12}{slowest_shard:>15}")?;
            if let Some(taken_over_ms) = taken_over_ms {
                write!(f, "  taken over by others after {taken_over_ms} ms")?;
            }
            if *acts > 0 {
                write!(f, "  {acts} acts")?;
            }
            for (name, figure) in figures {
                write!(f, ", {name} {figure:.1}")?;
            }
            if let Some(said) = said {
                write!(f, "  refused: {said}")?;
            }
            writeln!(f)?;
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
        let Checked { readings, facts, twins, shards, commands, registers } = self.checked;
        let CommandCounts { issued, accepted, unknown, executed, deliveries, succeeded, expired } = commands;
        writeln!(
            f,
            "checked: {readings} acknowledged readings, {facts} facts, {twins} twins, replicas of {shards} shards,\n  \
             {issued} commands ({accepted} accepted, {unknown} of unknown outcome at first sight, {deliveries} deliveries, \
             {executed} effects, {succeeded} succeeded, {expired} expired),\n  registers with {} writes, {} of unknown \
             outcome, and {} reads\n",
            registers.writes, registers.unknown, registers.reads
        )?;
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::fault::{Fault, Victims};

    fn strike(outage_ms: u64) -> StrikeRecord {
        let (nodes, pids) = (vec![1], vec![77]);
        let figures = BTreeMap::new();
        let taken_over_ms = None;
        StrikeRecord {
            round: 1,
            nodes,
            pids,
            shards_led: 5,
            outage_ms,
            slowest_shard: 4,
            taken_over_ms,
            acts: 0,
            figures,
            said: None,
        }
    }

    /// Of a drill that was to strike three times.
    fn report(strikes: Vec<StrikeRecord>, load: LoadReport, verdict: Verdict) -> DrillReport {
        let (fault, victims) = (Fault::Kill, Victims::EachInTurn);
        let drill = Drill { fault, victims, rounds: 1, devices: 5, readings_per_s: 1.0, lanes: 1 };
        DrillReport::new(
            &drill,
            3,
            strikes,
            load,
            Checked { readings: 7, facts: 9, twins: 5, shards: 2, ..Checked::default() },
            verdict,
        )
    }

    #[test]
    fn figures_are_the_median_and_the_worst() {
        let report = report([700, 20, 90].map(strike).to_vec(), LoadReport::default(), Verdict::default());
        assert!(report.is_passed);
        assert_eq!(report.figures, Figures { outage_median_ms: 90, outage_worst_ms: 700 });
        assert!(report.to_string().ends_with("PASSED"));
    }

    #[test]
    fn a_report_says_what_was_done_how_often_and_what_was_checked() {
        let report = report([1, 2, 3].map(strike).to_vec(), LoadReport::default(), Verdict::default());
        let text = report.to_string();
        assert!(text.starts_with("kill of each node in turn: 3 times"), "{text}");
        assert!(text.contains("7 acknowledged readings, 9 facts, 5 twins, replicas of 2 shards"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["checked"]["readings"], &json["strikes"][0]["nodes"][0]), (&7.into(), &1.into()));
    }

    #[test]
    fn checkers_that_saw_nothing_do_not_pass() {
        let verdict = Verdict::unchecked(Violations::default());
        let report = report([1, 2, 3].map(strike).to_vec(), LoadReport::default(), verdict);
        let broken = report.verdict.checkers().map(|(_, violations)| violations.count);
        assert_eq!((report.is_passed, broken), (false, [0, 0, 1, 1, 1, 1, 1, 1]));
    }

    #[test]
    fn shards_that_struck_nodes_led_are_counted() {
        let outage = Outage { waited: Duration::ZERO, served_after: BTreeMap::new() };
        let node = |id| NodeProcess { id, pid: 77, api_address: String::new() };
        let led = |nodes: &[NodeProcess]| {
            StrikeRecord::new(1, nodes, &[1, 3, 1, 2], &outage, Aftermath::default()).shards_led
        };
        assert_eq!((led(&[node(1)]), led(&[node(3), node(2)])), (2, 2));
    }

    #[test]
    fn readings_without_an_answer_and_valid_ones_that_are_rejected_fail_the_drill() {
        let judge = |load| report([1, 2, 3].map(strike).to_vec(), load, Verdict::default());
        let served = LoadReport { sent: 9, stored: 6, late: 2, duplicate: 1, ..LoadReport::default() };
        assert!(judge(served.clone()).is_passed);
        let unanswered = judge(LoadReport { unanswered: 1, ..served.clone() });
        let rejected = judge(LoadReport { rejected: 2, ..served });
        assert_eq!(unanswered.verdict.availability.first, [Violation::ReadingsUnanswered { count: 1 }]);
        assert_eq!(rejected.verdict.availability.first, [Violation::ValidReadingsRejected { count: 2 }]);
        assert!(!unanswered.is_passed && !rejected.is_passed);
    }

    #[test]
    fn missing_strikes_broken_streams_and_violations_fail_the_drill() {
        let strikes = [1, 2, 3].map(strike);
        let too_few = report(strikes[..2].to_vec(), LoadReport::default(), Verdict::default());
        let broken = report(strikes.to_vec(), LoadReport { errors: 1, ..LoadReport::default() }, Verdict::default());
        let mut verdict = Verdict::default();
        verdict.feed.add(Violation::ReadingLost { device: "d".to_owned(), observed_us: 5 });
        let lost = report(strikes.to_vec(), LoadReport::default(), verdict);
        for report in [too_few, broken, lost] {
            assert!(!report.is_passed && report.to_string().ends_with("FAILED"), "{report}");
        }
    }
}
