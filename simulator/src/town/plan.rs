//! The map of a town: where its districts, streets and stations are.
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::sensors::Sensor;
use crate::device::{Place, SimulatedDevice};
use crate::signal::SimulatedKind;
use crate::street::Street;

/// Names of the districts, in the order in which they are built; a town has the first four to six.
const DISTRICTS: [&str; 6] = ["havnen", "midtbyen", "noerrebro", "skovby", "soeside", "vestermark"];
const STREET_NAMES: [&str; 8] =
    ["Algade", "Bredgade", "Engvej", "Havnegade", "Kirkestræde", "Møllevej", "Skolegade", "Østergade"];
const STREETS_PER_DISTRICT: u32 = 8;
/// The town lies round this point, in the bay of Aarhus.
const CENTRE: Place = Place { latitude: 56.15, longitude: 10.21 };
/// A hundred metres in degrees, at this latitude.
const HUNDRED_M_NORTH: f64 = 0.0009;
const HUNDRED_M_EAST: f64 = 0.0016;

/// All devices of the town of `seed`, each with its sensor if it senses.
pub(super) fn lay_out(seed: u64) -> (Vec<SimulatedDevice>, Vec<Option<Sensor>>) {
    let mut plan = Plan { rng: Xoshiro256PlusPlus::seed_from_u64(seed), devices: Vec::new(), sensors: Vec::new() };
    let districts = plan.rng.random_range(4..=DISTRICTS.len());
    for (number, district) in (0_u32..).zip(&DISTRICTS[..districts]) {
        plan.build_district(number, district);
    }
    (plan.devices, plan.sensors)
}

struct Plan {
    rng: Xoshiro256PlusPlus,
    devices: Vec<SimulatedDevice>,
    sensors: Vec<Option<Sensor>>,
}

impl Plan {
    fn build_district(&mut self, number: u32, district: &str) {
        // Districts stand round the centre, a sixth of a turn apart; the first is the centre.
        let angle = f64::from(number) * std::f64::consts::FRAC_PI_3;
        let out_hundred_m = if number == 0 { 0.0 } else { 15.0 };
        let centre = Place {
            latitude: CENTRE.latitude + angle.sin() * out_hundred_m * HUNDRED_M_NORTH,
            longitude: CENTRE.longitude + angle.cos() * out_hundred_m * HUNDRED_M_EAST,
        };
        for street in 0..STREETS_PER_DISTRICT {
            self.build_street(district, street, centre);
        }
        for container in 0..self.rng.random_range(6..=12_u32) {
            let fill_per_day = self.rng.random_range(0.14..0.61);
            let place = self.place_near(centre);
            let sensor = Sensor::WasteContainer { fill_per_day, start: self.rng.random_range(0.0..0.7) };
            self.add(
                SimulatedDevice::new(district, &format!("w-{container}"), SimulatedKind::WasteContainer, place),
                sensor,
            );
        }
        for station in 0..2_u32 {
            let place = self.place_near(centre);
            let background = self.rng.random_range(6.0..12.0);
            let name = format!("a-{station}");
            self.add(
                SimulatedDevice::new(district, &name, SimulatedKind::AirQuality, place),
                Sensor::AirQuality { background },
            );
        }
        let weather = SimulatedDevice::new(district, "weather", SimulatedKind::Weather, centre);
        self.add(weather, Sensor::Weather { place: centre });
        if number < 3 {
            let spaces = f64::from(self.rng.random_range(2..=12_u32) * 50);
            let place = self.place_near(centre);
            let garage = SimulatedDevice::new(district, "garage", SimulatedKind::Garage, place);
            self.add(garage, Sensor::Garage { spaces });
        }
    }

    fn build_street(&mut self, district: &str, number: u32, centre: Place) {
        let length_m = f64::from(self.rng.random_range(10..=30_u32) * 40);
        let from = self.place_near(centre);
        let heading = self.rng.random_range(0.0..std::f64::consts::TAU);
        let to = Place {
            latitude: from.latitude + heading.sin() * length_m / 100.0 * HUNDRED_M_NORTH,
            longitude: from.longitude + heading.cos() * length_m / 100.0 * HUNDRED_M_EAST,
        };
        let id = number.to_string();
        let is_main_road = number < 2;
        let street = Street {
            district,
            id: &id,
            from,
            to,
            length_m,
            street: STREET_NAMES[number as usize % STREET_NAMES.len()],
            road_type: if is_main_road { "MAJOR_ROAD" } else { "STREET" },
        };
        let sensor = Sensor::Traffic {
            mean_vehicles: if is_main_road {
                self.rng.random_range(6.0..14.0)
            } else {
                self.rng.random_range(0.8..5.0)
            },
            free_flow_kmh: if is_main_road { 70.0 } else { 50.0 },
            length_m,
        };
        self.add(street.sensor(), sensor);
        for lamp in street.lamps() {
            self.devices.push(lamp);
            self.sensors.push(None);
        }
    }

    fn add(&mut self, device: SimulatedDevice, sensor: Sensor) {
        self.devices.push(device);
        self.sensors.push(Some(sensor));
    }

    /// A place at most 600 m north or south and east or west of `centre`.
    fn place_near(&mut self, centre: Place) -> Place {
        Place {
            latitude: centre.latitude + self.rng.random_range(-6.0..6.0) * HUNDRED_M_NORTH,
            longitude: centre.longitude + self.rng.random_range(-6.0..6.0) * HUNDRED_M_EAST,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_kind_is_there() {
        for seed in 0..20 {
            let (devices, sensors) = lay_out(seed);
            assert_eq!(devices.len(), sensors.len());
            let names: BTreeSet<_> = devices.iter().map(|device| &device.name).collect();
            assert_eq!(names.len(), devices.len());
            let kinds: BTreeSet<_> = devices.iter().map(|device| device.kind).collect();
            assert_eq!(kinds.len(), 6);
        }
    }

    #[test]
    fn a_town_has_about_forty_streets_with_ten_to_thirty_lamps() {
        let (devices, _) = lay_out(1);
        let count = |kind| devices.iter().filter(|device| device.kind == kind).count();
        let (streets, lamps) = (count(SimulatedKind::TrafficFlowSensor), count(SimulatedKind::Luminaire));
        assert!((32..=48).contains(&streets), "{streets}");
        assert!((10 * streets..=30 * streets).contains(&lamps), "{lamps} lamps in {streets} streets");
    }
}
