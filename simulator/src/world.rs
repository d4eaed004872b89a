//! The simulated city: its devices, what they measure next, and the lamps that obey orders.
//!
//! A world knows no network and no wall clock; the `player` takes it through time.
use std::path::Path;

use jiff::Timestamp;

use crate::device::{DeviceIndex, SimulatedDevice};
use crate::lamp::{Lamps, Order, OrderRefused};
use crate::replay::{FileTally, Replay, ReplayError, ReplaySpan};
use crate::signal::TimedReading;
use crate::town::Town;

#[derive(Clone, Debug)]
pub struct World {
    devices: Vec<SimulatedDevice>,
    lamps: Lamps,
    source: Source,
    start: Timestamp,
}

/// Where the sensors' readings come from.
#[derive(Clone, Debug)]
enum Source {
    Town(Town),
    Replay(Replay),
}

impl World {
    /// The built-in town of `seed`, from the moment `start` on, without end.
    pub fn town(seed: u64, start: Timestamp) -> Self {
        let (town, devices) = Town::new(seed, start);
        Self::new(devices, Source::Town(town), start)
    }

    /// The readings of the files in `dir` that were observed in `span`; without one, those of the traffic file's days.
    pub fn replay(dir: &Path, span: Option<ReplaySpan>) -> Result<Self, ReplayError> {
        let (replay, devices) = Replay::load(dir, span)?;
        let start = replay.start();
        Ok(Self::new(devices, Source::Replay(replay), start))
    }

    fn new(devices: Vec<SimulatedDevice>, source: Source, start: Timestamp) -> Self {
        let lamps = Lamps::switched_on(&devices, start);
        Self { devices, lamps, source, start }
    }

    /// Indexed by [`DeviceIndex`].
    pub fn devices(&self) -> &[SimulatedDevice] {
        &self.devices
    }

    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When the next reading is observed; none when the source has ended, though lamps would report for ever.
    pub fn next_due(&self) -> Option<Timestamp> {
        let source = self.source.next_due()?;
        Some(self.lamps.next_due().map_or(source, |lamps| lamps.min(source)))
    }

    /// Appends the readings up to and including `until`, in time order except where a file has late rows.
    pub fn step(&mut self, until: Timestamp, readings: &mut Vec<TimedReading>) {
        while let Some(due) = self.source.next_due() {
            let lamp_is_next = self.lamps.next_due().is_some_and(|lamp| lamp < due);
            if self.next_due().is_none_or(|next| next > until) {
                break;
            }
            if lamp_is_next {
                self.lamps.report_next(readings);
            } else {
                self.source.measure_next(readings);
            }
        }
    }

    /// Lets a device carry out `order` at the moment `at`; appends what it reports then.
    pub fn execute(
        &mut self,
        device: DeviceIndex,
        order: &Order,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Result<(), OrderRefused> {
        self.lamps.execute(device, order, at, readings)
    }

    /// The outcomes that the files of a replay must have; empty for a town.
    pub fn tallies(&self) -> &[FileTally] {
        match &self.source {
            Source::Town(_) => &[],
            Source::Replay(replay) => replay.tallies(),
        }
    }
}

impl Source {
    fn next_due(&self) -> Option<Timestamp> {
        match self {
            Self::Town(town) => town.next_due(),
            Self::Replay(replay) => replay.next_due(),
        }
    }

    fn measure_next(&mut self, readings: &mut Vec<TimedReading>) {
        match self {
            Self::Town(town) => town.measure_next(readings),
            Self::Replay(replay) => replay.measure_next(readings),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;

    use super::*;
    use crate::lamp::{LEVEL_ARGUMENT, SET_LEVEL};
    use crate::signal::{Signal, SimulatedKind};

    fn start() -> Timestamp {
        "2025-03-03T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_trace_does_not_depend_on_the_steps() {
        let mut whole = Vec::new();
        World::town(7, start()).step(start() + SignedDuration::from_hours(3), &mut whole);
        let (mut world, mut parts) = (World::town(7, start()), Vec::new());
        for minutes in 1..=180 {
            world.step(start() + SignedDuration::from_mins(minutes), &mut parts);
        }
        assert_eq!(whole, parts);
        assert!(whole.is_sorted_by_key(|reading| reading.observed));
    }

    #[test]
    fn lamps_report_beside_the_sensors_and_obey() {
        let mut world = World::town(7, start());
        let mut readings = Vec::new();
        world.step(start() + SignedDuration::from_mins(15), &mut readings);
        let is_lamp = |device: &SimulatedDevice| device.kind == SimulatedKind::Luminaire;
        let lamps = world.devices().iter().filter(|device| is_lamp(device)).count();
        let reports = readings.iter().filter(|reading| reading.signal == Signal::DimmingLevel).count();
        assert!(reports >= lamps && reports <= 2 * lamps);

        let lamp = DeviceIndex(u32::try_from(world.devices().iter().position(is_lamp).unwrap()).unwrap());
        let order =
            Order { action: SET_LEVEL.to_owned(), arguments: BTreeMap::from([(LEVEL_ARGUMENT.to_owned(), 30.0)]) };
        readings.clear();
        world.execute(lamp, &order, start() + SignedDuration::from_hours(2), &mut readings).unwrap();
        assert_eq!(readings.iter().map(|reading| reading.value).next(), Some(30.0));
    }
}
