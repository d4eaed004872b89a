//! Where a city's devices are: all of it computed from a device's number, nothing stored.
//!
//! Devices are numbered kind by kind. Every device stands at a street and every street lies in a district; the devices of a
//! kind are spread evenly over the streets, in order. Districts are numbered outwards from the centre.
use crate::device::{DeviceIndex, Place, SimulatedDevice};
use crate::draw::{Draw, Subject};
use crate::preset::Counts;
use crate::signal::SimulatedKind;

const STREET_NAMES: [&str; 8] =
    ["Algade", "Bredgade", "Engvej", "Havnegade", "Kirkestræde", "Møllevej", "Skolegade", "Østergade"];
/// Lamps of a street, 40 m apart.
const LAMPS_PER_STREET: u32 = 20;
const STREET_LENGTH_M: f64 = 800.0;
/// So few that a district stays far below what the cluster allows it, 20,000, however kinds cluster.
const DEVICES_PER_DISTRICT: u32 = 5_000;
const DISTRICTS_MIN: u32 = 4;
/// Metres from a district's middle to the beginnings of its streets, north and east, at most.
const DISTRICT_RADIUS_M: f64 = 500.0;
/// Metres from the centre to the first ring of districts; the area of a district stays the same outwards.
const DISTRICT_SPACING_M: f64 = 1_200.0;
/// One street in so many is a main road.
const MAIN_ROAD_EVERY: u32 = 4;
const METRES_PER_DEGREE: f64 = 111_320.0;

/// Number of a device among those of its kind, from 0.
pub(crate) type Ordinal = u32;

/// A district of a city, from 0 in the centre outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct District(pub(crate) u32);

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    name: String,
    seed: u64,
    centre: Place,
    counts: Counts,
    /// Number of the first device of each kind.
    firsts: [u32; SimulatedKind::ALL.len()],
    streets: u32,
    districts: u32,
}

impl Plan {
    /// `name` begins the districts' names.
    pub(crate) fn new(name: &str, seed: u64, centre: Place, counts: Counts) -> Self {
        let mut firsts = [0; SimulatedKind::ALL.len()];
        let mut first = 0;
        for kind in SimulatedKind::ALL {
            firsts[kind as usize] = first;
            first += counts.of(kind);
        }
        let districts = counts.total().div_ceil(DEVICES_PER_DISTRICT).max(DISTRICTS_MIN);
        let of_lamps = counts.of(SimulatedKind::Luminaire).div_ceil(LAMPS_PER_STREET);
        let streets = of_lamps.max(counts.of(SimulatedKind::TrafficFlowSensor)).max(districts);
        Self { name: name.to_owned(), seed, centre, counts, firsts, streets, districts }
    }

    pub(crate) fn centre(&self) -> Place {
        self.centre
    }

    pub(crate) fn device_count(&self) -> u32 {
        self.counts.total()
    }

    pub(crate) fn count(&self, kind: SimulatedKind) -> u32 {
        self.counts.of(kind)
    }

    /// The kind of a device and its number within the kind.
    pub(crate) fn role(&self, device: DeviceIndex) -> (SimulatedKind, Ordinal) {
        // Kinds without devices begin where the next begins, so the last that begins early enough is right.
        let behind = self.firsts.partition_point(|first| *first <= device.0);
        let kind = SimulatedKind::ALL[behind.saturating_sub(1)];
        (kind, device.0 - self.firsts[kind as usize])
    }

    pub(crate) fn device(&self, kind: SimulatedKind, ordinal: Ordinal) -> DeviceIndex {
        DeviceIndex(self.firsts[kind as usize] + ordinal)
    }

    /// The devices of kind `partner` that belong to a device of a kind with fewer: the lamps of a cabinet.
    pub(crate) fn partners(
        &self,
        kind: SimulatedKind,
        ordinal: Ordinal,
        partner: SimulatedKind,
    ) -> std::ops::Range<Ordinal> {
        let (own, theirs) = (u64::from(self.count(kind).max(1)), u64::from(self.count(partner)));
        let start = |ordinal: u64| u32::try_from((ordinal * theirs).div_ceil(own)).unwrap_or(u32::MAX);
        start(u64::from(ordinal))..start(u64::from(ordinal) + 1)
    }

