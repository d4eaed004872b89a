//! Weather, air and noise.
use super::water::remembered_rain;
use super::{Site, choice, rounded};
use crate::signal::{Signal, Value};

pub(super) fn weather_value(site: &Site<'_>, signal: Signal) -> Value {
    let weather = &site.causes.weather;
    let mut noise = site.noise(signal);
    match signal {
        Signal::WeatherTemperature => rounded(weather.temperature + 0.2 * noise.bell()),
        Signal::WeatherRelativeHumidity => rounded((weather.humidity + 0.02 * noise.bell()).clamp(0.0, 1.0)),
        Signal::WeatherPressure => rounded(weather.pressure + 0.1 * noise.bell()),
        Signal::WeatherWindSpeed => rounded(weather.wind * noise.around_one(0.15)),
        Signal::WeatherWindDirection => rounded((weather.wind_direction + 15.0 * noise.bell()).rem_euclid(360.0)),
        Signal::WeatherGustSpeed => rounded(weather.wind * (1.5 + 0.1 * noise.bell().abs())),
        // Of the ten minutes since the last report.
        Signal::WeatherPrecipitation => rounded(weather.rain / 6.0 * noise.around_one(0.2)),
        Signal::WeatherIlluminance => rounded((weather.illuminance * noise.around_one(0.1)).min(200_000.0)),
        Signal::WeatherSolarRadiation => rounded(weather.radiation * noise.around_one(0.05)),
        Signal::WeatherSnowHeight => {
            // What falls below freezing lies for a day.
            let snow_mm = if weather.temperature < 0.5 { remembered_rain(site) } else { 0.0 };
            rounded(snow_mm)
        }
        _ => Value::Poison,
    }
}

/// Concentrations rise with the traffic and with stoves in the cold, and fall with wind and rain. The sizes are assumed, near
/// the means of Danish urban stations (NO2 15, PM10 17, PM2.5 9, O3 50 micrograms per cubic metre).
pub(super) fn air_value(site: &Site<'_>, signal: Signal) -> Value {
    let weather = &site.causes.weather;
    let thinning = (4.6 / weather.wind.max(1.0)).powf(0.6) * (1.0 - 0.3 * (weather.rain / 3.0).min(1.0));
    let here = 1.2 - 0.5 * site.remoteness + 0.2 * (site.build().share() - 0.5);
    let traffic = site.causes.flow * here;
    let stoves = ((10.0 - weather.temperature) / 10.0).clamp(0.0, 1.5);
    let no2 = (5.0 + 10.0 * traffic) * thinning;
    let pm25 = (5.0 + 1.6 * traffic + 4.0 * stoves) * thinning;
    let pm10 = (10.0 + 4.0 * traffic + 4.0 * stoves) * thinning;
    let noisy = |value: f64| rounded((value * site.noise(signal).around_one(0.12)).max(0.0));
    match signal {
        Signal::AirNitrogenDioxide => noisy(no2),
        Signal::AirCoarseParticles => noisy(pm10),
        Signal::AirFineParticles => noisy(pm25),
        Signal::AirOzone => noisy((62.0 - 0.9 * no2 + 30.0 * site.causes.sun.max(0.0)).max(2.0)),
        Signal::AirCarbonMonoxide => noisy((150.0 + 60.0 * traffic) * thinning),
        Signal::AirSulphurDioxide => noisy(1.2 * thinning),
        // The worst of two against the limits of the European Union for a day, 100 at the limit.
        Signal::AirIndex => rounded((pm25 / 25.0).max(no2 / 50.0).min(5.0) * 100.0),
        Signal::AirTemperature => rounded(weather.temperature + 0.5 * site.noise(signal).bell()),
        Signal::AirRelativeHumidity => rounded(weather.humidity),
        Signal::AirPressure => rounded(weather.pressure),
        _ => Value::Poison,
    }
}

/// Decibels: ten times as many cars are 10 dB more; people, rain and wind add theirs. The levels are assumed.
pub(super) fn noise_value(site: &Site<'_>, signal: Signal) -> Value {
    let weather = &site.causes.weather;
    let sources = [
        61.0 + 10.0 * (site.causes.flow * (1.2 - 0.5 * site.remoteness)).max(1e-3).log10(),
        50.0 + 10.0 * site.causes.people.max(1e-3).log10(),
        35.0 + 6.0 * weather.rain.min(5.0),
        34.0 + 1.5 * weather.wind,
    ];
    let power: f64 = sources.iter().map(|level| 10_f64.powf(level / 10.0)).sum();
    let level = 10.0 * power.log10() + 1.5 * site.noise(Signal::NoiseLAeq).bell();
    match signal {
        Signal::NoiseLAeq => rounded(level),
        Signal::NoiseLAmax => rounded(level + 12.0 + 3.0 * site.noise(signal).bell().abs()),
        Signal::NoiseLAS => rounded(level + site.noise(signal).bell()),
        Signal::NoiseSonometerClass => choice(signal, if site.ordinal.is_multiple_of(4) { "1" } else { "2" }),
        _ => Value::Poison,
    }
}
