//! Street lamps: they shine, obey `set_level`, and report level and power.
//!
//! Once-only execution of a command id is the player's, by the client crate's ledger; a lamp obeys each order it gets.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jiff::{SignedDuration, Timestamp};

use crate::device::{DeviceIndex, SimulatedDevice};
use crate::signal::{Signal, SimulatedKind, TimedReading};

/// The command of the kind `luminaire` that sets its light, and its argument in percent.
pub const SET_LEVEL: &str = "set_level";
pub const LEVEL_ARGUMENT: &str = "level";

/// Power at full light, driver included.
const POWER_MAX_W: f64 = 80.0;
/// What the driver and the radio draw at any level.
const POWER_STANDBY_W: f64 = 2.0;
/// Lamps report this often, changed or not: the interval that the catalog expects.
const REPORT_INTERVAL: SignedDuration = SignedDuration::from_mins(15);

/// An order to a device of the world, as its gateway understood it.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Name of the command in the catalog.
    pub action: String,
    /// Numeric arguments by name.
    pub arguments: BTreeMap<String, f64>,
}

/// Why a device did not do what it was told. The text goes into the command's receipt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderRefused {
    #[error("this device has no command {action}")]
    UnknownAction { action: String },
    #[error("argument {argument} is missing or not a number")]
    ArgumentMissing { argument: &'static str },
    #[error("level {level} is outside 0 to 100 percent")]
    LevelOutOfRange { level: f64 },
}

#[derive(Clone, Debug)]
struct Lamp {
    level_percent: f64,
    /// Observation time of the last report: reports of one lamp never share a moment, so none is late or repeated.
    reported: Option<Timestamp>,
}

/// Every lamp of a world.
#[derive(Clone, Debug)]
pub(crate) struct Lamps {
    lamps: BTreeMap<DeviceIndex, Lamp>,
    due: BinaryHeap<Reverse<(Timestamp, DeviceIndex)>>,
}

impl Lamps {
    /// The luminaires among `devices`, at full light; their first reports spread over one interval from `start`.
    pub(crate) fn switched_on(devices: &[SimulatedDevice], start: Timestamp) -> Self {
        let mut lamps = BTreeMap::new();
        let mut due = BinaryHeap::new();
        for (index, device) in (0..).map(DeviceIndex).zip(devices) {
            if device.kind == SimulatedKind::Luminaire {
                lamps.insert(index, Lamp { level_percent: 100.0, reported: None });
                let spread = SignedDuration::from_secs(i64::from(index.0) % REPORT_INTERVAL.as_secs());
                due.push(Reverse((start + spread, index)));
            }
        }
        Self { lamps, due }
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((moment, _))| *moment)
    }

    /// Makes the report that is due next and plans the one after it.
    pub(crate) fn report_next(&mut self, readings: &mut Vec<TimedReading>) {
        if let Some(Reverse((moment, device))) = self.due.pop() {
            self.report(device, moment, readings);
            self.due.push(Reverse((moment + REPORT_INTERVAL, device)));
        }
    }

    /// Carries out `order` at the moment `at`; the lamp reports what it does now.
    pub(crate) fn execute(
        &mut self,
        device: DeviceIndex,
        order: &Order,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Result<(), OrderRefused> {
        let unknown = || OrderRefused::UnknownAction { action: order.action.clone() };
        let lamp = self.lamps.get_mut(&device).filter(|_| order.action == SET_LEVEL).ok_or_else(unknown)?;
        let argument = order.arguments.get(LEVEL_ARGUMENT);
        let level = *argument.ok_or(OrderRefused::ArgumentMissing { argument: LEVEL_ARGUMENT })?;
        if !(0.0..=100.0).contains(&level) {
            return Err(OrderRefused::LevelOutOfRange { level });
        }
        lamp.level_percent = level;
        self.report(device, at, readings);
        Ok(())
    }

    fn report(&mut self, device: DeviceIndex, at: Timestamp, readings: &mut Vec<TimedReading>) {
        let Some(lamp) = self.lamps.get_mut(&device) else { return };
        let after_last = lamp.reported.map_or(at, |last| last + SignedDuration::from_micros(1));
        let observed = at.max(after_last);
        lamp.reported = Some(observed);
        let reading = |signal, value| TimedReading { observed, device, signal, value };
        readings.push(reading(Signal::DimmingLevel, lamp.level_percent));
        readings.push(reading(Signal::ActivePower, power_w(lamp.level_percent)));
    }
}

/// Power at a level in percent: LED light is close to proportional to its power, above what the driver needs.
fn power_w(level_percent: f64) -> f64 {
    POWER_STANDBY_W + (POWER_MAX_W - POWER_STANDBY_W) * level_percent / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Place;

    fn one_lamp() -> Lamps {
        let place = Place { latitude: 56.0, longitude: 10.0 };
        let devices = ["a", "b"].map(|name| SimulatedDevice::new("d", name, SimulatedKind::Luminaire, place));
        Lamps::switched_on(&devices[..1], Timestamp::UNIX_EPOCH)
    }

    fn set_level(level: f64) -> Order {
        Order { action: SET_LEVEL.to_owned(), arguments: BTreeMap::from([(LEVEL_ARGUMENT.to_owned(), level)]) }
    }

    #[test]
    fn a_dimmed_lamp_reports_level_and_power() {
        let (mut lamps, mut readings) = (one_lamp(), Vec::new());
        let at = Timestamp::from_second(60).unwrap();
        lamps.execute(DeviceIndex(0), &set_level(50.0), at, &mut readings).unwrap();
        let shown: Vec<_> = readings.iter().map(|reading| (reading.observed, reading.signal, reading.value)).collect();
        assert_eq!(shown, [(at, Signal::DimmingLevel, 50.0), (at, Signal::ActivePower, 41.0)]);
    }

    #[test]
    fn reports_of_one_lamp_never_share_a_moment() {
        let (mut lamps, mut readings) = (one_lamp(), Vec::new());
        for level in [50.0, 50.0, 30.0] {
            lamps.execute(DeviceIndex(0), &set_level(level), Timestamp::UNIX_EPOCH, &mut readings).unwrap();
        }
        lamps.report_next(&mut readings);
        let levels: Vec<_> = readings.iter().filter(|reading| reading.signal == Signal::DimmingLevel).collect();
        assert_eq!(levels.len(), 4);
        assert!(levels.windows(2).all(|pair| pair[0].observed < pair[1].observed));
    }

    #[test]
    fn an_order_that_makes_no_sense_changes_nothing() {
        let (mut lamps, mut readings) = (one_lamp(), Vec::new());
        let mut refusal = |device, order: &Order| {
            lamps.execute(DeviceIndex(device), order, Timestamp::UNIX_EPOCH, &mut readings).unwrap_err()
        };
        assert_eq!(refusal(0, &set_level(101.0)), OrderRefused::LevelOutOfRange { level: 101.0 });
        assert!(matches!(refusal(9, &set_level(10.0)), OrderRefused::UnknownAction { .. }));
        let bare = Order { action: SET_LEVEL.to_owned(), arguments: BTreeMap::new() };
        assert_eq!(refusal(0, &bare), OrderRefused::ArgumentMissing { argument: LEVEL_ARGUMENT });
        assert!(readings.is_empty());
    }

    #[test]
    fn lamps_report_even_when_unchanged() {
        let (mut lamps, mut readings) = (one_lamp(), Vec::new());
        lamps.report_next(&mut readings);
        assert_eq!(lamps.next_due(), Some(Timestamp::from_second(900).unwrap()));
        assert_eq!(readings.len(), 2);
    }
}
