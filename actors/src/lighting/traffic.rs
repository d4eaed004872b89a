//! What the traffic sensors of a district say: flow relative to each road's usual peak.

use std::collections::BTreeMap;

use crate::{DeviceNumber, Point};

/// A flow older than this says nothing, microseconds of event time. Sensors report every 5 minutes and one report in
/// twenty is missed.
const STALE_AFTER_US: i64 = 15 * 60 * 1_000_000;

/// The peak forgets half of its height in so many hours without traffic that reaches it: roads change with the seasons.
const PEAK_HALF_LIFE_HOURS: f64 = 14.0 * 24.0;

/// A road's peak is taken to be at least this, vehicles in five minutes: one car on a lonely road is no rush hour.
const PEAK_MIN: f32 = 10.0;

/// A flow that falls is followed half of the way in so many minutes, one that rises at once: the light goes after the last
/// car, and a quiet road, where cars come singly, does not flicker.
const FALL_HALF_LIFE_MINUTES: f64 = 10.0;

/// A lamp follows the nearest sensor within this distance, metres; the district's mean otherwise.
const NEAR_MAX_M: f64 = 300.0;

const EARTH_RADIUS_M: f64 = 6_371_000.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sensor {
    pub(crate) location: Option<Point>,
    /// Vehicles in five minutes; falls smoothly.
    pub(crate) flow: f32,
    pub(crate) peak: f32,
    /// When a flow was observed last; `i64::MIN`: never.
    pub(crate) observed_us: i64,
}

impl Sensor {
    pub(crate) fn silent(location: Option<Point>) -> Self {
        Self { location, observed_us: i64::MIN, ..Self::default() }
    }

    /// Takes a flow in; negative and absurd ones count as none.
    pub(crate) fn observe(&mut self, flow: f64, observed_us: i64) {
        #[expect(clippy::cast_possible_truncation, reason = "a flow needs no more than a float's precision")]
        let flow = flow.clamp(0.0, 1e6) as f32;
        #[expect(clippy::cast_precision_loss, reason = "minutes between observations")]
        let minutes = observed_us.saturating_sub(self.observed_us).max(0) as f64 / 60e6;
        self.peak = flow.max(self.peak * remainder(minutes / (PEAK_HALF_LIFE_HOURS * 60.0)));
        self.flow = flow.max(flow + (self.flow - flow) * remainder(minutes / FALL_HALF_LIFE_MINUTES));
        self.observed_us = observed_us;
    }

    /// Flow over peak, 0 to 1; `None` when the flow is not known at `now_us`.
    pub(crate) fn relative(&self, now_us: i64) -> Option<f64> {
        let is_known = self.observed_us != i64::MIN && now_us.saturating_sub(self.observed_us) <= STALE_AFTER_US;
        is_known.then(|| f64::from(self.flow / self.peak.max(PEAK_MIN)).clamp(0.0, 1.0))
    }
}

/// What is left after so many half-lives.
fn remainder(half_lives: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a factor between 0 and 1")]
    let remainder = 0.5f64.powf(half_lives) as f32;
    remainder
}

pub(crate) type Sensors = BTreeMap<DeviceNumber, Sensor>;

/// The mean of what is known; `None` when nothing is.
pub(crate) fn mean_relative(sensors: &Sensors, now_us: i64) -> Option<f64> {
    let known = sensors.values().filter_map(|sensor| sensor.relative(now_us));
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), relative| (sum + relative, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// The sensor that a lamp at `place` follows.
pub(crate) fn nearest(sensors: &Sensors, place: Option<Point>) -> Option<DeviceNumber> {
    let place = place?;
    let near = sensors.iter().filter_map(|(number, sensor)| Some((distance_m(place, sensor.location?), *number)));
    let nearest = near.filter(|(distance, _)| *distance <= NEAR_MAX_M).min_by(|one, other| one.0.total_cmp(&other.0));
    nearest.map(|(_, number)| number)
}

/// Equirectangular: exact enough within a district.
fn distance_m(one: Point, other: Point) -> f64 {
    let rad = |degrees_e7: i32| (f64::from(degrees_e7) * 1e-7).to_radians();
    let mean_latitude = (rad(one.latitude_e7) + rad(other.latitude_e7)) / 2.0;
    let east = (rad(one.longitude_e7) - rad(other.longitude_e7)) * mean_latitude.cos();
    let north = rad(one.latitude_e7) - rad(other.latitude_e7);
    EARTH_RADIUS_M * east.hypot(north)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = 60 * 1_000_000;

    #[test]
    fn flow_is_relative_to_the_peak_and_goes_stale() {
        let mut sensor = Sensor::silent(None);
        assert_eq!(sensor.relative(0), None);
        sensor.observe(40.0, 0);
        assert!((sensor.relative(0).unwrap() - 1.0).abs() < 1e-3);
        sensor.observe(10.0, 10 * MINUTE_US);
        assert!((sensor.relative(10 * MINUTE_US).unwrap() - 0.625).abs() < 1e-3, "half of the way to a quarter");
        sensor.observe(36.0, 15 * MINUTE_US);
        assert!((sensor.relative(15 * MINUTE_US).unwrap() - 0.9).abs() < 1e-2, "a rise is followed at once");
        assert_eq!(sensor.relative(31 * MINUTE_US), None);
    }

    #[test]
    fn one_car_on_a_lonely_road_is_no_rush_hour() {
        let mut sensor = Sensor::silent(None);
        sensor.observe(1.0, 0);
        assert!(sensor.relative(0).unwrap() < 0.11);
    }

    #[test]
    fn an_old_peak_is_forgotten() {
        let mut sensor = Sensor::silent(None);
        sensor.observe(1_000.0, 0);
        sensor.observe(20.0, 200 * 24 * 60 * MINUTE_US);
        assert!(sensor.relative(200 * 24 * 60 * MINUTE_US).unwrap() > 0.9);
    }

    #[test]
    fn a_lamp_follows_the_nearest_sensor_that_is_near() {
        let place = |metres: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "a test's few metres")]
            let north = (metres / 111_195.0 * 1e7) as i32;
            Point { latitude_e7: 561_000_000 + north, longitude_e7: 102_000_000 }
        };
        let mut sensors = Sensors::new();
        sensors.insert(DeviceNumber(1), Sensor::silent(Some(place(250.0))));
        sensors.insert(DeviceNumber(2), Sensor::silent(Some(place(100.0))));
        sensors.insert(DeviceNumber(3), Sensor::silent(None));
        assert_eq!(nearest(&sensors, Some(place(0.0))), Some(DeviceNumber(2)));
        assert_eq!(nearest(&sensors, Some(place(600.0))), None);
        assert_eq!(nearest(&sensors, None), None);
    }
}
