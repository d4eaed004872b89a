//! Promises 1 and 4: every acknowledged reading is in the feed once, positions rise, nothing is missing between them.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use kvarter_simulator::{Bits, Ledger, Serial};
use serde::Serialize;

use super::{Violation, Violations};

/// Where a fact stands in the feed of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FeedPosition {
    pub index: u64,
    pub ordinal: u32,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({}, {})", self.index, self.ordinal)
    }
}

/// Takes in the facts one by one, as they come, and is concluded at the end: a history of millions of readings needs one bit
/// for each. Facts about devices that no ledger knows count for the order of positions only.
pub struct FeedAudit<'a> {
    ledgers: &'a [Ledger],
    /// By name: number of the ledger and turn within it.
    devices: HashMap<&'a str, (usize, usize)>,
    /// Readings of each ledger that the feed has shown.
    shown: Vec<Bits>,
    last: BTreeMap<u32, Last>,
    facts: u64,
    violations: Violations,
}

/// The last fact of a shard.
#[derive(Debug)]
struct Last {
    position: FeedPosition,
    /// Devices that shared it.
    devices: BTreeSet<String>,
}

impl<'a> FeedAudit<'a> {
    pub fn new(ledgers: &'a [Ledger]) -> Self {
        let turns = |(number, ledger): (usize, &'a Ledger)| {
            ledger.devices().iter().enumerate().map(move |(turn, device)| (device.as_str(), (number, turn)))
        };
        Self {
            ledgers,
            devices: ledgers.iter().enumerate().flat_map(turns).collect(),
            shown: vec![Bits::default(); ledgers.len()],
            last: BTreeMap::new(),
            facts: 0,
            violations: Violations::default(),
        }
    }

    /// Any fact, in the order of the feed of `shard`, with a position of its own.
    pub fn fact(&mut self, shard: u32, position: FeedPosition) {
        self.facts += 1;
        let last = self.last.insert(shard, Last { position, devices: BTreeSet::new() });
        if let Some(Last { position: last, .. }) = last.filter(|last| position <= last.position) {
            self.violations.add(Violation::PositionNotRising { shard, last, next: position });
        }
    }

    /// A fact about `device` that stands for it in a fact about many, such as the end of a stream: those share one position,
    /// each device once.
    pub fn shared_fact(&mut self, shard: u32, position: FeedPosition, device: &str) {
        match self.last.get_mut(&shard) {
            Some(last) if last.position == position && !last.devices.is_empty() => {
                self.facts += 1;
                if !last.devices.insert(device.to_owned()) {
                    self.violations.add(Violation::PositionNotRising { shard, last: position, next: position });
                }
            }
            Some(_) | None => {
                self.fact(shard, position);
                self.last.insert(shard, Last { position, devices: BTreeSet::from([device.to_owned()]) });
            }
        }
    }

    /// A fact that says what `device` observed at `observed_us`. Its position is told to [`FeedAudit::fact`]. Returns whether
    /// the device is in a ledger.
    pub fn reading(&mut self, device: &str, observed_us: i64) -> bool {
        let Some(&(number, turn)) = self.devices.get(device) else { return false };
        let ledger = &self.ledgers[number];
        let Some(serial) = ledger.find(turn, observed_us) else {
            self.violations.add(Violation::ReadingInvented { device: device.to_owned(), observed_us });
            return true;
        };
        if !self.shown[number].set(serial.0) {
            self.violations.add(Violation::ReadingRepeated { device: device.to_owned(), observed_us });
        }
        if ledger.is_rejected(serial) {
            self.violations.add(Violation::RejectedReadingStored { device: device.to_owned(), observed_us });
        }
        true
    }

    /// The feed said that it can not show some facts.
    pub fn gap(&mut self, shard: u32, from: FeedPosition, to: FeedPosition) {
        self.violations.add(Violation::FeedGap { shard, from, to });
    }

