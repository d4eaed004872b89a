//! What moves the city at a moment, from cause to effect: calendar, sun, weather, price, then traffic and people.
//!
//! A `Sky` is what is alike everywhere; `Causes` adds what a scenario changes at one place.
use jiff::Timestamp;

use crate::calendar::LocalTime;
use crate::device::Place;
use crate::price::price;
use crate::scenario::Effect;
use crate::sun::sun_height;
use crate::traffic::{Hours, at_hour, flow_multiplier, speed_share};
use crate::weather::Weather;

/// Lamps burn while the sine of the sun's height is below this, and earlier under clouds: sensors of street lights switch at
/// 35 to 70 lux, which civil twilight gives at about 3.5 degrees below the horizon.
const DARK_BELOW: f64 = -0.06;
const DARK_EARLIER_UNDER_CLOUD: f64 = 0.03;

/// People out of doors and in public places, by local hour; the mean over a week is about one. An assumption: nobody's data
/// have it.
const PEOPLE_ON_WORKDAYS: Hours = [
    0.15, 0.08, 0.06, 0.06, 0.1, 0.3, 0.8, 1.5, 1.7, 1.3, 1.3, 1.5, 1.8, 1.6, 1.6, 1.9, 2.1, 1.9, 1.5, 1.2, 0.9, 0.7,
    0.45, 0.25,
];
const PEOPLE_ON_FREE_DAYS: Hours = [
    0.5, 0.4, 0.3, 0.2, 0.12, 0.12, 0.2, 0.35, 0.6, 1.0, 1.5, 1.9, 2.1, 2.2, 2.1, 1.9, 1.7, 1.5, 1.3, 1.2, 1.1, 1.0,
    0.9, 0.7,
];

/// What is alike over the whole city.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sky {
    pub(crate) local: LocalTime,
    /// Sine of the sun's height.
    pub(crate) sun: f64,
    pub(crate) weather: Weather,
    /// EUR/MWh.
    pub(crate) price: f64,
}

impl Sky {
    pub(crate) fn at(seed: u64, centre: Place, moment: Timestamp) -> Self {
        let local = LocalTime::of(moment);
        let sun = sun_height(moment, centre);
        let weather = Weather::at(seed, moment, &local, sun);
        Self { local, sun, weather, price: price(seed, moment, &local, &weather) }
    }
}

/// What moves one place of the city.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Causes {
    pub(crate) local: LocalTime,
    pub(crate) sun: f64,
    pub(crate) weather: Weather,
    pub(crate) price: f64,
    /// Vehicles as a multiple of a road's mean.
    pub(crate) flow: f64,
    /// Mean speed as a share of the free flow.
    pub(crate) speed_share: f64,
    /// People as a multiple of the mean.
    pub(crate) people: f64,
    pub(crate) is_dark: bool,
    /// The grid feeds the place.
    pub(crate) has_power: bool,
}

impl Causes {
    pub(crate) fn of(sky: &Sky, effect: &Effect) -> Self {
        let mut weather = sky.weather;
        weather.temperature += effect.temperature;
        weather.rain += effect.rain;
        weather.wind *= effect.wind;
        if effect.rain > 0.0 {
            weather.cloud = 1.0;
        }
        let flow = flow_multiplier(&sky.local) * effect.traffic;
        // Traffic beyond the hour's usual slows down in proportion, to walking pace at worst; so does heavy rain.
        let wetness = 1.0 - 0.08 * (weather.rain / 4.0).min(1.0);
        let crowding = 1.0 / (1.0 + 0.6 * (effect.traffic - 1.0).max(0.0));
        let speed_share = (speed_share(&sky.local) * wetness * crowding).max(0.08);
        let free = sky.local.is_weekend();
        let people = at_hour(if free { &PEOPLE_ON_FREE_DAYS } else { &PEOPLE_ON_WORKDAYS }, sky.local.hour);
        // Rain keeps a third at home; a warm day brings a third more out.
        let weathered =
            1.0 - 0.33 * (weather.rain / 2.0).min(1.0) + 0.33 * ((weather.temperature - 15.0) / 10.0).clamp(0.0, 1.0);
        Self {
            local: sky.local,
            sun: sky.sun,
            weather,
            price: sky.price,
            flow,
            speed_share,
            people: people * weathered * effect.crowd,
            is_dark: sky.sun < DARK_BELOW + DARK_EARLIER_UNDER_CLOUD * weather.cloud,
            has_power: effect.has_power,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, effect: &Effect) -> Causes {
        let centre = Place { latitude: 56.15, longitude: 10.2 };
        Causes::of(&Sky::at(7, centre, text.parse().unwrap()), effect)
    }

    #[test]
    fn it_is_dark_at_night_and_people_are_out_by_day() {
        let (night, noon) = (at("2025-03-04T01:00:00Z", &Effect::NONE), at("2025-03-04T11:00:00Z", &Effect::NONE));
        assert!(night.is_dark && !noon.is_dark);
        assert!(noon.people > 8.0 * night.people && noon.flow > 20.0 * night.flow);
    }

    #[test]
    fn rain_and_crowds_slow_the_traffic() {
        let calm = at("2025-03-04T11:00:00Z", &Effect::NONE);
        let busy = at("2025-03-04T11:00:00Z", &Effect { traffic: 2.0, rain: 20.0, ..Effect::NONE });
        assert!(busy.speed_share < 0.7 * calm.speed_share && busy.flow > 1.9 * calm.flow && busy.people < calm.people);
    }
}
