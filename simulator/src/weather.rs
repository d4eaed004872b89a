//! The weather over a city: smooth random waves round what is usual in Denmark.
//!
//! Assumptions, for no weather is among the measured data: a year from 1 °C in the middle of January to 17 °C in the middle
//! of July and winds of 5 m/s, near the normals of Denmark for 1991 to 2020; rain in about one hour of twelve, cloudbursts of
//! 15 mm in half an hour (the national definition) some times in a summer. That wind comes in waves of a day and more is
//! measured: the forecast wind power of western Denmark, August 2025 to July 2026 (Energinet, www.energidataservice.dk,
//! CC BY 4.0), resembles itself by 0.86 after 6 hours, 0.40 after a day and 0.19 after two.
use jiff::Timestamp;

use crate::calendar::LocalTime;
use crate::draw::{Subject, interpolated, wave};

const HOUR_S: i64 = 3_600;
/// Light of a clear sky with the sun overhead, lux and watts per square metre.
const ILLUMINANCE_MAX_LX: f64 = 110_000.0;
const RADIATION_MAX_W_M2: f64 = 1_000.0;
/// Share of the wind power that is installed, by the share of hours with less: Energinet's forecasts as above, over the
/// highest value of the year.
const WIND_POWER: [(f64, f64); 9] = [
    (0.0, 0.0),
    (0.05, 0.06),
    (0.1, 0.09),
    (0.2, 0.15),
    (0.5, 0.33),
    (0.8, 0.585),
    (0.9, 0.71),
    (0.95, 0.8),
    (1.0, 1.0),
];

/// The weather at a moment, alike over the whole city.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weather {
    /// Degrees Celsius.
    pub(crate) temperature: f64,
    /// Metres per second at 10 m.
    pub(crate) wind: f64,
    /// Degrees clockwise from north, where the wind comes from.
    pub(crate) wind_direction: f64,
    /// Share of the sky, 0 to 1.
    pub(crate) cloud: f64,
    /// Millimetres an hour.
    pub(crate) rain: f64,
    /// Share, 0 to 1.
    pub(crate) humidity: f64,
    /// Hectopascal.
    pub(crate) pressure: f64,
    /// Lux; at night what a town's sky gives.
    pub(crate) illuminance: f64,
    /// Watts per square metre.
    pub(crate) radiation: f64,
    /// Share of the country's installed wind power that is generated, 0 to 1.
    pub(crate) wind_power: f64,
}

impl Weather {
    /// `sun` is the sine of its height.
    pub(crate) fn at(seed: u64, moment: Timestamp, local: &LocalTime, sun: f64) -> Self {
        let second = moment.as_second();
        let waves = |subject, slow_h, fast_h| {
            (wave(seed, subject, slow_h * HOUR_S, second) * 0.85 + wave(seed, subject, fast_h * HOUR_S, second) * 0.5)
                / 0.79
        };
        let front = waves(Subject::Cloud, 40, 7);
        let cloud = share_below(front);
        let blow = waves(Subject::Wind, 34, 9);
        let daylight = sun.max(0.0);
        let radiation = RADIATION_MAX_W_M2 * daylight * (1.0 - 0.8 * cloud);
        let warm_spell = waves(Subject::Temperature, 110, 30) * 2.6;
        // Clear days are warmer and clear nights colder.
        let of_the_day = (7.0 * daylight - 2.0) * (1.2 - cloud);
        let temperature = 8.2 + 8.0 * local.summer() + warm_spell + of_the_day;
        Self {
            temperature,
            wind: 4.6 * (0.42 * blow).exp(),
            wind_direction: (250.0 + 80.0 * waves(Subject::Wind, 60, 20)).rem_euclid(360.0),
            cloud,
            rain: rain(seed, second, front, local),
            humidity: (0.72 + 0.2 * cloud - 0.3 * daylight).clamp(0.2, 1.0),
            pressure: 1_013.0 - 9.0 * front,
            illuminance: 0.3 + ILLUMINANCE_MAX_LX * light(sun) * (1.0 - 0.75 * cloud * cloud),
            radiation,
            wind_power: interpolated(&WIND_POWER, share_below(blow)),
        }
    }
}