    /// The device of kind `partner`, of which there are fewer, that a device belongs to: the cabinet of a lamp.
    pub(crate) fn partner(&self, kind: SimulatedKind, ordinal: Ordinal, partner: SimulatedKind) -> Option<Ordinal> {
        scaled(ordinal, self.count(kind), self.count(partner)).filter(|_| self.count(partner) > 0)
    }

    pub(crate) fn district(&self, kind: SimulatedKind, ordinal: Ordinal) -> District {
        District(scaled(self.street(kind, ordinal), self.streets, self.districts).unwrap_or(0))
    }

    pub(crate) fn streets(&self) -> u32 {
        self.streets
    }

    /// Districts of the city.
    pub(crate) fn districts(&self) -> u32 {
        self.districts
    }

    /// Last part of a district's name.
    pub(crate) fn district_name(&self, district: District) -> String {
        format!("{}-{}", self.name, district.0)
    }

    /// Share of all districts that lie nearer to the centre, 0 to 1.
    pub(crate) fn remoteness(&self, district: District) -> f64 {
        f64::from(district.0) / f64::from(self.districts)
    }

    /// Whether a device stands at a main road.
    pub(crate) fn is_at_main_road(&self, kind: SimulatedKind, ordinal: Ordinal) -> bool {
        self.street(kind, ordinal).is_multiple_of(MAIN_ROAD_EVERY)
    }

    /// The two ends of a device's street.
    pub(crate) fn street_ends(&self, kind: SimulatedKind, ordinal: Ordinal) -> (Place, Place) {
        let street = self.street(kind, ordinal);
        let district = scaled(street, self.streets, self.districts).unwrap_or(0);
        // A sunflower's seeds: even everywhere.
        let (turn, out_m) = (f64::from(district) * 2.399_963, f64::from(district).sqrt() * DISTRICT_SPACING_M);
        let mut draw = Draw::new(self.seed, Subject::Street, street, 0);
        let radius = DISTRICT_RADIUS_M;
        let middle = self.centre.moved(out_m * turn.sin(), out_m * turn.cos());
        let from = middle.moved(draw.between(-radius, radius), draw.between(-radius, radius));
        let heading = draw.between(0.0, std::f64::consts::TAU);
        (from, from.moved(STREET_LENGTH_M * heading.sin(), STREET_LENGTH_M * heading.cos()))
    }

    pub(crate) fn street_length_m(&self) -> f64 {
        STREET_LENGTH_M
    }

    /// The record of a device as it is registered.
    pub(crate) fn describe(&self, device: DeviceIndex) -> SimulatedDevice {
        let (kind, ordinal) = self.role(device);
        let (street, district) = (self.street(kind, ordinal), self.district(kind, ordinal));
        let (from, to) = self.street_ends(kind, ordinal);
        let along = match kind {
            SimulatedKind::Luminaire => (f64::from(ordinal % LAMPS_PER_STREET) + 0.5) / f64::from(LAMPS_PER_STREET),
            SimulatedKind::TrafficFlowSensor => 0.5,
            _ => Draw::new(self.seed, Subject::Street, device.0, 1).share(),
        };
        let name = format!("{}-{ordinal}", kind.name().replace('_', "-"));
        let record = SimulatedDevice::new(&self.district_name(district), &name, kind, from.towards(to, along));
        match kind {
            SimulatedKind::Luminaire | SimulatedKind::TrafficFlowSensor => {
                let road_type = if self.is_at_main_road(kind, ordinal) { "MAJOR_ROAD" } else { "STREET" };
                record
                    .labelled("street", STREET_NAMES[street as usize % STREET_NAMES.len()])
                    .labelled("road_type", road_type)
                    .labelled("segment", &street.to_string())
            }
            _ => record,
        }
    }

