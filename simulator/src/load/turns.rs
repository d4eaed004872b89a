//! What the devices of one gateway stream say: everything about a reading follows from its number.
//!
//! So whoever sends, and whoever checks what came of it, needs to keep no more than a bit for each reading.
use kvarter_api::v1;

use crate::draw::mixed;

/// Number of a reading within its lane, in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(pub u64);

/// Time between two observations of one device. Real readings come further apart, so observation times stay behind the wall
/// clock by more and more, which the cluster allows.
const OBSERVATION_STEP_US: i64 = 1_000;
/// Values are whole numbers of so many bits: inside the range of what a load reports.
const VALUE_BITS: u32 = 10;

/// The devices of one lane take turns, and each turn is one step later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    devices: Vec<String>,
    first_observed_us: i64,
}

impl Turns {
    /// Of `devices`, which must not be empty; the first observations are at `first_observed_us`.
    pub fn new(devices: Vec<String>, first_observed_us: i64) -> Self {
        assert!(!devices.is_empty(), "a lane has devices");
        Self { devices, first_observed_us }
    }

    /// Names `districts/{district}/devices/{device}` in the order of their turns.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Place in [`Turns::devices`] of the device that sends the reading.
    pub fn turn(&self, serial: Serial) -> usize {
        usize::try_from(serial.0 % self.devices.len() as u64).expect("smaller than the number of devices")
    }

    pub fn observed_us(&self, serial: Serial) -> i64 {
        let round = serial.0 / self.devices.len() as u64;
        self.first_observed_us + round.cast_signed() * OBSERVATION_STEP_US
    }

    /// Another one than that of nearly every other reading, near or far.
    pub fn value(serial: Serial) -> f64 {
        f64::from(u16::try_from(mixed(serial.0) >> (u64::BITS - VALUE_BITS)).expect("ten bits"))
    }

    /// The reading as it is sent, with the device's turn as its alias.
    pub fn reading(&self, serial: Serial, attribute: u32) -> v1::Reading {
        v1::Reading {
            alias: u32::try_from(self.turn(serial)).expect("aliases are 32 bits wide"),
            attribute,
            observed_us: self.observed_us(serial),
            value: Some(v1::reading::Value::Number(Self::value(serial))),
        }
    }

    /// The reading that the device at `turn` observes then, whether or not it was sent; none if it observes nothing then.
    pub fn find(&self, turn: usize, observed_us: i64) -> Option<Serial> {
        let since_first = observed_us.checked_sub(self.first_observed_us)?;
        let round = u64::try_from(since_first / OBSERVATION_STEP_US).ok()?;
        let serial = Serial(round.checked_mul(self.devices.len() as u64)?.checked_add(turn as u64)?);
        (turn < self.devices.len() && self.observed_us(serial) == observed_us).then_some(serial)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn turns() -> Turns {
        Turns::new(["a", "b", "c"].map(str::to_owned).to_vec(), 5_000)
    }

    #[test]
    fn a_reading_is_found_by_device_and_time() {
        let turns = turns();
        for serial in (0..800).map(Serial) {
            assert_eq!(turns.find(turns.turn(serial), turns.observed_us(serial)), Some(serial));
        }
        assert_eq!(turns.find(0, 5_001), None, "between two steps");
        assert_eq!(turns.find(0, 4_000), None, "before the first");
        assert_eq!(turns.find(0, 4_999), None, "before the first, by less than a step");
        assert_eq!(turns.find(3, 5_000), None, "no such device");
        assert_eq!(turns.find(0, i64::MIN), None);
    }

    #[test]
    fn values_differ_from_those_next_to_them_and_of_the_same_device() {
        for stride in [1, 3, 64, 100, 1_024, 5_000] {
            let differ = |serial: u64| Turns::value(Serial(serial)) != Turns::value(Serial(serial + stride));
            let count = (0..10_000).filter(|serial| differ(*serial)).count();
            assert!(count > 9_900, "{count} of 10,000 at a stride of {stride}");
        }
        let values: BTreeSet<u64> = (0..100_000).map(|serial| Turns::value(Serial(serial)).to_bits()).collect();
        assert_eq!(values.len(), 1 << VALUE_BITS);
        assert!((0..100_000).all(|serial| (0.0..2_000.0).contains(&Turns::value(Serial(serial)))));
    }
}
