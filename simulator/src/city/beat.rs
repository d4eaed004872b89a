//! When the devices of a kind report: evenly spread over the interval, without a place in memory for each.
//!
//! A beat counts its intervals from 1970. Within one, the turns of its devices follow at equal distances, in an order that
//! jumps over the city, so that a district's devices do not all report at once. What is due next costs nothing to find.
use jiff::{SignedDuration, Timestamp};

use crate::signal::{Signal, SimulatedKind};

/// The regular reports of one kind at one interval.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) kind: SimulatedKind,
    /// What each report has.
    pub(crate) signals: Vec<Signal>,
    interval_ms: i64,
    devices: i64,
    /// Coprime to the number of devices.
    stride: i64,
    /// The next turn: number of the interval since 1970, and place within it.
    cycle: i64,
    turn: i64,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) due: Timestamp,
    /// Below the number of devices.
    pub(crate) ordinal: u32,
    /// Number of the interval: the device's own count of its reports.
    pub(crate) cycle: i64,
}

impl Beat {
    /// The beat of `devices` devices, above 0; its first turn is the first one not before `start`.
    pub(crate) fn new(
        kind: SimulatedKind,
        signals: Vec<Signal>,
        interval: SignedDuration,
        devices: u32,
        start: Timestamp,
    ) -> Self {
        let devices = i64::from(devices.max(1));
        let interval_ms = interval.as_secs() * 1_000;
        let start_ms =
            start.as_microsecond().div_euclid(1_000) + i64::from(start.as_microsecond().rem_euclid(1_000) > 0);
        let cycle = start_ms.div_euclid(interval_ms);
        let mut beat = Self { kind, signals, interval_ms, devices, stride: stride(devices), cycle, turn: 0 };
        // The distance of the turns is rounded down, so the first guess may be one short.
        beat.turn = start_ms.rem_euclid(interval_ms) * devices / interval_ms;
        while beat.due_ms() < start_ms {
            beat.advance();
        }
        beat
    }

    pub(crate) fn interval(&self) -> SignedDuration {
        SignedDuration::from_millis(self.interval_ms)
    }

    pub(crate) fn due(&self) -> Timestamp {
        Timestamp::from_millisecond(self.due_ms()).unwrap_or(Timestamp::MAX)
    }

    /// Takes the next turn.
    pub(crate) fn next_turn(&mut self) -> Turn {
        let ordinal = u32::try_from(self.turn * self.stride % self.devices).expect("below the number of devices");
        let turn = Turn { due: self.due(), ordinal, cycle: self.cycle };
        self.advance();
        turn
    }

    fn due_ms(&self) -> i64 {
        self.cycle * self.interval_ms + self.turn * self.interval_ms / self.devices
    }

    fn advance(&mut self) {
        self.turn += 1;
        if self.turn >= self.devices {
            self.turn = 0;
            self.cycle += 1;
        }
    }
}

/// About 0.618 of `devices`, and coprime to it.
fn stride(devices: i64) -> i64 {
    let common = |mut one: i64, mut other: i64| {
        while other != 0 {
            (one, other) = (other, one % other);
        }
        one
    };
    let golden = (devices * 618 / 1_000).max(1);
    (golden..).find(|stride| common(*stride, devices) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn beat(devices: u32, start_s: i64) -> Beat {
        let start = Timestamp::from_second(start_s).unwrap();
        Beat::new(SimulatedKind::Noise, vec![], SignedDuration::from_mins(5), devices, start)
    }

    proptest! {
        #[test]
        fn in_an_interval_each_device_has_one_turn(devices in 1..3_000_u32, start_s in 0..2_000_000_000_i64) {
            let mut beat = beat(devices, start_s);
            let turns: Vec<Turn> = (0..devices).map(|_| beat.next_turn()).collect();
            let all: BTreeSet<u32> = turns.iter().map(|turn| turn.ordinal).collect();
            prop_assert_eq!(all.len(), devices as usize);
            prop_assert!(turns.is_sorted_by_key(|turn| turn.due));
            let (start, end) = (Timestamp::from_second(start_s).unwrap(), turns[turns.len() - 1].due);
            prop_assert!(turns[0].due >= start && end < start + beat.interval());
        }

        #[test]
        fn a_beat_that_begins_later_goes_on_as_if_it_had_begun_before(devices in 1..500_u32, later_s in 0..900_i64) {
            let (mut whole, start_s) = (beat(devices, 1_000_000), 1_000_000 + later_s);
            while whole.due() < Timestamp::from_second(start_s).unwrap() {
                whole.next_turn();
            }
            let mut rest = beat(devices, start_s);
            for _ in 0..20 {
                prop_assert_eq!(rest.next_turn(), whole.next_turn());
            }
        }
    }
}
