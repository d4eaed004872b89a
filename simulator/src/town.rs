//! A small town from a seed: districts, streets, garages, containers, air and weather stations.
//!
//! What a sensor measures is a pure function of the seed, the device and the moment, so a town can go on from any moment and
//! two towns of one seed show the same trace, however they are stepped. `sensors` has those functions, `plan` the map.
mod plan;
mod sensors;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use jiff::{SignedDuration, Timestamp};

use crate::device::{DeviceIndex, SimulatedDevice};
use crate::signal::TimedReading;
use sensors::Sensor;

/// The sensing devices of a town and when each measures next. Its lamps belong to the world.
#[derive(Clone, Debug)]
pub(crate) struct Town {
    seed: u64,
    /// By device; lamps have none.
    sensors: Vec<Option<Sensor>>,
    due: BinaryHeap<Reverse<(Timestamp, DeviceIndex)>>,
}

impl Town {
    /// Builds the town of `seed` and all its devices; its sensors measure from `start` on.
    pub(crate) fn new(seed: u64, start: Timestamp) -> (Self, Vec<SimulatedDevice>) {
        let (devices, sensors) = plan::lay_out(seed);
        let mut due = BinaryHeap::new();
        for (index, sensor) in (0..).map(DeviceIndex).zip(&sensors) {
            if let Some(sensor) = sensor {
                due.push(Reverse((first_due(start, index, sensor.interval()), index)));
            }
        }
        (Self { seed, sensors, due }, devices)
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((moment, _))| *moment)
    }

    /// Makes the measurement that is due next and plans the one after it.
    pub(crate) fn measure_next(&mut self, readings: &mut Vec<TimedReading>) {
        let Some(Reverse((moment, index))) = self.due.pop() else { return };
        if let Some(Some(sensor)) = self.sensors.get(index.as_usize()) {
            sensor.measure(self.seed, index, moment, readings);
            self.due.push(Reverse((moment + sensor.interval(), index)));
        }
    }
}

/// The first moment from `start` on of a device's own beat: beats are counted from 1970 and shifted by device, so that a town
/// which goes on later measures at the same moments, and not all devices at once.
fn first_due(start: Timestamp, device: DeviceIndex, interval: SignedDuration) -> Timestamp {
    let interval_s = interval.as_secs();
    let phase_s = i64::from(device.0) * 7 % interval_s;
    let behind_s = (start.as_second() - phase_s).rem_euclid(interval_s);
    let on_beat = start.as_second() + if behind_s == 0 { 0 } else { interval_s - behind_s };
    Timestamp::from_second(on_beat).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn trace(seed: u64, start: &str, end: &str) -> Vec<TimedReading> {
        let (mut town, _) = Town::new(seed, at(start));
        let mut readings = Vec::new();
        while town.next_due().is_some_and(|due| due < at(end)) {
            town.measure_next(&mut readings);
        }
        readings
    }

    #[test]
    fn one_seed_is_one_town_with_one_trace() {
        let (_, devices) = Town::new(7, Timestamp::UNIX_EPOCH);
        assert_eq!(devices, Town::new(7, Timestamp::UNIX_EPOCH).1);
        let day = ("2025-03-03T00:00:00Z", "2025-03-04T00:00:00Z");
        assert_eq!(trace(7, day.0, day.1), trace(7, day.0, day.1));
        assert_ne!(trace(7, day.0, day.1), trace(8, day.0, day.1));
    }

    #[test]
    fn a_town_goes_on_from_any_moment_as_if_it_had_run_before() {
        let whole = trace(7, "2025-03-03T00:00:00Z", "2025-03-03T12:00:00Z");
        let middle = at("2025-03-03T05:17:00Z");
        let rest = trace(7, "2025-03-03T05:17:00Z", "2025-03-03T12:00:00Z");
        let expected: Vec<_> = whole.into_iter().filter(|reading| reading.observed >= middle).collect();
        assert_eq!(rest, expected);
    }

    #[test]
    fn readings_come_in_time_order() {
        let readings = trace(7, "2025-03-03T00:00:00Z", "2025-03-03T06:00:00Z");
        assert!(readings.len() > 1_000);
        assert!(readings.windows(2).all(|pair| pair[0].observed <= pair[1].observed));
    }

    #[test]
    fn the_rush_hour_is_busier_than_the_night() {
        let vehicles = |start, end| -> f64 {
            trace(7, start, end)
                .iter()
                .filter(|reading| reading.signal == Signal::VehicleCount)
                .map(|it| it.value)
                .sum()
        };
        let night = vehicles("2025-03-03T01:00:00Z", "2025-03-03T02:00:00Z");
        let rush = vehicles("2025-03-03T07:00:00Z", "2025-03-03T08:00:00Z");
        assert!(rush > 20.0 * night, "{rush} against {night}");
    }
}
