//! Promise 2: each twin is a linearizable register.
//!
//! Every write says where it stands in the log, and every read which state it shows, so the order need not be searched for: it
//! is given, and only has to agree with real time and with what the reads returned.
use std::collections::HashSet;

use serde::Serialize;

use super::{FeedPosition, Violation, Violations};

/// What one register was asked, by any number of callers; the writes by one after the other, each with a value of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterHistory {
    /// `districts/{district}/devices/{device}`
    pub device: String,
    /// In the order of their calls. The first one is applied before any read begins.
    pub writes: Vec<RegisterWrite>,
    pub reads: Vec<RegisterRead>,
}

/// Times are microseconds of one clock that never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterWrite {
    pub value: u64,
    pub called_us: u64,
    pub answered_us: u64,
    pub outcome: WriteOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// At this place in the log.
    Applied(FeedPosition),
    /// Certainly not.
    Refused,
    /// Perhaps, also later.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterRead {
    pub called_us: u64,
    pub answered_us: u64,
    /// Everything up to here is in the answer, and nothing behind it.
    pub position: FeedPosition,
    /// None: no value.
    pub value: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegisterCounts {
    pub writes: u64,
    pub unknown: u64,
    pub reads: u64,
}

/// Judges each register for itself. Demands `reads_min` reads and as many applied writes of all of them together.
pub fn check_registers(histories: &[RegisterHistory], operations_min: u64) -> (Violations, RegisterCounts) {
    let (mut violations, mut counts) = (Violations::default(), RegisterCounts::default());
    for history in histories {
        counts.writes += history.applied().count() as u64;
        counts.unknown += history.unknown().count() as u64;
        counts.reads += history.reads.len() as u64;
        history.judge_order(&mut violations);
        history.judge_values(&mut violations);
    }
    violations.require("registers", "applied writes", counts.writes, operations_min);
    violations.require("registers", "reads", counts.reads, operations_min);
    (violations, counts)
}

impl RegisterHistory {
    fn applied(&self) -> impl Iterator<Item = (FeedPosition, &RegisterWrite)> {
        self.writes.iter().filter_map(|write| match write.outcome {
            WriteOutcome::Applied(position) => Some((position, write)),
            WriteOutcome::Refused | WriteOutcome::Unknown => None,
        })
    }

    fn unknown(&self) -> impl Iterator<Item = &RegisterWrite> {
        self.writes.iter().filter(|write| write.outcome == WriteOutcome::Unknown)
    }

    /// What was answered before a call began stands before it in the log.
    fn judge_order(&self, violations: &mut Violations) {
        let writes = self.applied().map(|(position, write)| (write.called_us, write.answered_us, position, true));
        let reads = self.reads.iter().map(|read| (read.called_us, read.answered_us, read.position, false));
        let mut by_call: Vec<_> = writes.chain(reads).collect();
        let mut by_answer = by_call.clone();
        by_call.sort_unstable_by_key(|(called_us, ..)| *called_us);
        by_answer.sort_unstable_by_key(|(_, answered_us, ..)| *answered_us);
        let mut answered = by_answer.into_iter().peekable();
        let mut furthest: Option<FeedPosition> = None;
        for (called_us, _, position, is_write) in by_call {
            while let Some((_, _, earlier, _)) = answered.next_if(|(_, answered_us, ..)| *answered_us < called_us) {
                furthest = furthest.max(Some(earlier));
            }
            // Two reads may show one state; a write is always news.
            if furthest.is_some_and(|furthest| position < furthest || (is_write && position == furthest)) {
                let (device, before) = (self.device.clone(), furthest.expect("just looked at"));
                violations.add(Violation::RegisterWentBack { device, at: position, before });
            }
        }
    }

