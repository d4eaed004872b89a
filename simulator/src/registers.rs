//! What a city has used since the meters were fitted: sums of its causes, hour by hour.
//!
//! A meter's register is its own scale times such a sum, so it rises as its power says, and a world that begins later shows
//! the same registers. What scenarios change in single districts is not in them.
use jiff::Timestamp;

use crate::causes::{Causes, Sky};
use crate::device::Place;
use crate::scenario::Course;
use crate::traffic::{Hours, at_hour};

/// 2025-01-01 UTC: all meters were fitted then, and stand still before.
const FITTED_S: i64 = 1_735_689_600;
const HOUR_S: i64 = 3_600;

/// Use of electricity by households over the day, mean 1: an assumption after the Danish evening peak.
const HOUSEHOLD: Hours = [
    0.65, 0.58, 0.55, 0.54, 0.55, 0.62, 0.85, 1.05, 1.0, 0.92, 0.9, 0.92, 0.98, 0.95, 0.93, 0.98, 1.2, 1.6, 1.75, 1.6,
    1.4, 1.25, 1.05, 0.82,
];
/// Use of water over the day, mean 1: an assumption after the usual two peaks.
const WATER: Hours = [
    0.3, 0.2, 0.17, 0.17, 0.25, 0.6, 1.4, 1.9, 1.65, 1.35, 1.15, 1.1, 1.1, 1.05, 1.0, 1.05, 1.25, 1.5, 1.6, 1.45, 1.2,
    0.95, 0.7, 0.45,
];
/// Households take 3 % less when the price is one deviation (53 EUR/MWh) above its mean: an assumption after EcoGrid EU.
const PRICE_RESPONSE: f64 = 0.03 / 53.0;

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Electricity of households, 1 in the mean.
    Household,
    /// District heat, 1 in the mean of a year.
    Heat,
    /// Water, 1 in the mean.
    Water,
    /// Darkness: 1 while lamps burn.
    Dark,
    /// Sunshine, kW/m².
    Sunshine,
    /// Buses: 1 while they drive.
    Driving,
    /// People, 1 in the mean.
    People,
}

const SUMS: usize = 7;

impl Sum {
    /// How fast the sum rises, an hour.
    pub(crate) fn rate(self, causes: &Causes) -> f64 {
        match self {
            Self::Household => {
                let season = 1.0 - 0.15 * causes.local.summer();
                let price = 1.0 - PRICE_RESPONSE * (causes.price - crate::price::PRICE_MEAN);
                at_hour(&HOUSEHOLD, causes.local.hour) * season * price.clamp(0.8, 1.1)
            }
            // A house needs heat below 17 degrees outside; a sixth of a year's heat is hot water. Both assumed.
            Self::Heat => {
                (17.0 - causes.weather.temperature).max(0.0) / 10.5 * 0.83 + 0.17 * at_hour(&WATER, causes.local.hour)
            }
            Self::Water => {
                at_hour(&WATER, causes.local.hour) * (1.0 + 0.02 * (causes.weather.temperature - 18.0).max(0.0))
            }
            Self::Dark => f64::from(u8::from(causes.is_dark)),
            Self::Sunshine => causes.weather.radiation / 1_000.0,
            Self::Driving => f64::from(u8::from(is_in_service(causes.local.hour))),
            Self::People => causes.people,
        }
    }
}

/// Buses drive from five to half past midnight. Assumed.
pub(crate) fn is_in_service(hour: f64) -> bool {
    !(0.5..5.0).contains(&hour)
}

#[derive(Clone, Debug)]
pub(crate) struct Registers {
    seed: u64,
    centre: Place,
    /// At the end of each hour since the meters were fitted.
    sums: Vec<[f64; SUMS]>,
}

impl Registers {
    pub(crate) fn new(seed: u64, centre: Place) -> Self {
        Self { seed, centre, sums: vec![[0.0; SUMS]] }
    }

    /// Makes sure that sums up to `moment` are known.
    pub(crate) fn extend(&mut self, moment: Timestamp, course: &Course) {
        while self.known_until_s() < moment.as_second() {
            let middle = Timestamp::from_second(self.known_until_s() + HOUR_S / 2).unwrap_or(Timestamp::MAX);
            // A change of the whole city is in the middle of it as well.
            let causes = Causes::of(&Sky::at(self.seed, self.centre, middle), &course.effect_everywhere(middle));
            let mut sums = self.sums.last().copied().unwrap_or_default();
            let all = [Sum::Household, Sum::Heat, Sum::Water, Sum::Dark, Sum::Sunshine, Sum::Driving, Sum::People];
            for sum in all {
                sums[sum as usize] += sum.rate(&causes);
            }
            self.sums.push(sums);
        }
    }

    /// The sum between two moments, in hours; of the future nothing is known.
    pub(crate) fn between(&self, sum: Sum, from: Timestamp, to: Timestamp) -> f64 {
        self.since_fitted(sum, to) - self.since_fitted(sum, from)
    }

    pub(crate) fn since_fitted(&self, sum: Sum, moment: Timestamp) -> f64 {
        let second = (moment.as_second() - FITTED_S).max(0);
        let hour = usize::try_from(second / HOUR_S).unwrap_or(usize::MAX);
        let at = |hour: usize| self.sums.get(hour).or(self.sums.last()).map_or(0.0, |sums| sums[sum as usize]);
        let share = (second % HOUR_S) as f64 / HOUR_S as f64;
        at(hour) * (1.0 - share) + at(hour.saturating_add(1)) * share
    }

    fn known_until_s(&self) -> i64 {
        FITTED_S + i64::try_from(self.sums.len() - 1).unwrap_or(i64::MAX / HOUR_S) * HOUR_S
    }
}

/// When the meters were fitted.
pub(crate) fn fitted() -> Timestamp {
    Timestamp::from_second(FITTED_S).expect("2025 is a moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_rise_and_their_means_are_about_one() {
        let mut registers = Registers::new(3, Place { latitude: 56.15, longitude: 10.2 });
        let end = "2026-01-01T00:00:00Z".parse().unwrap();
        registers.extend(end, &Course::default());
        for sum in [Sum::Household, Sum::Heat, Sum::Water, Sum::People] {
            let mean = registers.since_fitted(sum, end) / (365.0 * 24.0);
            assert!((0.8..1.25).contains(&mean), "{sum:?}: {mean}");
        }
        let burning = registers.since_fitted(Sum::Dark, end);
        assert!((3_900.0..4_500.0).contains(&burning), "{burning} hours; street lights burn about 4,100 a year");
        let sunshine = registers.since_fitted(Sum::Sunshine, end);
        assert!((850.0..1_250.0).contains(&sunshine), "{sunshine} kWh/m2");
        assert!(registers.sums.windows(2).all(|pair| pair[0].iter().zip(&pair[1]).all(|(one, next)| one <= next)));
    }
}
