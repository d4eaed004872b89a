//! All drills one after the other, as a table with a row for each: for people, programs, and as one HTML page.
use std::fmt;
use std::time::Duration;

use kvarter_simulator::{Axis, Page, Plot};
use serde::Serialize;

use crate::drill::{Drill, DrillReport};
use crate::fault::{Assault, Fault, Victims};
use crate::stage::CutOff;

/// Violations of one drill that people are shown; each drill's own report has more.
const SHOWN_MAX: usize = 5;

/// A drill with its name, as the command line knows it.
#[derive(Clone, Copy, Debug)]
pub struct SuiteDrill {
    pub name: &'static str,
    pub fault: Fault,
    pub victims: Victims,
    pub rounds: u32,
    /// How the fault is made, in words.
    pub how: &'static str,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuiteRow {
    pub name: String,
    pub how: String,
    #[serde(flatten)]
    pub outcome: SuiteOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum SuiteOutcome {
    Ran(Box<DrillReport>),
    Skipped {
        reason: String,
    },
    /// It could not begin.
    Broken {
        reason: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Suite {
    pub is_passed: bool,
    pub elapsed_s: u64,
    pub rows: Vec<SuiteRow>,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Every drill that there is, short enough that all of them together take about a quarter of an hour.
pub const SUITE: [SuiteDrill; 19] = [
    SuiteDrill {
        name: "kill",
        fault: Fault::Kill,
        victims: Victims::EachInTurn,
        rounds: 2,
        how: "SIGKILL of each node in turn",
    },
    SuiteDrill { name: "kill all", fault: Fault::Kill, victims: Victims::All, rounds: 1, how: "SIGKILL of all nodes" },
    SuiteDrill {
        name: "pause",
        fault: Fault::Pause(seconds(8)),
        victims: Victims::BusiestLeader,
        rounds: 3,
        how: "SIGSTOP of the busiest leader, SIGCONT once others lead",
    },
    SuiteDrill {
        name: "power cut",
        fault: Fault::PowerCut,
        victims: Victims::EachInTurn,
        rounds: 1,
        how: "shutdown of the node's file system without flushing its log, then SIGKILL",
    },
    SuiteDrill {
        name: "power cut all",
        fault: Fault::PowerCut,
        victims: Victims::All,
        rounds: 1,
        how: "the same for all nodes at once",
    },
    SuiteDrill {
        name: "hang",
        fault: Fault::HungDisk(seconds(8)),
        victims: Victims::BusiestLeader,
        rounds: 1,
        how: "fsfreeze of the busiest leader's file system: its syncs hang",
    },
    SuiteDrill {
        name: "slow disk",
        fault: Fault::SlowDisk(seconds(10)),
        victims: Victims::BusiestLeader,
        rounds: 1,
        how: "block IO limit of ten writes in a second on the busiest leader",
    },
    SuiteDrill {
        name: "full disk",
        fault: Fault::FullDisk(seconds(10)),
        victims: Victims::BusiestLeader,
        rounds: 2,
        how: "a file takes all but 3 % of the busiest leader's disk; then all of it, before the killed node starts again",
    },
    SuiteDrill {
        name: "full disk all",
        fault: Fault::FullDisk(seconds(10)),
        victims: Victims::All,
        rounds: 1,
        how: "a file takes all but 3 % of every node's disk",
    },
    SuiteDrill {
        name: "damage",
        fault: Fault::Damage,
        victims: Victims::BusiestLeader,
        rounds: 5,
        how: "after SIGKILL: a flipped bit in the log, a log without its end, flipped bits in the checkpoints, an empty disk, \
              another cluster's disk",
    },
    SuiteDrill {
        name: "double",
        fault: Fault::Double,
        victims: Victims::BusiestLeader,
        rounds: 2,
        how: "a second process with the busiest leader's id, on an empty disk and on a copy of its disk",
    },
    SuiteDrill {
        name: "clock",
        fault: Fault::Clock(seconds(10)),
        victims: Victims::BusiestLeader,
        rounds: 3,
        how: "libfaketime: ten minutes ahead, ten behind, jumping between both",
    },
    SuiteDrill {
        name: "partition peers",
        fault: Fault::Cut(CutOff::Peers, seconds(10)),
        victims: Victims::BusiestLeader,
        rounds: 1,
        how: "the network link to the other nodes is down, clients still reach it",
    },
    SuiteDrill {
        name: "partition",
        fault: Fault::Cut(CutOff::Everybody, seconds(10)),
        victims: Victims::BusiestLeader,
        rounds: 1,
        how: "all network links are down",
    },
    SuiteDrill {
        name: "garbage",
        fault: Fault::Assault(Assault::Garbage),
        victims: Victims::All,
        rounds: 1,
        how: "hostile bytes, certificates, messages and values to every node",
    },
    SuiteDrill {
        name: "overload",
        fault: Fault::Assault(Assault::Overload),
        victims: Victims::All,
        rounds: 2,
        how: "twice and ten times the readings that were found to go through, and a flood of calls",
    },
    SuiteDrill {
        name: "poison",
        fault: Fault::Assault(Assault::Poison),
        victims: Victims::All,
        rounds: 2,
        how: "a reading on which the code for its device panics, where nodes are set to fail on it",
    },
    SuiteDrill {
        name: "streams",
        fault: Fault::Assault(Assault::Streams),
        victims: Victims::All,
        rounds: 1,
        how: "connections cut while a node dies, ten thousand streams, streams and feeds that nobody reads",
    },
    SuiteDrill {
        name: "kill after all",
        fault: Fault::Kill,
        victims: Victims::BusiestLeader,
        rounds: 3,
        how: "SIGKILL of the busiest leader, after everything above",
    },
];

impl SuiteDrill {
    pub fn drill(&self, devices: u32, readings_per_s: f64, lanes: u32) -> Drill {
        let Self { fault, victims, rounds, .. } = *self;
        Drill { fault, victims, rounds, devices, readings_per_s, lanes }
    }
}

impl Suite {
    /// Passes when at least one drill ran, and none failed; skipped ones count neither way.
    pub fn new(rows: Vec<SuiteRow>, elapsed: Duration) -> Self {
        let has_failed = |row: &SuiteRow| match &row.outcome {
            SuiteOutcome::Ran(report) => !report.is_passed,
            SuiteOutcome::Broken { .. } => true,
            SuiteOutcome::Skipped { .. } => false,
        };
        let has_run = rows.iter().any(|row| matches!(row.outcome, SuiteOutcome::Ran(_)));
        Self { is_passed: has_run && !rows.iter().any(has_failed), elapsed_s: elapsed.as_secs(), rows }
    }

    /// The table, its head first.
    pub fn table(&self) -> Vec<Vec<String>> {
        let head = ["fault", "how it is made", "times", "checked", "outage ms median", "worst", "outcome"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.rows.iter().map(|SuiteRow { name, how, outcome }| {
            let [times, checked, median, worst, outcome] = match outcome {
                SuiteOutcome::Ran(report) => [
                    report.strikes.len().to_string(),
                    report.checked.operations().to_string(),
                    report.figures.outage_median_ms.to_string(),
                    report.figures.outage_worst_ms.to_string(),
                    if report.is_passed { "passed".to_owned() } else { "FAILED".to_owned() },
                ],
                SuiteOutcome::Skipped { reason } => nothing(&format!("skipped, because {reason}")),
                SuiteOutcome::Broken { reason } => nothing(&format!("FAILED: {reason}")),
            };
            vec![name.clone(), how.clone(), times, checked, median, worst, outcome]
        }));
        rows
    }

    /// The same with each strike's outage, as a page that needs nothing else.
    pub fn page(&self) -> String {
        let mut page = Page::new("Drills of a Kvarter cluster");
        let outcome = if self.is_passed { "No promise was broken." } else { "Some drills failed." };
        page.paragraph(&format!(
            "{outcome} All drills together took {} s. An outage is the time from a strike until every shard had acknowledged a \
             reading that was sent after it. What was checked: acknowledged readings, commands, deliveries to devices, writes and \
             reads of desired attributes.",
            self.elapsed_s
        ));
        page.table(&self.table());
        for SuiteRow { name, outcome, .. } in &self.rows {
            let SuiteOutcome::Ran(report) = outcome else { continue };
            page.heading(name);
            page.paragraph(&report.fault);
            let outages = (1_u32..).zip(&report.strikes).map(|(number, strike)| {
                (f64::from(number), f64::from(u32::try_from(strike.outage_ms).unwrap_or(u32::MAX)))
            });
            let mut plot = Plot::over("Outage after each strike", "strike", "ms").line("every shard serves", outages);
            plot.y.1 = Axis::Linear;
            page.plot(&plot);
            report.to_string().lines().for_each(|line| page.paragraph(line));
        }
        page.finish()
    }
}

fn nothing(outcome: &str) -> [String; 5] {
    ["-", "-", "-", "-", outcome].map(str::to_owned)
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.table() {
            let [name, _how, times, checked, median, worst, outcome] = row.as_slice() else { continue };
            writeln!(f, "{name:<16}{times:>6}{checked:>12}{median:>18}{worst:>8}  {outcome}")?;
        }
        for row in &self.rows {
            let SuiteOutcome::Ran(report) = &row.outcome else { continue };
            let violations = report.verdict.checkers().into_iter().flat_map(|(_, found)| &found.first);
            for violation in violations.take(SHOWN_MAX) {
                writeln!(f, "{}: {violation}", row.name)?;
            }
        }
        write!(f, "\n{} in {} s", if self.is_passed { "PASSED" } else { "FAILED" }, self.elapsed_s)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn row(name: &str, outcome: SuiteOutcome) -> SuiteRow {
        SuiteRow { name: name.to_owned(), how: "by hand".to_owned(), outcome }
    }

    fn suite(outcomes: Vec<SuiteOutcome>) -> Suite {
        Suite::new(outcomes.into_iter().map(|outcome| row("x", outcome)).collect(), seconds(9))
    }

    fn ran(is_passed: bool) -> SuiteOutcome {
        SuiteOutcome::Ran(Box::new(DrillReport { is_passed, ..DrillReport::default() }))
    }

    #[test]
    fn a_suite_passes_when_something_ran_and_nothing_failed() {
        let skipped = || SuiteOutcome::Skipped { reason: "it needs root".to_owned() };
        assert!(suite(vec![ran(true), skipped()]).is_passed);
        assert!(!suite(vec![skipped()]).is_passed, "nothing ran");
        assert!(!suite(vec![ran(true), ran(false)]).is_passed);
        assert!(!suite(vec![ran(true), SuiteOutcome::Broken { reason: "no cluster".to_owned() }]).is_passed);
    }

    #[test]
    fn every_row_says_how_and_with_what_outcome() {
        let skipped = SuiteOutcome::Skipped { reason: "it needs root".to_owned() };
        let suite = suite(vec![ran(true), skipped]);
        let text = suite.to_string();
        assert!(text.contains("skipped, because it needs root") && text.ends_with("PASSED in 9 s"), "{text}");
        let page = suite.page();
        assert!(
            page.contains("<td>by hand</td>") && page.contains("<td>passed</td>") && page.contains("<svg"),
            "{page}"
        );
        let json = serde_json::to_value(&suite).unwrap();
        assert_eq!((&json["rows"][0]["outcome"], &json["rows"][1]["outcome"]), (&"ran".into(), &"skipped".into()));
    }

    #[test]
    fn drills_have_names_of_their_own() {
        let names: BTreeSet<_> = SUITE.iter().map(|drill| drill.name).collect();
        assert_eq!(names.len(), SUITE.len());
    }
}
