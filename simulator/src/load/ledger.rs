//! What the devices of a load remember themselves: which of their readings the cluster accepted.
//!
//! A lane numbers its readings from 0. The number alone tells what the reading says ([`Turns`]), so it costs two bits, and a
//! history of millions fits where a checker can hold it against the feed and the twins.
use std::sync::Arc;

use super::{Serial, Turns};

/// The readings of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    turns: Arc<Turns>,
    sent: u64,
    accepted: Bits,
    rejected: Bits,
}

impl Ledger {
    /// An empty ledger of `devices`, which must not be empty; the first observations are at `first_observed_us`.
    pub fn new(devices: Vec<String>, first_observed_us: i64) -> Self {
        let turns = Arc::new(Turns::new(devices, first_observed_us));
        Self { turns, sent: 0, accepted: Bits::default(), rejected: Bits::default() }
    }

    /// What its readings say.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Takes the number of the next reading.
    pub fn send(&mut self) -> Serial {
        self.sent += 1;
        Serial(self.sent - 1)
    }

    /// Takes back `first` and what follows: it was not sent after all.
    pub(crate) fn withdraw_from(&mut self, first: Serial) {
        self.sent = self.sent.min(first.0);
    }

    /// The cluster said that it has the reading: stored, late, or counted as a repetition.
    pub fn accept(&mut self, serial: Serial) {
        self.accepted.set(serial.0);
    }

    /// The cluster refused the reading for good.
    pub fn reject(&mut self, serial: Serial) {
        self.rejected.set(serial.0);
    }

    pub fn is_accepted(&self, serial: Serial) -> bool {
        self.accepted.is_set(serial.0)
    }

    pub fn is_rejected(&self, serial: Serial) -> bool {
        self.rejected.is_set(serial.0)
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn accepted_count(&self) -> u64 {
        self.accepted.count()
    }

    /// Names `districts/{district}/devices/{device}` in the order of their turns.
    pub fn devices(&self) -> &[String] {
        self.turns.devices()
    }

    pub fn observed_us(&self, serial: Serial) -> i64 {
        self.turns.observed_us(serial)
    }

    /// The reading that the device at `turn` observed then; none if it never sent one with this time.
    pub fn find(&self, turn: usize, observed_us: i64) -> Option<Serial> {
        self.turns.find(turn, observed_us).filter(|serial| serial.0 < self.sent)
    }

    /// The newest accepted reading of the device at `turn`.
    pub fn newest_accepted(&self, turn: usize) -> Option<Serial> {
        let (turn, turns) = (turn as u64, self.devices().len() as u64);
        let rounds = self.sent.saturating_sub(turn).div_ceil(turns);
        (0..rounds).rev().map(|round| Serial(round * turns + turn)).find(|serial| self.is_accepted(*serial))
    }
}

/// A set of small numbers, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds `number`; false when it was in the set before.
    pub fn set(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    pub fn is_set(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Above all of its numbers, by less than 64.
    pub fn end(&self) -> u64 {
        self.words.len() as u64 * 64
    }

    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

fn place(number: u64) -> (usize, u64) {
    (usize::try_from(number / 64).expect("a set of readings fits in memory"), 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(["a", "b", "c"].map(str::to_owned).to_vec(), 5_000);
        for _ in 0..8 {
            ledger.send();
        }
        ledger
    }

    #[test]
    fn only_what_was_sent_is_found() {
        let ledger = ledger();
        assert_eq!(ledger.find(1, 7_000), Some(Serial(7)));
        assert_eq!(ledger.find(2, 7_000), None, "number 8 was not sent");
    }

    #[test]
    fn the_newest_accepted_reading_skips_unanswered_ones() {
        let mut ledger = ledger();
        ledger.accept(Serial(1));
        ledger.accept(Serial(4));
        ledger.reject(Serial(7));
        assert_eq!(ledger.newest_accepted(1), Some(Serial(4)));
        assert_eq!(ledger.newest_accepted(0), None);
        assert_eq!(ledger.accepted_count(), 2);
    }

    #[test]
    fn bits_say_whether_they_are_new() {
        let mut bits = Bits::default();
        assert!(bits.set(200) && !bits.set(200) && bits.is_set(200));
        assert!(!bits.is_set(199) && !bits.is_set(100_000));
        assert_eq!((bits.count(), bits.end()), (1, 256));
    }
}
