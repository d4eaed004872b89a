//! Some whole districts of a city, with the devices that lighting is about, and an account of their light.
//!
//! They are the very devices of the whole city, with the same draws, and lighting looks at nothing beyond a district: what it
//! does to a district here is what it would do to it in the whole city.
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::CityOptions;
use crate::city::City;
use crate::city::light::{LightAccount, LightFigures};
use crate::city::plan::{District, Plan};
use crate::device::DeviceIndex;
use crate::signal::{Signal, SimulatedKind, TimedReading};

const KINDS: [SimulatedKind; 3] = [SimulatedKind::Luminaire, SimulatedKind::Cabinet, SimulatedKind::TrafficFlowSensor];

/// Which part of a city, and when to watch its light.
#[derive(Clone, Debug, PartialEq)]
pub struct LitPart {
    /// Begins the districts' names.
    pub name: String,
    /// Districts, evenly from the centre outwards; all when the city has fewer.
    pub districts: u32,
    pub watched_from: Timestamp,
    pub watched_to: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct LitDistricts {
    city: City,
    districts: Vec<District>,
    /// In order; the played device with place n is number n of the world.
    devices: Vec<DeviceIndex>,
}

impl LitDistricts {
    pub(super) fn new(options: &CityOptions, part: &LitPart, start: Timestamp) -> Self {
        let CityOptions { seed, preset, dials, scenario, .. } = options;
        let plan = Plan::new(&part.name, *seed, preset.centre(), options.counts());
        let count = part.districts.clamp(1, plan.districts());
        let nth = |number: u32| u64::from(number) * u64::from(plan.districts()) / u64::from(count);
        let districts: Vec<District> =
            (0..count).map(|number| District(u32::try_from(nth(number)).expect("below the districts"))).collect();
        let played: BTreeSet<District> = districts.iter().copied().collect();
        let all = KINDS.into_iter().flat_map(|kind| (0..plan.count(kind)).map(move |ordinal| (kind, ordinal)));
        let own = all.filter(|(kind, ordinal)| played.contains(&plan.district(*kind, *ordinal)));
        let mut devices: Vec<DeviceIndex> = own.map(|(kind, ordinal)| plan.device(kind, ordinal)).collect();
        devices.sort_unstable();
        let signals: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| KINDS.contains(&signal.kind())).collect();
        let city = City::new(*seed, plan, start, &signals, dials.clone(), scenario.as_ref()).only(played);
        let account = LightAccount::new(&city, districts.clone(), (part.watched_from, part.watched_to));
        Self { city: city.with_light(account), districts, devices }
    }

    pub(super) fn city(&self) -> &City {
        &self.city
    }

    pub(super) fn devices(&self) -> &[DeviceIndex] {
        &self.devices
    }

    pub(super) fn district_names(&self) -> Vec<String> {
        self.districts.iter().map(|district| self.city.plan().district_name(*district)).collect()
    }

    pub(super) fn light(&mut self, until: Timestamp) -> Vec<LightFigures> {
        self.city.light(until)
    }

    pub(super) fn report_next(&mut self, readings: &mut Vec<TimedReading>) {
        self.with_city(readings, City::report_next);
    }