    /// Number of the street at which a device stands.
    pub(crate) fn street(&self, kind: SimulatedKind, ordinal: Ordinal) -> u32 {
        if kind == SimulatedKind::Luminaire {
            return ordinal / LAMPS_PER_STREET;
        }
        scaled(ordinal, self.count(kind), self.streets).unwrap_or(0)
    }
}

/// `number` of `count` things laid over `others`, in order; none when there is nothing to lay.
fn scaled(number: u32, count: u32, others: u32) -> Option<u32> {
    let place = (u64::from(number) * u64::from(others)).checked_div(u64::from(count))?;
    u32::try_from(place).ok()
}

impl Place {
    /// The point so many metres north and east; exact enough below 100 km.
    fn moved(self, north_m: f64, east_m: f64) -> Place {
        Place {
            latitude: self.latitude + north_m / METRES_PER_DEGREE,
            longitude: self.longitude + east_m / METRES_PER_DEGREE / self.latitude.to_radians().cos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::preset::Preset;

    fn plan(preset: Preset) -> Plan {
        Plan::new(preset.name(), 7, preset.centre(), preset.counts())
    }

    #[test]
    fn names_are_unique_and_stay_the_same() {
        let village = plan(Preset::Village);
        let devices: Vec<_> = (0..village.device_count()).map(|device| village.describe(DeviceIndex(device))).collect();
        let names: BTreeSet<_> = devices.iter().map(|device| &device.name).collect();
        assert_eq!(names.len(), devices.len());
        assert_eq!(devices[3], plan(Preset::Village).describe(DeviceIndex(3)));
        assert_eq!(devices[3].name, "districts/village-0/devices/luminaire-3");
        assert_eq!(devices[3].labels["road_type"], "MAJOR_ROAD");
    }

    #[test]
    fn no_district_is_above_what_the_cluster_allows() {
        for preset in [Preset::Aarhus, Preset::Copenhagen] {
            let plan = plan(preset);
            let mut districts: BTreeMap<District, u32> = BTreeMap::new();
            for device in (0..plan.device_count()).map(DeviceIndex) {
                let (kind, ordinal) = plan.role(device);
                *districts.entry(plan.district(kind, ordinal)).or_default() += 1;
            }
            let largest = districts.values().max();
            assert!(largest.is_some_and(|devices| *devices < 10_000), "{largest:?} in {preset}");
            assert!(districts.len() > 50);
        }
    }

    #[test]
    fn lamps_and_their_sensor_share_a_district() {
        let plan = plan(Preset::Village);
        for sensor in 0..plan.count(SimulatedKind::TrafficFlowSensor) {
            let lamp = sensor * LAMPS_PER_STREET;
            let of = |kind, ordinal| (plan.district(kind, ordinal), plan.street_ends(kind, ordinal));
            assert_eq!(of(SimulatedKind::TrafficFlowSensor, sensor), of(SimulatedKind::Luminaire, lamp));
        }
    }

    proptest! {
        #[test]
        fn numbers_and_roles_are_one_to_one(number in 0..400_000_u32) {
            let plan = plan(Preset::Aarhus);
            let device = DeviceIndex(number % plan.device_count());
            let (kind, ordinal) = plan.role(device);
            prop_assert!(ordinal < plan.count(kind));
            prop_assert_eq!(plan.device(kind, ordinal), device);
        }

        #[test]
        fn a_cabinet_feeds_the_lamps_that_belong_to_it(lamp in 0..49_000_u32) {
            let plan = plan(Preset::Aarhus);
            let cabinet = plan.partner(SimulatedKind::Luminaire, lamp, SimulatedKind::Cabinet).unwrap();
            prop_assert!(plan.partners(SimulatedKind::Cabinet, cabinet, SimulatedKind::Luminaire).contains(&lamp));
        }
    }
}
