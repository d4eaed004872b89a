//! What the lamps draw, against what they would draw without lighting.
//!
//! The baseline is *always on*: full light whenever it is dark. A lamp whose level nobody knows is counted as burning that
//! way. Power is taken to be in proportion to the level, which is near enough for LED luminaires.

use std::time::Duration;

use crate::lighting::lamps::Lamps;
use crate::lighting::level::{self, Level};
use crate::lighting::sun::Sun;

/// Without any observation for longer than this nobody knows what the lamps did: the time is left out of all figures.
const UNOBSERVED_MAX: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Energy {
    pub(crate) used_kwh: f64,
    pub(crate) baseline_kwh: f64,
    /// Orders given.
    pub(crate) commands: u64,
}

impl Energy {
    /// Adds the time after the moment of `sun`, during which the lamps were as they are.
    pub(crate) fn add(&mut self, lamps: &Lamps, sun: &Sun, time: Duration) {
        if time > UNOBSERVED_MAX {
            return;
        }
        let (mut used_w, mut baseline_w) = (0.0, 0.0);
        for (_, lamp) in lamps.iter() {
            let always_on = if level::is_dark(lamp.elevation_deg(sun)) { Level::FULL } else { Level::OFF };
            let power_w = f64::from(lamp.power_w);
            used_w += power_w * lamp.level.unwrap_or(always_on).fraction();
            baseline_w += power_w * always_on.fraction();
        }
        let hours_thousandth = time.as_secs_f64() / 3_600.0 / 1_000.0;
        self.used_kwh += used_w * hours_thousandth;
        self.baseline_kwh += baseline_w * hours_thousandth;
    }

    pub(crate) fn saved_kwh(&self) -> f64 {
        self.baseline_kwh - self.used_kwh
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kvarter_cluster::Timestamp;

    use super::*;
    use crate::lighting::lamps::Lamp;
    use crate::{DeviceNumber, Point};

    const AARHUS: Point = Point { latitude_e7: 561_567_000, longitude_e7: 102_108_000 };

    /// 2014-12-21 00:00 and 12:00 UTC.
    const MIDNIGHT: Timestamp = Timestamp(1_419_120_000_000_000);
    const NOON: Timestamp = Timestamp(1_419_163_200_000_000);

    fn lamps(level: Option<Level>) -> Lamps {
        let mut lamp = Lamp::new(Some(AARHUS), &BTreeMap::new());
        lamp.rate(100.0);
        lamp.level = level;
        let mut lamps = Lamps::default();
        lamps.insert(DeviceNumber(0), lamp);
        lamps
    }

    fn after(minutes: u64, level: Option<Level>, moment: Timestamp) -> (f64, f64) {
        let mut energy = Energy::default();
        energy.add(&lamps(level), &Sun::at(moment), Duration::from_secs(minutes * 60));
        (energy.used_kwh, energy.baseline_kwh)
    }

    #[test]
    fn half_the_light_takes_half_the_energy() {
        let (used, baseline) = after(30, Some(Level::from_percent(50.0)), MIDNIGHT);
        assert!((used - 0.025).abs() < 1e-12 && (baseline - 0.05).abs() < 1e-12, "{used} of {baseline}");
    }

    #[test]
    fn light_by_day_is_used_but_is_no_baseline() {
        assert_eq!(after(6, Some(Level::FULL), NOON), (0.01, 0.0));
    }

    #[test]
    fn a_lamp_of_which_nothing_is_known_saves_nothing() {
        for moment in [MIDNIGHT, NOON] {
            let (used, baseline) = after(30, None, moment);
            assert!((used - baseline).abs() < 1e-12);
        }
    }

    #[test]
    fn time_that_nobody_observed_is_left_out() {
        assert_eq!(after(31, Some(Level::FULL), MIDNIGHT), (0.0, 0.0));
    }
}
