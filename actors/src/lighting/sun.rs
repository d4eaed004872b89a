//! Where the sun stands: the low-precision method of J. Meeus, *Astronomical Algorithms* (2nd ed., chapter 25), in the form
//! of NOAA's solar calculator (<https://gml.noaa.gov/grad/solcalc/calcdetails.html>). Good to about 0.01°; refraction, which lifts the sun by 0.5° at the horizon, is left out.

use std::f64::consts::PI;

use kvarter_cluster::Timestamp;

use crate::Point;

const MICROSECONDS_A_DAY: f64 = 86_400e6;

/// Julian day of 1970-01-01 00:00 UTC.
const UNIX_EPOCH_JULIAN_DAY: f64 = 2_440_587.5;

/// Julian day of the epoch J2000.
const J2000_JULIAN_DAY: f64 = 2_451_545.0;

const DAYS_A_JULIAN_CENTURY: f64 = 36_525.0;

/// The sun at a moment, as seen from the Earth's centre.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sun {
    sin_declination: f64,
    cos_declination: f64,
    /// True solar time at longitude 0, degrees of hour angle.
    hour_angle_deg: f64,
}

impl Sun {
    pub(crate) fn at(moment: Timestamp) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a double tells microseconds apart for 285 years")]
        let days = moment.0 as f64 / MICROSECONDS_A_DAY;
        let t = (days + UNIX_EPOCH_JULIAN_DAY - J2000_JULIAN_DAY) / DAYS_A_JULIAN_CENTURY;
        let mean_longitude = rad(280.46646 + t * (36_000.769_83 + t * 0.000_303_2));
        let mean_anomaly = rad(357.52911 + t * (35_999.050_29 - t * 0.000_153_7));
        let eccentricity = 0.016_708_634 - t * (0.000_042_037 + t * 0.000_000_126_7);
        let centre = rad((1.914_602 - t * (0.004_817 + t * 0.000_014)) * mean_anomaly.sin()
            + (0.019_993 - t * 0.000_101) * (2.0 * mean_anomaly).sin()
            + 0.000_289 * (3.0 * mean_anomaly).sin());
        let node = rad(125.04 - 1_934.136 * t);
        let apparent_longitude = mean_longitude + centre - rad(0.005_69 + 0.004_78 * node.sin());
        let mean_obliquity = 23.0 + (26.0 + (21.448 - t * (46.815 + t * (0.000_59 - t * 0.001_813))) / 60.0) / 60.0;
        let obliquity = rad(mean_obliquity + 0.002_56 * node.cos());
        let sin_declination = obliquity.sin() * apparent_longitude.sin();
        let y = (obliquity / 2.0).tan().powi(2);
        let equation_of_time = y * (2.0 * mean_longitude).sin() - 2.0 * eccentricity * mean_anomaly.sin()
            + 4.0 * eccentricity * y * mean_anomaly.sin() * (2.0 * mean_longitude).cos()
            - 0.5 * y * y * (4.0 * mean_longitude).sin()
            - 1.25 * eccentricity * eccentricity * (2.0 * mean_anomaly).sin();
        Self {
            sin_declination,
            cos_declination: (1.0 - sin_declination * sin_declination).sqrt(),
            hour_angle_deg: days.rem_euclid(1.0) * 360.0 + equation_of_time * 180.0 / PI - 180.0,
        }
    }

    /// Height of the sun's centre above the horizon of `place`, degrees.
    pub(crate) fn elevation_deg(&self, place: Point) -> f64 {
        let (sin_latitude, cos_latitude) = rad(f64::from(place.latitude_e7) * 1e-7).sin_cos();
        let hour_angle = rad(self.hour_angle_deg + f64::from(place.longitude_e7) * 1e-7);
        let sine = sin_latitude * self.sin_declination + cos_latitude * self.cos_declination * hour_angle.cos();
        sine.clamp(-1.0, 1.0).asin() * 180.0 / PI
    }
}

fn rad(degrees: f64) -> f64 {
    degrees * PI / 180.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AARHUS: Point = Point { latitude_e7: 561_567_000, longitude_e7: 102_108_000 };

    fn elevation(unix_s: i64, place: Point) -> f64 {
        Sun::at(Timestamp(unix_s * 1_000_000)).elevation_deg(place)
    }

    #[test]
    fn the_sun_stands_where_meeus_computes_it() {
        // 1992-10-13 00:00: declination in example 25.a, equation of time in example 28.b.
        let sun = Sun::at(Timestamp(718_934_400_000_000));
        let declination = sun.sin_declination.asin().to_degrees();
        assert!((declination + 7.785_07).abs() < 0.001, "{declination}");
        let equation_of_time = sun.hour_angle_deg + 180.0;
        assert!((equation_of_time - 3.427_745).abs() < 0.001, "{equation_of_time}");
    }

    #[test]
    fn the_highest_and_lowest_noons_differ_by_twice_the_tilt() {
        let highest_of_day = |midnight_s: i64| {
            (0..1_440).map(|minute| elevation(midnight_s + minute * 60, AARHUS)).fold(f64::MIN, f64::max)
        };
        let (summer, winter) = (highest_of_day(1_403_308_800), highest_of_day(1_419_120_000));
        assert!((summer - (90.0 - 56.1567 + 23.44)).abs() < 0.02, "{summer}");
        assert!((winter - (90.0 - 56.1567 - 23.44)).abs() < 0.02, "{winter}");
    }

    proptest! {
        #[test]
        fn an_elevation_is_always_an_angle(moment: i64, latitude_e7 in -900_000_000..=900_000_000i32, longitude_e7: i32) {
            let elevation = Sun::at(Timestamp(moment)).elevation_deg(Point { latitude_e7, longitude_e7 });
            prop_assert!((-90.0..=90.0).contains(&elevation), "{elevation}");
        }
    }
}