/// Millimetres an hour: under thick cloud only, and heavier in summer.
fn rain(seed: u64, second: i64, front: f64, local: &LocalTime) -> f64 {
    let shower = wave(seed, Subject::Rain, HOUR_S, second) + 0.6 * front;
    if front < 0.3 || shower < 1.3 {
        return 0.0;
    }
    let strength = shower - 1.3;
    let steady = 0.85 * strength;
    // Only the rarest showers of the warm months are cloudbursts.
    let burst = if local.summer() > 0.3 { 26.0 * (strength - 1.5).max(0.0) } else { 0.0 };
    steady + burst
}

/// The light of the sky as a share of the sun overhead: dusk goes on below the horizon, where each degree takes two thirds
/// of the light, from 400 lux at sunset under a clear sky to 3 at the end of civil twilight.
fn light(sun: f64) -> f64 {
    let at_horizon = 0.0036;
    if sun > 0.0 { sun + at_horizon } else { at_horizon * (47.0 * sun).exp() }
}

/// Share of a bell curve below `value` (the logistic approximation, right within 0.01).
pub(crate) fn share_below(value: f64) -> f64 {
    1.0 / (1.0 + (-1.702 * value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Place;
    use crate::sun::sun_height;

    fn year(seed: u64) -> Vec<(i64, Weather)> {
        let place = Place { latitude: 56.15, longitude: 10.2 };
        let hours = (0..365 * 24).map(|hour| Timestamp::from_second(1_735_689_600 + hour * HOUR_S).unwrap());
        let at = |moment: Timestamp| {
            let local = LocalTime::of(moment);
            (moment.as_second(), Weather::at(seed, moment, &local, sun_height(moment, place)))
        };
        hours.map(at).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        sum / count
    }

    #[test]
    fn a_year_is_a_danish_one() {
        for seed in [1, 2] {
            let year = year(seed);
            let all = || year.iter().map(|(_, weather)| *weather);
            assert!((7.0..10.5).contains(&mean(all().map(|weather| weather.temperature))));
            assert!(all().all(|weather| (-20.0..38.0).contains(&weather.temperature)));
            assert!((4.0..6.5).contains(&mean(all().map(|weather| weather.wind))));
            let wet = mean(all().map(|weather| if weather.rain > 0.05 { 1.0 } else { 0.0 }));
            let rain_mm: f64 = all().map(|weather| weather.rain).sum();
            assert!((0.04..0.2).contains(&wet), "{wet}");
            assert!((450.0..1_200.0).contains(&rain_mm), "{rain_mm} mm");
            let summer = mean(year[180 * 24..210 * 24].iter().map(|(_, weather)| weather.temperature));
            let winter = mean(year[..30 * 24].iter().map(|(_, weather)| weather.temperature));
            assert!(summer > winter + 11.0, "{summer} against {winter}");
        }
    }

    #[test]
    fn wind_power_has_the_measured_spread_and_memory() {
        let power: Vec<f64> = (1..4).flat_map(year).map(|(_, weather)| weather.wind_power).collect();
        let average = mean(power.iter().copied());
        assert!((average - 0.367).abs() < 0.06, "mean {average}");
        let likeness = |hours: usize| {
            let of = |values: &[f64]| mean(values.iter().map(|value| (value - average).powi(2)));
            let both = mean(power.iter().zip(&power[hours..]).map(|(one, other)| (one - average) * (other - average)));
            both / of(&power)
        };
        let [six, day] = [likeness(6), likeness(24)];
        assert!((six - 0.86).abs() < 0.1 && (day - 0.4).abs() < 0.2, "{six} {day}");
    }
}