    /// Facts seen so far.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Demands every acknowledged reading, at least `readings_min` of them, from all of `shards_min` shards.
    pub fn conclude(mut self, readings_min: u64, shards_min: u64) -> Violations {
        for (ledger, shown) in self.ledgers.iter().zip(&self.shown) {
            for serial in (0..ledger.sent()).map(Serial) {
                if ledger.is_accepted(serial) && !shown.is_set(serial.0) {
                    let device = ledger.devices()[ledger.turn(serial)].clone();
                    let observed_us = ledger.observed_us(serial);
                    self.violations.add(Violation::ReadingLost { device, observed_us });
                }
            }
        }
        let acknowledged = self.ledgers.iter().map(Ledger::accepted_count).sum();
        self.violations.require("feed", "acknowledged readings", acknowledged, readings_min);
        self.violations.require("feed", "shards", self.last.len() as u64, shards_min);
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READINGS: u64 = 300;

    /// Three devices, all readings sent and accepted but every tenth, which is in doubt.
    fn ledger() -> Ledger {
        let devices = (0..3).map(|number| format!("districts/d/devices/{number}")).collect();
        let mut ledger = Ledger::new(devices, 1_000_000);
        for number in 0..READINGS {
            let serial = ledger.send();
            if number % 10 != 0 {
                ledger.accept(serial);
            }
        }
        ledger
    }

    struct Fact {
        position: FeedPosition,
        serial: Serial,
    }

    /// A right history: accepted readings and half of those in doubt, five facts an entry.
    fn history(ledger: &Ledger) -> Vec<Fact> {
        let stored = (0..READINGS).map(Serial).filter(|serial| ledger.is_accepted(*serial) || serial.0 % 20 == 0);
        let placed = stored.zip(0_u32..).map(|(serial, number)| {
            let position = FeedPosition { index: 7 + u64::from(number / 5), ordinal: number % 5 };
            Fact { position, serial }
        });
        placed.collect()
    }

    fn audit(ledger: &Ledger, history: &[Fact]) -> Violations {
        let ledgers = std::slice::from_ref(ledger);
        let mut audit = FeedAudit::new(ledgers);
        for fact in history {
            audit.fact(3, fact.position);
            audit.reading(&ledger.devices()[ledger.turn(fact.serial)], ledger.observed_us(fact.serial));
        }
        audit.conclude(200, 1)
    }

    #[test]
    fn a_right_history_passes() {
        let ledger = ledger();
        assert_eq!(audit(&ledger, &history(&ledger)), Violations::default());
    }

    #[test]
    fn a_missing_reading_is_caught() {
        let ledger = ledger();
        let mut history = history(&ledger);
        let missing = history.iter().position(|fact| fact.serial == Serial(121)).unwrap();
        history.remove(missing);
        let found = audit(&ledger, &history);
        let observed_us = ledger.observed_us(Serial(121));
        let device = "districts/d/devices/1".to_owned();
        assert_eq!(found.first, [Violation::ReadingLost { device, observed_us }]);
    }

    #[test]
    fn a_repeated_fact_is_caught_even_with_a_new_position() {
        let ledger = ledger();
        let mut history = history(&ledger);
        let serial = history[40].serial;
        history.push(Fact { position: FeedPosition { index: 10_000, ordinal: 0 }, serial });
        assert!(matches!(audit(&ledger, &history).first[..], [Violation::ReadingRepeated { .. }]));
    }

    #[test]
    fn positions_that_stand_still_or_fall_are_caught() {
        let ledger = ledger();
        let mut still = history(&ledger);
        still[50].position = still[49].position;
        assert!(matches!(audit(&ledger, &still).first[..], [Violation::PositionNotRising { shard: 3, .. }]));
        let mut swapped = history(&ledger);
        swapped.swap(10, 11);
        assert!(matches!(audit(&ledger, &swapped).first[..], [Violation::PositionNotRising { .. }]));
    }

    #[test]
    fn devices_share_a_position_once_each_and_with_no_other_fact() {
        let at = |index| FeedPosition { index, ordinal: 0 };
        let mut audit = FeedAudit::new(&[]);
        for device in ["a", "b", "c"] {
            audit.shared_fact(1, at(5), device);
        }
        audit.fact(1, at(6));
        audit.shared_fact(1, at(7), "a");
        assert_eq!((audit.facts(), audit.violations.count), (5, 0));
        audit.shared_fact(1, at(7), "a");
        assert_eq!(audit.violations.count, 1, "one device twice");
        audit.fact(1, at(7));
        assert_eq!(audit.violations.count, 2, "another fact at the shared position");
        audit.shared_fact(1, at(7), "b");
        assert_eq!(audit.violations.count, 3, "sharing a fact's own position");
    }

    #[test]
    fn a_rejected_reading_in_the_feed_is_caught() {
        let mut ledger = ledger();
        ledger.reject(Serial(20));
        let found = audit(&ledger, &history(&ledger));
        assert!(matches!(found.first[..], [Violation::RejectedReadingStored { .. }]));
    }

    #[test]
    fn a_reading_that_nobody_sent_is_caught() {
        let ledger = ledger();
        let ledgers = [ledger];
        let mut audit = FeedAudit::new(&ledgers);
        assert!(audit.reading("districts/d/devices/0", 999));
        assert!(!audit.reading("districts/other/devices/0", 999));
        assert_eq!(
            audit.conclude(0, 0).first[0],
            Violation::ReadingInvented { device: "districts/d/devices/0".to_owned(), observed_us: 999 }
        );
    }

    #[test]
    fn a_gap_is_caught() {
        let mut audit = FeedAudit::new(&[]);
        let at = |index| FeedPosition { index, ordinal: 0 };
        audit.gap(1, at(5), at(9));
        assert_eq!(audit.conclude(0, 0).first, [Violation::FeedGap { shard: 1, from: at(5), to: at(9) }]);
    }

    #[test]
    fn a_history_that_saw_too_little_fails() {
        let found = FeedAudit::new(&[]).conclude(1, 16).first;
        let too_little = |what, expected| Violation::TooLittleSeen { checker: "feed", what, seen: 0, expected };
        assert_eq!(found, [too_little("acknowledged readings", 1), too_little("shards", 16)]);
    }
}
