//! Promises 1 and 4: every acknowledged reading is in the feed once, as it was sent and in the order of its device; positions
//! rise, nothing is missing between them.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kvarter_simulator::{Bits, Ledger, Serial, Turns};
use serde::Serialize;

use super::{Violation, Violations};

/// Nobody sends so many on one stream: six hours at 100,000 in a second. A time that would make it more was never sent, and costs
/// no memory.
const READINGS_MAX: u64 = 1 << 31;

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

/// Takes in the facts one by one, as they come, while their senders go on, and is concluded with what they remember: a history
/// of millions of readings needs one bit for each. Facts about devices that nobody follows count for the order of positions only.
#[derive(Debug, Default)]
pub struct FeedAudit {
    followed: Vec<Followed>,
    /// By name: places in `followed` and turns within them, in the order of their begin.
    devices: HashMap<String, Vec<(usize, usize)>>,
    last: BTreeMap<u32, Last>,
    facts: u64,
    violations: Violations,
}

/// Devices whose readings are followed.
#[derive(Debug)]
struct Followed {
    turns: Arc<Turns>,
    /// Readings that the feed has shown.
    shown: Bits,
    /// By turn: the latest of them.
    latest: Vec<Option<Serial>>,
}

/// The last fact of a shard.
#[derive(Debug)]
struct Last {
    position: FeedPosition,
    /// Devices that shared it.
    devices: BTreeSet<String>,
}

