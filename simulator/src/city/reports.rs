//! Reports that are not on a beat: delayed ones, and those of devices that come back from a blackout.
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use jiff::Timestamp;

use crate::scenario::Restart;
use crate::signal::TimedReading;

/// Readings that arrive late, in the order of their arrival. What they take is bounded by the share of late reports, their
/// longest delay and the rate of the city.
#[derive(Clone, Debug, Default)]
pub(super) struct Delayed {
    readings: BinaryHeap<Waiting>,
    /// Readings put in so far: of two that arrive at once, the first goes first.
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    arrives: Timestamp,
    number: u64,
    reading: TimedReading,
}

impl Delayed {
    pub(super) fn put(&mut self, arrives: Timestamp, readings: impl Iterator<Item = TimedReading>) {
        for reading in readings {
            self.count += 1;
            self.readings.push(Waiting { arrives, number: self.count, reading });
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.readings.peek().map(|waiting| waiting.arrives)
    }

    pub(super) fn take(&mut self) -> Option<TimedReading> {
        self.readings.pop().map(|waiting| waiting.reading)
    }
}

impl Ord for Waiting {
    /// The heap's greatest is the one that arrives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrives, other.number).cmp(&(self.arrives, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// Devices that come back one after the other, evenly over a time.
#[derive(Clone, Debug)]
pub(super) struct Restarting {
    restart: Restart,
    devices: u32,
    next: u32,
}

impl Restarting {
    pub(super) fn new(restart: Restart, devices: u32) -> Self {
        Self { restart, devices, next: 0 }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let share = f64::from(self.next) / f64::from(self.devices);
        let after = crate::dials::milliseconds(self.restart.spread.as_secs_f64() * share);
        (self.next < self.devices).then(|| self.restart.at + after)
    }

    /// The blackout, the number of the next device and when it is back.
    pub(super) fn take(&mut self) -> Option<(Restart, u32, Timestamp)> {
        let due = self.due()?;
        self.next += 1;
        Some((self.restart, self.next - 1, due))
    }
}