    /// Each read shows the last write at or before its position: the last applied one, or an unknown one that came after it.
    ///
    /// What was shown and gave way to another value does not come back, and one position has one value.
    fn judge_values(&self, violations: &mut Violations) {
        let mut applied: Vec<(FeedPosition, u64)> =
            self.applied().map(|(position, write)| (position, write.value)).collect();
        applied.sort_unstable();
        let mut applied = applied.into_iter().peekable();
        let mut reads: Vec<&RegisterRead> = self.reads.iter().collect();
        reads.sort_by_key(|read| (read.position, read.called_us));
        let (mut current, mut overwritten) = (None, HashSet::new());
        let mut last_read: Option<FeedPosition> = None;
        for read in reads {
            while let Some((_, value)) = applied.next_if(|(position, _)| *position <= read.position) {
                overwritten.extend(current.replace(value));
            }
            let Some(written) = current else {
                // From before the history; an unknown write that shows here was overwritten by the first applied one.
                overwritten.extend(read.value);
                continue;
            };
            let is_news = last_read.replace(read.position) != Some(read.position);
            if read.value == Some(written) {
                continue;
            }
            let came_late = |value: &u64| {
                is_news
                    && !overwritten.contains(value)
                    && self.unknown().any(|write| write.value == *value && write.called_us < read.answered_us)
            };
            if let Some(value) = read.value.filter(came_late) {
                overwritten.extend(current.replace(value));
            } else {
                let (device, at, shown) = (self.device.clone(), read.position, read.value);
                violations.add(Violation::RegisterShowsWrongValue { device, at, shown, written });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> FeedPosition {
        FeedPosition { index, ordinal: 0 }
    }

    /// A write of `value` that takes its time from `called_us` on.
    fn write(value: u64, called_us: u64, outcome: WriteOutcome) -> RegisterWrite {
        RegisterWrite { value, called_us, answered_us: called_us + 10, outcome }
    }

    fn read(called_us: u64, index: u64, value: u64) -> RegisterRead {
        RegisterRead { called_us, answered_us: called_us + 10, position: at(index), value: Some(value) }
    }

    /// Two applied writes with an unknown one between them that took effect, and reads of all three.
    fn history() -> RegisterHistory {
        RegisterHistory {
            device: "d".to_owned(),
            writes: vec![
                write(1, 0, WriteOutcome::Applied(at(5))),
                write(2, 100, WriteOutcome::Unknown),
                write(3, 200, WriteOutcome::Applied(at(9))),
            ],
            reads: vec![read(20, 5, 1), read(120, 6, 1), read(140, 8, 2), read(220, 9, 3), read(240, 12, 3)],
        }
    }

    fn judge(history: RegisterHistory) -> Vec<Violation> {
        check_registers(&[history], 2).0.first
    }

    #[test]
    fn a_linearizable_history_passes_and_is_counted() {
        let (found, counts) = check_registers(&[history()], 2);
        assert_eq!((found, counts), (Violations::default(), RegisterCounts { writes: 2, unknown: 1, reads: 5 }));
    }

    #[test]
    fn a_stale_read_is_named() {
        let mut stale = history();
        stale.reads[4] = read(240, 8, 2);
        let went_back = Violation::RegisterWentBack { device: "d".to_owned(), at: at(8), before: at(9) };
        assert_eq!(judge(stale), [went_back]);
    }

    #[test]
    fn a_write_before_what_was_read_is_named() {
        let mut history = history();
        history.writes[2].outcome = WriteOutcome::Applied(at(7));
        let found = judge(history);
        assert!(matches!(found[0], Violation::RegisterWentBack { .. }), "{found:?}");
    }

    #[test]
    fn a_lost_write_is_named() {
        let mut history = history();
        history.reads[4].value = Some(1);
        let wrong =
            Violation::RegisterShowsWrongValue { device: "d".to_owned(), at: at(12), shown: Some(1), written: 3 };
        assert_eq!(judge(history.clone()), [wrong]);
        history.reads[4].value = None;
        assert!(matches!(judge(history)[..], [Violation::RegisterShowsWrongValue { shown: None, .. }]));
    }

    #[test]
    fn an_overwritten_unknown_write_that_comes_back_is_named() {
        let mut history = history();
        history.reads[4].value = Some(2);
        assert!(matches!(judge(history)[..], [Violation::RegisterShowsWrongValue { shown: Some(2), .. }]));
    }

    #[test]
    fn an_unknown_write_that_was_seen_and_then_lost_is_named() {
        let mut lost = history();
        lost.reads = vec![read(120, 6, 2), read(140, 8, 1), read(220, 9, 3)];
        let wrong =
            Violation::RegisterShowsWrongValue { device: "d".to_owned(), at: at(8), shown: Some(1), written: 2 };
        assert_eq!(judge(lost.clone()), [wrong]);
        // One unknown write overwrites the other, which then shows again.
        lost.writes.insert(2, write(4, 110, WriteOutcome::Unknown));
        lost.reads = vec![read(120, 6, 2), read(140, 7, 4), read(160, 8, 2), read(220, 9, 3)];
        assert!(matches!(judge(lost)[..], [Violation::RegisterShowsWrongValue { shown: Some(2), written: 4, .. }]));
    }

    #[test]
    fn two_values_at_one_position_are_named() {
        let mut torn = history();
        torn.reads = vec![read(120, 6, 1), read(140, 6, 2), read(220, 9, 3)];
        assert!(matches!(judge(torn)[..], [Violation::RegisterShowsWrongValue { shown: Some(2), written: 1, .. }]));
    }

    #[test]
    fn an_unknown_write_may_come_late_but_not_before_its_call() {
        let mut late = history();
        late.reads = vec![read(20, 5, 1), read(220, 9, 3), read(240, 12, 2), read(260, 13, 2)];
        assert_eq!(judge(late), []);
        let mut early = history();
        early.reads[0] = read(20, 5, 2);
        assert!(matches!(judge(early)[..], [Violation::RegisterShowsWrongValue { shown: Some(2), .. }]));
    }

    #[test]
    fn a_value_that_nobody_wrote_and_one_that_was_refused_are_named() {
        let mut invented = history();
        invented.reads[4].value = Some(77);
        assert!(matches!(judge(invented)[..], [Violation::RegisterShowsWrongValue { shown: Some(77), .. }]));
        let mut refused = history();
        refused.writes[1].outcome = WriteOutcome::Refused;
        assert!(matches!(judge(refused)[..], [Violation::RegisterShowsWrongValue { shown: Some(2), .. }]));
    }

    #[test]
    fn too_few_operations_are_no_pass() {
        let few = RegisterHistory { reads: vec![read(20, 5, 1)], ..history() };
        assert!(matches!(judge(few)[..], [Violation::TooLittleSeen { checker: "registers", seen: 1, .. }]));
    }
}