    /// Gives the readings that `act` makes of the city the numbers of this world.
    pub(super) fn with_city<T>(
        &mut self,
        readings: &mut Vec<TimedReading>,
        act: impl FnOnce(&mut City, &mut Vec<TimedReading>) -> T,
    ) -> T {
        let from = readings.len();
        let done = act(&mut self.city, readings);
        for reading in &mut readings[from..] {
            let place = self.devices.binary_search(&reading.device).expect("only played devices report");
            reading.device = DeviceIndex(u32::try_from(place).expect("a city has fewer devices than 2^32"));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;

    use super::*;
    use crate::dials::Dials;
    use crate::order::{Argument, LEVEL_ARGUMENT, Order, SET_LEVEL};
    use crate::preset::Preset;
    use crate::world::World;

    fn at(hour: i64) -> Timestamp {
        let midnight: Timestamp = "2025-12-20T23:00:00Z".parse().unwrap();
        midnight + SignedDuration::from_hours(hour)
    }

    fn options() -> CityOptions {
        CityOptions { seed: 3, preset: Preset::Odense, devices: Some(60_000), dials: Dials::default(), scenario: None }
    }

    fn part() -> World {
        let part = LitPart { name: "odense".to_owned(), districts: 2, watched_from: at(0), watched_to: at(24) };
        World::lit_part(&options(), &part, at(0))
    }

    /// What is reported until `until`, by name of the device, and the light; with `level` ordered to all lamps at one.
    fn played(
        mut world: World,
        until: Timestamp,
        level: Option<f64>,
    ) -> (Vec<(String, TimedReading)>, Vec<LightFigures>) {
        let mut readings = Vec::new();
        if let Some(level) = level {
            world.step(at(1), &mut readings);
            let arguments = BTreeMap::from([(LEVEL_ARGUMENT.to_owned(), Argument::Number(level))]);
            let order = Order { action: SET_LEVEL.to_owned(), arguments };
            for device in (0..world.device_count()).map(DeviceIndex) {
                if world.kind(device) == SimulatedKind::Luminaire {
                    world.execute(device, &order, at(1), &mut readings).unwrap();
                }
            }
        }
        world.step(until, &mut readings);
        let light = world.light(until);
        (readings.into_iter().map(|reading| (world.device(reading.device).name, reading)).collect(), light)
    }

    fn trace(readings: &[(String, TimedReading)]) -> Vec<(String, Timestamp, Signal, String)> {
        let row = |(name, reading): &(String, TimedReading)| {
            (name.clone(), reading.observed, reading.signal, format!("{:?}", reading.value))
        };
        let mut rows: Vec<_> = readings.iter().map(row).collect();
        rows.sort();
        rows
    }

    #[test]
    fn the_devices_of_a_part_report_what_they_report_in_the_whole_city() {
        let names: BTreeSet<String> = part().devices().map(|device| device.name).collect();
        let (whole, _) = played(World::city(&options(), at(0)), at(2), None);
        let own: Vec<_> = whole.into_iter().filter(|(name, _)| names.contains(name)).collect();
        let (alone, _) = played(part(), at(2), None);
        assert!(alone.len() > 1_000 && part().district_names().len() == 2);
        assert_eq!(trace(&alone), trace(&own));
    }

    #[test]
    fn orders_to_lamps_change_nothing_but_lamps_and_their_cabinets() {
        let others = |readings: Vec<(String, TimedReading)>| {
            let is_other =
                |(_, reading): &(String, TimedReading)| reading.signal.kind() == SimulatedKind::TrafficFlowSensor;
            trace(&readings.into_iter().filter(is_other).collect::<Vec<_>>())
        };
        let ((left_alone, _), (ordered, _)) = (played(part(), at(4), None), played(part(), at(4), Some(30.0)));
        assert_ne!(trace(&left_alone), trace(&ordered));
        assert_eq!(others(left_alone), others(ordered));
    }

    #[test]
    fn left_alone_lamps_burn_while_it_is_dark_and_are_safe() {
        let (_, districts) = played(part(), at(24), None);
        let light = districts.iter().fold(LightFigures::default(), |sum, district| sum.with(district));
        assert_eq!((districts.len(), light.unsafe_street_minutes), (2, 0));
        let dark_h = light.dark_street_minutes as f64 / f64::from(light.streets) / 60.0;
        assert!((15.5..17.0).contains(&dark_h), "{dark_h} hours on the longest night");
        // A quarter of the streets has lamps of 80 W, the others of 40 W; two watts are taken by day as well.
        let expected_kwh = f64::from(light.lamps) * (50.0 * dark_h + 2.0 * (24.0 - dark_h)) / 1_000.0;
        assert!((light.energy_kwh / expected_kwh - 1.0).abs() < 0.05, "{} kWh, not {expected_kwh}", light.energy_kwh);
    }

    #[test]
    fn a_level_below_the_class_of_the_road_is_unsafe_from_the_minute_of_its_order_on() {
        let light = |level| {
            let (_, districts) = played(part(), at(3), Some(level));
            districts.iter().fold(LightFigures::default(), |sum, district| sum.with(district))
        };
        let (streets_dimmed, all_dark) = (light(30.0), light(0.0));
        // 30 % is enough for streets, and not for main roads, of which there is one in four.
        let share = streets_dimmed.unsafe_street_minutes as f64 / all_dark.unsafe_street_minutes as f64;
        assert!((0.15..0.35).contains(&share), "{share}");
        // Dark at one o'clock and until three; some lamps ignore the order.
        let dark = f64::from(all_dark.streets) * 120.0;
        assert!((all_dark.unsafe_street_minutes as f64 / dark - 1.0).abs() < 0.01, "{all_dark:?}");
    }
}
