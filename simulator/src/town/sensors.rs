//! What each sensor of a town measures at a moment: the city's rhythm, the sensor's own scale, and noise.
//!
//! The noise of a measurement is seeded by town, device and moment, so nothing is remembered between measurements.
use jiff::{SignedDuration, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::device::{DeviceIndex, Place};
use crate::signal::{Signal, TimedReading};
use crate::traffic::{danish_time, flow_multiplier, hour_of_day, speed_share, sun_height};

/// Share of the reports of a road segment that never arrive (one missed, in the Aarhus archive).
const TRAFFIC_REPORT_LOSS: f64 = 0.05;
/// A container is emptied at this filling.
const EMPTIED_AT: f64 = 0.75;
/// Light of a clear sky with the sun overhead, lux.
const ILLUMINANCE_MAX_LX: f64 = 100_000.0;

/// What is fixed about one sensor.
#[derive(Clone, Debug)]
pub(super) enum Sensor {
    /// Mean of vehicles in 5 minutes over the week.
    Traffic {
        mean_vehicles: f64,
        free_flow_kmh: f64,
        length_m: f64,
    },
    Garage {
        spaces: f64,
    },
    /// Shares of the container: filled in a day, and filled on 1970-01-01.
    WasteContainer {
        fill_per_day: f64,
        start: f64,
    },
    /// Micrograms of fine particles per cubic metre without traffic.
    AirQuality {
        background: f64,
    },
    Weather {
        place: Place,
    },
}

impl Sensor {
    /// Time between two measurements.
    pub(super) fn interval(&self) -> SignedDuration {
        match self {
            Self::Traffic { .. } | Self::Garage { .. } => SignedDuration::from_mins(5),
            Self::AirQuality { .. } | Self::Weather { .. } => SignedDuration::from_mins(10),
            Self::WasteContainer { .. } => SignedDuration::from_mins(30),
        }
    }

    /// Appends what the sensor reports at `observed`; nothing when the report is lost on its way.
    pub(super) fn measure(
        &self,
        seed: u64,
        device: DeviceIndex,
        observed: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) {
        let mut noise = Noise::new(seed, device, observed);
        let local = danish_time(observed);
        let mut report = |signal, value| readings.push(TimedReading { observed, device, signal, value });
        match *self {
            Self::Traffic { mean_vehicles, free_flow_kmh, length_m } => {
                if noise.share() < TRAFFIC_REPORT_LOSS {
                    return;
                }
                let speed_kmh = (free_flow_kmh * speed_share(local) * noise.around_one(0.15)).max(5.0);
                report(Signal::VehicleCount, noise.count(mean_vehicles * flow_multiplier(local)));
                report(Signal::VehicleSpeed, speed_kmh.round());
                report(Signal::TravelTime, (length_m / (speed_kmh / 3.6)).round());
            }
            Self::Garage { spaces } => {
                // Fullest at half past one, nearly empty at night; wider than the traffic's peaks.
                let from_peak_h = hour_of_day(local) - 13.5;
                let filling = 0.08 + 0.8 * (-from_peak_h * from_peak_h / 18.0).exp();
                report(Signal::OccupiedSpots, (spaces * filling * noise.around_one(0.05)).round().min(spaces));
                report(Signal::TotalSpots, spaces);
            }
            Self::WasteContainer { fill_per_day, start } => {
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
                let days = observed.as_second() as f64 / 86_400.0;
                let filling = (start + days * fill_per_day) % EMPTIED_AT;
                report(Signal::FillingLevel, hundredths(filling));
            }
            Self::AirQuality { background } => {
                let traffic = flow_multiplier(local);
                report(Signal::NitrogenDioxide, hundredths((8.0 + 14.0 * traffic) * noise.around_one(0.2)));
                report(Signal::FineParticles, hundredths((background + 3.0 * traffic) * noise.around_one(0.25)));
            }
            Self::Weather { place } => {
                let sun = sun_height(observed, place.latitude, place.longitude).max(0.0);
                let season = (f64::from(local.date().day_of_year()) - 200.0) / 365.0 * std::f64::consts::TAU;
                let temperature = 8.5 + 8.0 * season.cos() + 6.0 * sun + noise.around_one(0.5) - 1.0;
                report(Signal::Temperature, hundredths(temperature));
                report(Signal::RelativeHumidity, hundredths((0.9 - 0.35 * sun) * noise.around_one(0.05)).min(1.0));
                // The sky of dusk: some lux below the horizon too, so that dimming has something to follow.
                report(Signal::Illuminance, (0.1 + ILLUMINANCE_MAX_LX * sun * noise.around_one(0.3)).round());
                report(Signal::WindSpeed, hundredths(5.0 * noise.around_one(0.4)));
            }
        }
    }
}

/// Two decimals are what such sensors send.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The noise of one measurement.
struct Noise(Xoshiro256PlusPlus);

impl Noise {
    fn new(seed: u64, device: DeviceIndex, observed: Timestamp) -> Self {
        // Odd factors keep the three apart before the generator's own seeding mixes them.
        let mixed = seed
            ^ u64::from(device.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ observed.as_second().cast_unsigned().wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// Evenly from 0 to 1.
    fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// About one, at most three deviations away: a sum of six even shares is close to a bell curve.
    fn around_one(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..6).map(|_| self.share()).sum();
        // Six even shares have a deviation of the square root of one half.
        (1.0 + (sum - 3.0) * std::f64::consts::SQRT_2 * deviation).max(0.0)
    }

    /// A count with this mean: Poisson by Knuth's product below 30, a rounded bell curve above.
    fn count(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            return (mean * self.around_one(1.0 / mean.sqrt())).round();
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.share(), 0.0);
        while product > limit {
            product *= self.share();
            count += 1.0;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise() -> Noise {
        Noise::new(3, DeviceIndex(1), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn counts_have_the_mean_that_was_asked_for() {
        for mean in [0.1, 3.0, 25.0, 60.0] {
            let mut noise = noise();
            let average = (0..20_000).map(|_| noise.count(mean)).sum::<f64>() / 20_000.0;
            assert!((average - mean).abs() < 0.05 * mean + 0.01, "{average} for {mean}");
        }
    }

    #[test]
    fn values_stay_within_what_is_physical() {
        let place = Place { latitude: 56.15, longitude: 10.2 };
        let sensors = [
            Sensor::Traffic { mean_vehicles: 14.0, free_flow_kmh: 70.0, length_m: 400.0 },
            Sensor::Garage { spaces: 100.0 },
            Sensor::WasteContainer { fill_per_day: 0.5, start: 0.3 },
            Sensor::AirQuality { background: 9.0 },
            Sensor::Weather { place },
        ];
        let mut readings = Vec::new();
        for hour in 0..24 * 400 {
            let moment = Timestamp::from_second(1_700_000_000 + hour * 3_600).unwrap();
            for sensor in &sensors {
                sensor.measure(5, DeviceIndex(2), moment, &mut readings);
            }
        }
        for reading in readings {
            let bounds = match reading.signal {
                Signal::VehicleCount => 0.0..=100.0,
                Signal::VehicleSpeed => 5.0..=130.0,
                Signal::TravelTime => 1.0..=600.0,
                Signal::OccupiedSpots | Signal::TotalSpots | Signal::DimmingLevel | Signal::ActivePower => 0.0..=100.0,
                Signal::FillingLevel | Signal::RelativeHumidity => 0.0..=1.0,
                Signal::NitrogenDioxide | Signal::FineParticles => 0.0..=200.0,
                Signal::Temperature => -15.0..=35.0,
                Signal::Illuminance => 0.0..=150_000.0,
                Signal::WindSpeed => 0.0..=40.0,
            };
            assert!(bounds.contains(&reading.value), "{reading:?}");
        }
    }
}
