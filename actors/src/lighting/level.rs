//! How bright a lamp should be.
//!
//! By day a lamp is off. In the dark it gives its safe minimum plus a part of the rest in proportion to the traffic beside
//! it. Nobody knowing the traffic is no reason to dim: then it gives its full light.

use std::collections::BTreeMap;

/// A light level in whole percent of full output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(u8);

impl Level {
    pub(crate) const OFF: Level = Level(0);
    pub(crate) const FULL: Level = Level(100);

    /// The nearest whole percent within 0 to 100; not a number is full, which is safe.
    pub(crate) fn from_percent(percent: f64) -> Self {
        let whole = percent.round();
        if whole.is_nan() {
            return Self::FULL;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 100")]
        Self(whole.clamp(0.0, 100.0) as u8)
    }

    pub(crate) fn percent(self) -> u8 {
        self.0
    }

    pub(crate) fn fraction(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// Lamps burn while the sun stands below this, degrees. Light sensors of street lights switch at 35 to 70 lux (EN 13201-1 leaves the
/// value to the operator). Civil twilight gives about 40 lux at -3.5° under a clear sky, but under a closed one as little at -1.7°
/// already. The service knows no clouds, so it goes by these: under a clear sky lamps burn for some minutes in vain, and in no
/// street is it dark without them.
const DARK_BELOW_DEG: f64 = -1.5;

/// Levels are ordered in steps of this many percent: finer ones are not seen, but each costs a command.
const STEP_PERCENT: f64 = 10.0;

/// A lamp is dimmed further only when the traffic asks for so many percent less than the next lower step gives, or when
/// there is none.
const HYSTERESIS_PERCENT: f64 = 4.0;

/// Traffic below this part of the peak counts as none.
const QUIET: f64 = 0.03;

/// Whether lamps burn under a sun of this elevation.
pub(crate) fn is_dark(elevation_deg: f64) -> bool {
    elevation_deg < DARK_BELOW_DEG
}

/// The level in the dark: `traffic` is relative to the road's usual peak, `None` when nobody knows. `current` is the
/// level that the lamp has or was ordered to take; a rise is taken at once, a fall only when it is clear.
pub(crate) fn dark_level(minimum: Level, traffic: Option<f64>, current: Option<Level>) -> Level {
    let Some(traffic) = traffic.filter(|traffic| !traffic.is_nan()) else { return Level::FULL };
    let minimum_percent = f64::from(minimum.percent());
    let is_quiet = traffic < QUIET;
    let traffic = if is_quiet { 0.0 } else { traffic.min(1.0) };
    let wanted = minimum_percent + (100.0 - minimum_percent) * traffic;
    let stepped = (wanted / STEP_PERCENT).ceil() * STEP_PERCENT;
    let target = Level::from_percent(stepped.max(minimum_percent));
    let is_clear_fall =
        |current: Level| is_quiet || wanted + HYSTERESIS_PERCENT <= f64::from(current.percent()) - STEP_PERCENT;
    match current {
        Some(current) if target < current && !is_clear_fall(current) => current,
        _ => target,
    }
}

/// The safe minimum of a lamp that names none, by the label `road_type`. An assumption of this program in the spirit of
/// EN 13201-2, whose classes for major roads ask for about twice the light of those for residential streets.
pub(crate) fn default_minimum(labels: &BTreeMap<String, String>) -> Level {
    match labels.get("road_type").map(String::as_str) {
        Some("MAJOR_ROAD") => Level(40),
        Some("STREET") => Level(20),
        _ => Level(30),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_traffic_means_full_light() {
        assert_eq!(dark_level(Level(30), None, Some(Level(30))), Level::FULL);
    }

    #[test]
    fn a_lamp_follows_the_traffic_in_steps() {
        let levels = [0.0, 0.1, 0.5, 0.99, 1.0].map(|traffic| dark_level(Level(30), Some(traffic), None).percent());
        assert_eq!(levels, [30, 40, 70, 100, 100]);
    }

    #[test]
    fn an_empty_road_gets_the_minimum() {
        assert_eq!(dark_level(Level(30), Some(0.0), Some(Level(40))), Level(30));
    }

    #[test]
    fn a_small_fall_is_not_followed_a_clear_one_is() {
        // 30 + 70 * 0.27 = 48.9 asks for 50; from 60 a fall is clear at 46.
        assert_eq!(dark_level(Level(30), Some(0.27), Some(Level(60))), Level(60));
        assert_eq!(dark_level(Level(30), Some(0.22), Some(Level(60))), Level(50));
        assert_eq!(dark_level(Level(30), Some(0.27), Some(Level(40))), Level(50));
    }

    proptest! {
        #[test]
        fn a_level_in_the_dark_is_never_below_the_minimum(
            minimum in 0u8..=100, traffic: f64, is_known: bool, current in prop::option::of(0u8..=100),
        ) {
            let level = dark_level(Level(minimum), is_known.then_some(traffic), current.map(Level));
            // A level below the minimum is never kept.
            prop_assert!(level >= Level(minimum) && level <= Level::FULL);
        }

        #[test]
        fn more_traffic_never_means_less_light(minimum in 0u8..=100, less in 0.0..1.0f64, more in 0.0..1.0f64) {
            prop_assume!(less <= more);
            prop_assert!(dark_level(Level(minimum), Some(less), None) <= dark_level(Level(minimum), Some(more), None));
        }
    }
}
