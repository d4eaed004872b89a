//! Where the sun stands.
use jiff::Timestamp;

use crate::device::Place;

/// Sine of the sun's height above the horizon at `place`; below zero at night.
///
/// Declination by Cooper's formula and no equation of time: right within a degree, which is some minutes of dusk.
pub(crate) fn sun_height(moment: Timestamp, place: Place) -> f64 {
    let second = moment.as_second();
    // Days since a new year, with leap days spread: a quarter of a day is nothing to the declination.
    let day = (second as f64 / 86_400.0).rem_euclid(365.25);
    let declination = 23.45_f64.to_radians() * ((285.0 + day) / 365.25 * std::f64::consts::TAU).sin();
    let hour = second.rem_euclid(86_400) as f64 / 3_600.0;
    let hour_angle = ((hour - 12.0) * 15.0 + place.longitude).to_radians();
    let latitude = place.latitude.to_radians();
    latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_is_up_at_noon_and_down_at_midnight() {
        let height = |text: &str| sun_height(text.parse().unwrap(), Place { latitude: 56.15, longitude: 10.2 });
        assert!(height("2014-06-21T11:20:00Z") > 0.82 && height("2014-06-21T23:20:00Z") < 0.0);
        assert!(height("2014-12-21T11:20:00Z") > 0.15 && height("2014-12-21T16:00:00Z") < 0.0);
    }
}