impl FeedAudit {
    /// Follows devices from before their first reading on. Whoever speaks for them anew later is followed anew, with times that
    /// begin behind all before.
    pub fn follow(&mut self, turns: &Arc<Turns>) {
        for (turn, device) in turns.devices().iter().enumerate() {
            self.devices.entry(device.clone()).or_default().push((self.followed.len(), turn));
        }
        let latest = vec![None; turns.devices().len()];
        self.followed.push(Followed { turns: Arc::clone(turns), shown: Bits::default(), latest });
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

    /// A fact that says that `device` observed `value`, if that is a number, at `observed_us`. Its position is told to
    /// [`FeedAudit::fact`]. Returns whether the device is followed.
    pub fn reading(&mut self, device: &str, observed_us: i64, value: Option<f64>) -> bool {
        if !self.devices.contains_key(device) {
            return false;
        }
        let named = || device.to_owned();
        let Some((number, serial)) = self.find(device, observed_us) else {
            self.violations.add(Violation::ReadingInvented { device: named(), observed_us });
            return true;
        };
        let Followed { turns, shown, latest } = &mut self.followed[number];
        let latest = &mut latest[turns.turn(serial)];
        if !shown.set(serial.0) {
            self.violations.add(Violation::ReadingRepeated { device: named(), observed_us });
        } else if *latest > Some(serial) {
            self.violations.add(Violation::ReadingOutOfOrder { device: named(), observed_us });
        }
        *latest = (*latest).max(Some(serial));
        let sent = Turns::value(serial);
        if value != Some(sent) {
            let shown = value.map(|value| value.to_string());
            self.violations.add(Violation::ReadingChanged {
                device: named(),
                observed_us,
                shown,
                sent: sent.to_string(),
            });
        }
        true
    }

    /// Whether the feed has shown what `device` observed at `observed_us`.
    pub fn has_shown(&self, device: &str, observed_us: i64) -> bool {
        self.find(device, observed_us).is_some_and(|(number, serial)| self.followed[number].shown.is_set(serial.0))
    }

    /// Where a reading belongs; none when nobody can have sent it.
    fn find(&self, device: &str, observed_us: i64) -> Option<(usize, Serial)> {
        let places = self.devices.get(device)?.iter().rev();
        let mut begun = places.filter(|(number, _)| self.followed[*number].turns.observed_us(Serial(0)) <= observed_us);
        let (number, turn) = *begun.next()?;
        let serial = self.followed[number].turns.find(turn, observed_us)?;
        (serial.0 < READINGS_MAX).then_some((number, serial))
    }

    /// The feed said that it can not show some facts.
    pub fn gap(&mut self, shard: u32, from: FeedPosition, to: FeedPosition) {
        self.violations.add(Violation::FeedGap { shard, from, to });
    }

    /// Facts seen so far.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Demands every reading that is acknowledged in `ledgers`, at least `readings_min` of them, from all of `shards_min` shards.
    /// Of devices that nobody followed, all are missing.
    pub fn conclude(mut self, ledgers: &[Ledger], readings_min: u64, shards_min: u64) -> Violations {
        let nothing = Bits::default();
        for ledger in ledgers {
            let followed = self.followed.iter().find(|followed| Arc::ptr_eq(&followed.turns, ledger.turns()));
            let shown = followed.map_or(&nothing, |followed| &followed.shown);
            for serial in (0..shown.end().max(ledger.sent())).map(Serial) {
                let (is_sent, is_shown) = (serial.0 < ledger.sent(), shown.is_set(serial.0));
                let violation = match (is_sent, is_shown) {
                    (false, true) => |device, observed_us| Violation::ReadingInvented { device, observed_us },
                    (true, true) if ledger.is_rejected(serial) => {
                        |device, observed_us| Violation::RejectedReadingStored { device, observed_us }
                    }
                    (true, false) if ledger.is_accepted(serial) => {
                        |device, observed_us| Violation::ReadingLost { device, observed_us }
                    }
                    (true | false, true | false) => continue,
                };
                let device = ledger.devices()[ledger.turns().turn(serial)].clone();
                self.violations.add(violation(device, ledger.observed_us(serial)));
            }
        }
        let acknowledged = ledgers.iter().map(Ledger::accepted_count).sum();
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
        value: Option<f64>,
    }

    /// A right history: accepted readings and half of those in doubt, five facts an entry.
    fn history(ledger: &Ledger) -> Vec<Fact> {
        let stored = (0..READINGS).map(Serial).filter(|serial| ledger.is_accepted(*serial) || serial.0 % 20 == 0);
        let placed = stored.zip(0_u32..).map(|(serial, number)| {
            let position = FeedPosition { index: 7 + u64::from(number / 5), ordinal: number % 5 };
            Fact { position, serial, value: Some(Turns::value(serial)) }
        });
        placed.collect()
    }

    fn audit(ledger: &Ledger, history: &[Fact]) -> Violations {
        let mut audit = FeedAudit::default();
        audit.follow(ledger.turns());
        for Fact { position, serial, value } in history {
            audit.fact(3, *position);
            let device = &ledger.devices()[ledger.turns().turn(*serial)];
            assert!(audit.reading(device, ledger.observed_us(*serial), *value));
        }
        audit.conclude(std::slice::from_ref(ledger), 200, 1)
    }

    fn at(index: u64) -> FeedPosition {
        FeedPosition { index, ordinal: 0 }
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
        history.push(Fact { position: at(10_000), serial, value: Some(Turns::value(serial)) });
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
        let mut audit = FeedAudit::default();
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
    fn a_changed_value_is_caught() {
        let ledger = ledger();
        let (device, observed_us) = ("districts/d/devices/1".to_owned(), ledger.observed_us(Serial(121)));
        let sent = Turns::value(Serial(121));
        for value in [Some(sent + 1.0), Some(Turns::value(Serial(122))), Some(-sent), Some(f64::NAN), None] {
            let mut history = history(&ledger);
            history.iter_mut().find(|fact| fact.serial == Serial(121)).unwrap().value = value;
            let (device, shown, sent) = (device.clone(), value.map(|value| value.to_string()), sent.to_string());
            let changed = Violation::ReadingChanged { device, observed_us, shown, sent };
            assert_eq!(audit(&ledger, &history).first, [changed]);
        }
    }

    #[test]
    fn readings_of_one_device_in_another_order_are_caught() {
        let ledger = ledger();
        let mut history = history(&ledger);
        let place = |serial| history.iter().position(|fact| fact.serial == Serial(serial)).unwrap();
        let (one, next) = (place(121), place(124));
        (history[one].serial, history[next].serial) = (Serial(124), Serial(121));
        (history[one].value, history[next].value) = (history[next].value, history[one].value);
        let found = audit(&ledger, &history);
        let observed_us = ledger.observed_us(Serial(121));
        let device = "districts/d/devices/1".to_owned();
        assert_eq!(found.first, [Violation::ReadingOutOfOrder { device, observed_us }]);
    }

    #[test]
    fn a_reading_that_nobody_sent_is_caught() {
        let mut ledger = Ledger::new(ledger().devices().to_vec(), 1_000_000);
        for _ in 0..READINGS {
            ledger.send();
        }
        let device = "districts/d/devices/0".to_owned();
        // Before the first, between two, behind what a stream can send, and behind what this one sent.
        for observed_us in [999, 1_000_001, i64::MAX, ledger.observed_us(Serial(READINGS))] {
            let mut audit = FeedAudit::default();
            audit.follow(ledger.turns());
            let value = ledger.turns().find(0, observed_us).map(Turns::value);
            assert!(audit.reading(&device, observed_us, value));
            assert!(!audit.reading("districts/other/devices/0", observed_us, value));
            let found = audit.conclude(std::slice::from_ref(&ledger), 0, 0).first;
            assert!(found.contains(&Violation::ReadingInvented { device: device.clone(), observed_us }), "{found:?}");
        }
    }

    #[test]
    fn who_speaks_for_a_device_anew_is_told_apart_from_who_did_before() {
        let device = "districts/d/devices/0";
        let speak = |first_observed_us| {
            let mut ledger = Ledger::new(vec![device.to_owned()], first_observed_us);
            let serial = ledger.send();
            ledger.accept(serial);
            ledger
        };
        let ledgers = [speak(1_000), speak(9_000)];
        let mut audit = FeedAudit::default();
        ledgers.iter().for_each(|ledger| audit.follow(ledger.turns()));
        let value = Some(Turns::value(Serial(0)));
        // The feed may be behind when the second begins.
        audit.fact(1, at(5));
        audit.reading(device, 1_000, value);
        assert!(audit.has_shown(device, 1_000) && !audit.has_shown(device, 9_000));
        audit.fact(1, at(6));
        audit.reading(device, 9_000, value);
        assert_eq!(audit.conclude(&ledgers, 2, 1), Violations::default());
    }

    #[test]
    fn what_nobody_followed_counts_as_lost() {
        let ledger = ledger();
        let found = FeedAudit::default().conclude(std::slice::from_ref(&ledger), 0, 0);
        assert_eq!(found.count, ledger.accepted_count());
        assert!(matches!(found.first[0], Violation::ReadingLost { .. }));
    }

    #[test]
    fn a_gap_is_caught() {
        let mut audit = FeedAudit::default();
        audit.gap(1, at(5), at(9));
        assert_eq!(audit.conclude(&[], 0, 0).first, [Violation::FeedGap { shard: 1, from: at(5), to: at(9) }]);
    }

    #[test]
    fn a_history_that_saw_too_little_fails() {
        let found = FeedAudit::default().conclude(&[], 1, 16).first;
        let too_little = |what, expected| Violation::TooLittleSeen { checker: "feed", what, seen: 0, expected };
        assert_eq!(found, [too_little("acknowledged readings", 1), too_little("shards", 16)]);
    }
}
