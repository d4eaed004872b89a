//! What the lighting service makes of traffic, daylight and time.

use std::collections::BTreeMap;

use kvarter_cluster::StateMachine;
use proptest::prelude::*;

use super::*;
use crate::state::ShardState;
use crate::value::Point;
use crate::{Catalog, SERVICE_STATE_BYTES_MAX};

const MINUTE_US: i64 = 60 * 1_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;

/// 2014-12-21 00:00 UTC: over Aarhus it is dark until 07:20 and from 15:00.
const MIDNIGHT_US: i64 = 1_419_120_000_000_000;

const LEVEL: AttributeNumber = AttributeNumber(1);
const FLOW: AttributeNumber = AttributeNumber(1);
const POWER: AttributeNumber = AttributeNumber(5);
const MINIMUM: AttributeNumber = AttributeNumber(6);

fn place(north_m: i32) -> Point {
    Point { latitude_e7: 561_567_000 + north_m * 90, longitude_e7: 102_108_000 }
}

/// A district whose log is made by hand.
struct District {
    state: ShardState,
    catalog: Catalog,
    index: LogIndex,
    time_us: i64,
    devices: u32,
}

impl District {
    fn new() -> Self {
        Self {
            state: ShardState::default(),
            catalog: Catalog::built_in(),
            index: LogIndex(0),
            time_us: 1_800_000_000_000_000,
            devices: 0,
        }
    }

    fn world(&self) -> World<'_> {
        World { state: &self.state, catalog: &self.catalog }
    }

    fn lighting(&self) -> Lighting {
        Lighting::begin("a", ServiceMode::Active, self.world())
    }

    fn entry(&mut self, facts: Vec<fact::Fact>) -> message::Facts {
        self.time_us += 1_000;
        let facts = facts.into_iter().map(|fact| message::Fact { fact: Some(fact) }).collect();
        let entry = message::Facts { format: 1, time_us: self.time_us, facts, traceparents: Vec::new() };
        self.index = LogIndex(self.index.0 + 1);
        self.state.apply(self.index, &entry);
        entry
    }

    fn register(&mut self, district: &str, kind: &str, place: Point) -> (DeviceNumber, message::Facts) {
        let device = DeviceNumber(self.devices);
        self.devices += 1;
        let entry = self.entry(vec![fact::Fact::DeviceRegistered(message::DeviceRegistered {
            device: device.0,
            name: format!("{district}/{kind}-{}", device.0),
            kind: kind.to_owned(),
            location: Some(place.into()),
            labels: BTreeMap::new(),
        })]);
        (device, entry)
    }

    fn lamp(&mut self, north_m: i32) -> DeviceNumber {
        self.register("a", LAMP_KIND, place(north_m)).0
    }

    fn sensor(&mut self, north_m: i32) -> DeviceNumber {
        self.register("a", SENSOR_KIND, place(north_m)).0
    }

    fn readings(&mut self, readings: &[(DeviceNumber, AttributeNumber, i64, f64)]) -> message::Facts {
        let mut columns = message::Readings::default();
        for (device, attribute, observed_us, value) in readings {
            columns.push(*device, *attribute, *observed_us, ValueRef::Number(*value));
        }
        let mark = vec![ReadingMark::new(true, false).0; readings.len()];
        self.entry(vec![fact::Fact::ReadingsReported(message::ReadingsReported { readings: Some(columns), mark })])
    }

    fn ended(&mut self, command: &ServiceCommand, state: CommandState) -> message::Facts {
        self.entry(vec![fact::Fact::CommandChanged(message::CommandChanged {
            device: command.device.0,
            id: command.id.as_str().to_owned(),
            state: state.to_message(),
            detail: String::new(),
        })])
    }

    /// Shows an entry to the service.
    fn show(&self, lighting: &mut Lighting, entry: &message::Facts) -> Vec<ServiceCommand> {
        lighting.take(self.index, entry, self.world()).commands
    }

    /// The flow at `sensor`, then every lamp obeys; returns what was ordered, by lamp.
    fn observe(
        &mut self,
        lighting: &mut Lighting,
        sensor: DeviceNumber,
        observed_us: i64,
        flow: f64,
    ) -> BTreeMap<DeviceNumber, u8> {
        let entry = self.readings(&[(sensor, FLOW, observed_us, flow)]);
        let commands = self.show(lighting, &entry);
        for command in &commands {
            let entry = self.ended(command, CommandState::Succeeded);
            assert!(self.show(lighting, &entry).is_empty());
        }
        commands.iter().map(|command| (command.device, level_of(command))).collect()
    }
}

fn level_of(command: &ServiceCommand) -> u8 {
    match command.arguments[0].value.as_ref().and_then(|value| value.kind.clone()) {
        Some(message::value::Kind::Number(level)) => Level::from_percent(level).percent(),
        other => panic!("{other:?}"),
    }
}

fn figure(lighting: &Lighting, name: &str) -> f64 {
    Lighting::figures(&lighting.encode()).unwrap().figures[name]
}

#[test]
fn a_lamp_follows_the_traffic_beside_it_at_night_and_is_off_by_day() {
    let mut district = District::new();
    let (lamp, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    let mut levels = Vec::new();
    // At 04:00 a rush, at 04:10 the road is empty and the light goes after it, at 06:00 it is quiet; then noon.
    for (minutes, flow) in [(240, 100.0), (250, 0.0), (360, 0.0), (365, 0.0), (720, 50.0)] {
        let ordered = district.observe(&mut lighting, sensor, MIDNIGHT_US + minutes * MINUTE_US, flow);
        levels.push(ordered.get(&lamp).copied());
    }
    assert_eq!(levels, [Some(100), Some(70), Some(30), None, Some(0)]);
}

#[test]
fn lamps_without_a_sensor_nearby_follow_the_district() {
    let mut district = District::new();
    let (lamp, near, _) = (district.lamp(0), district.sensor(2_000), district.sensor(3_000));
    let mut lighting = district.lighting();
    district.observe(&mut lighting, near, MIDNIGHT_US, 100.0);
    let ordered = district.observe(&mut lighting, near, MIDNIGHT_US + 10 * MINUTE_US, 0.0);
    assert_eq!(ordered[&lamp], 70, "half of the way to no traffic");
}

#[test]
fn silence_of_the_sensors_means_full_light() {
    let mut district = District::new();
    let (lamp, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    district.observe(&mut lighting, sensor, MIDNIGHT_US, 100.0);
    assert_eq!(district.observe(&mut lighting, sensor, MIDNIGHT_US + HOUR_US, 0.0)[&lamp], 30);
    // Only the lamp itself is heard of for the next 20 minutes.
    let entry = district.readings(&[(lamp, LEVEL, MIDNIGHT_US + HOUR_US + 20 * MINUTE_US, 30.0)]);
    let commands = district.show(&mut lighting, &entry);
    assert_eq!(commands.iter().map(level_of).collect::<Vec<_>>(), [100]);
}

#[test]
fn a_lamp_has_one_order_at_a_time_and_silent_ones_are_left_alone() {
    let mut district = District::new();
    let (_, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    let entry = district.readings(&[(sensor, FLOW, MIDNIGHT_US, 100.0)]);
    let first = district.show(&mut lighting, &entry);
    assert_eq!(first.len(), 1);
    let entry = district.readings(&[(sensor, FLOW, MIDNIGHT_US + 5 * MINUTE_US, 0.0)]);
    assert!(district.show(&mut lighting, &entry).is_empty(), "the first order is open");
    let entry = district.ended(&first[0], CommandState::Expired);
    assert!(district.show(&mut lighting, &entry).is_empty());
    let entry = district.readings(&[(sensor, FLOW, MIDNIGHT_US + 10 * MINUTE_US, 0.0)]);
    assert!(district.show(&mut lighting, &entry).is_empty(), "it cools down");
    district.time_us += 301_000_000;
    let entry = district.readings(&[(sensor, FLOW, MIDNIGHT_US + 15 * MINUTE_US, 0.0)]);
    assert_eq!(district.show(&mut lighting, &entry).len(), 1);
}

#[test]
fn in_mode_observe_nothing_is_ordered_and_energy_is_counted() {
    let mut district = District::new();
    let (lamp, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    let entry = district.entry(vec![fact::Fact::ServiceModeSet(message::ServiceModeSet {
        service: "a/lighting".to_owned(),
        mode: ServiceMode::Observe.to_message(),
    })]);
    district.show(&mut lighting, &entry);
    let entry = district.readings(&[(lamp, POWER, MIDNIGHT_US, 100.0), (lamp, LEVEL, MIDNIGHT_US, 50.0)]);
    district.show(&mut lighting, &entry);
    for minute in 0..=60 {
        assert!(district.observe(&mut lighting, sensor, MIDNIGHT_US + minute * MINUTE_US, 1.0).is_empty());
    }
    assert!((figure(&lighting, "energy_used_kwh") - 0.05).abs() < 1e-9);
    assert!((figure(&lighting, "energy_baseline_kwh") - 0.1).abs() < 1e-9);
    assert!((figure(&lighting, "energy_saved_kwh") - 0.05).abs() < 1e-9);
}

#[test]
fn devices_of_other_districts_and_retired_ones_are_none_of_it() {
    let mut district = District::new();
    let mut lighting = district.lighting();
    let (_, entry) = district.register("b", LAMP_KIND, place(0));
    district.show(&mut lighting, &entry);
    let (mine, entry) = district.register("a", LAMP_KIND, place(0));
    district.show(&mut lighting, &entry);
    assert!((figure(&lighting, "lamps") - 1.0).abs() < 1e-9);
    let entry = district.entry(vec![fact::Fact::DeviceRetired(message::DeviceRetired { device: mine.0 })]);
    district.show(&mut lighting, &entry);
    assert!(figure(&lighting, "lamps").abs() < 1e-9);
}

#[test]
fn a_gap_keeps_the_energy_and_is_counted() {
    let mut district = District::new();
    let (lamp, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    for minute in 0..=60 {
        district.observe(&mut lighting, sensor, MIDNIGHT_US + minute * MINUTE_US, 1.0);
    }
    let before = figure(&lighting, "energy_baseline_kwh");
    district.readings(&[(lamp, LEVEL, MIDNIGHT_US + 2 * HOUR_US, 70.0)]);
    lighting.reread(ServiceMode::Observe, district.world());
    assert_eq!(lighting.mode, ServiceMode::Observe);
    assert!((figure(&lighting, "energy_baseline_kwh") - before).abs() < 1e-12 && before > 0.0);
    assert!((figure(&lighting, "gaps") - 1.0).abs() < 1e-9);
    assert_eq!(lighting.lamps.iter().next().unwrap().1.level, Some(Level::from_percent(70.0)));
}

#[test]
fn a_replay_that_begins_again_turns_time_back() {
    let mut district = District::new();
    let (_, sensor) = (district.lamp(0), district.sensor(100));
    let mut lighting = district.lighting();
    district.observe(&mut lighting, sensor, MIDNIGHT_US + 48 * HOUR_US, 10.0);
    district.observe(&mut lighting, sensor, MIDNIGHT_US, 10.0);
    assert_eq!(lighting.ticked_us, MIDNIGHT_US);
}

#[test]
fn the_state_of_a_full_district_stays_below_its_bound() {
    let mut district = District::new();
    let mut lighting = district.lighting();
    // Numbers as far apart as in a shard of many districts.
    for number in 0..LAMPS_MAX + 10 {
        let mut lamp = Lamp::new(None, &BTreeMap::new());
        lamp.rate(400.0);
        lighting.lamps.insert(DeviceNumber(u32::try_from(number * 200).unwrap()), lamp);
    }
    for number in 0..SENSORS_MAX {
        let mut sensor = Sensor::silent(None);
        sensor.observe(17.0, MIDNIGHT_US + i64::try_from(number * 977_777_777 % 3_600_000_000).unwrap());
        lighting.sensors.insert(DeviceNumber(u32::try_from(number * 3_000 + 1).unwrap()), sensor);
    }
    for number in 0..orders::OPEN_MAX {
        let time_us = MIDNIGHT_US + i64::try_from(number).unwrap() * 100_000;
        lighting.orders.order(DeviceNumber(u32::try_from(number * 400).unwrap()), Level::FULL, time_us);
        lighting.orders.cool_down(DeviceNumber(u32::try_from(number * 400 + 200).unwrap()), time_us);
    }
    let bytes = lighting.encode().len();
    assert!(bytes < SERVICE_STATE_BYTES_MAX, "{bytes}");
    assert!((figure(&lighting, "lamps_left_out") - 10.0).abs() < 1e-9);
    district.time_us += 1;
}

#[derive(Clone, Debug)]
enum Turn {
    Flow { sensor: usize, minutes: i64, flow: u16 },
    Level { lamp: usize, level: u8 },
    Minimum { lamp: usize, minimum: u8 },
    End { is_success: bool },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        6 => (0usize..2, 0i64..9, 0u16..200).prop_map(|(sensor, minutes, flow)| Turn::Flow { sensor, minutes, flow }),
        1 => (0usize..3, 0u8..=100).prop_map(|(lamp, level)| Turn::Level { lamp, level }),
        1 => (0usize..3, 0u8..=100).prop_map(|(lamp, minimum)| Turn::Minimum { lamp, minimum }),
        4 => any::<bool>().prop_map(|is_success| Turn::End { is_success }),
    ];
    prop::collection::vec(turn, 1..80)
}

/// Plays `turns` into a service, which is restored from its bytes after each entry when it `crashes`.
fn play(turns: &[Turn], crashes: bool) -> (Vec<ServiceCommand>, Bytes) {
    let mut district = District::new();
    let lamps = [district.lamp(0), district.lamp(50), district.lamp(900)];
    let sensors = [district.sensor(100), district.sensor(200)];
    let mut lighting = district.lighting();
    let (mut ordered, mut open) = (Vec::new(), Vec::new());
    let mut now_us = MIDNIGHT_US;
    for turn in turns {
        let entry = match turn {
            Turn::Flow { sensor, minutes, flow } => {
                now_us += minutes * MINUTE_US;
                district.readings(&[(sensors[*sensor], FLOW, now_us, f64::from(*flow))])
            }
            Turn::Level { lamp, level } => district.readings(&[(lamps[*lamp], LEVEL, now_us, f64::from(*level))]),
            Turn::Minimum { lamp, minimum } => {
                district.readings(&[(lamps[*lamp], MINIMUM, now_us, f64::from(*minimum))])
            }
            Turn::End { is_success } => {
                let Some(command) = open.pop() else { continue };
                let state = if *is_success { CommandState::Succeeded } else { CommandState::Failed };
                district.ended(&command, state)
            }
        };
        let commands = district.show(&mut lighting, &entry);
        open.extend(commands.iter().cloned());
        ordered.extend(commands);
        if crashes {
            lighting = Lighting::restore("a", &lighting.encode(), district.world()).unwrap();
        }
    }
    (ordered, lighting.encode())
}

proptest! {
    #[test]
    fn a_crash_after_any_entry_changes_nothing(turns in turns()) {
        let (steady, crashing) = (play(&turns, false), play(&turns, true));
        prop_assert_eq!(steady.1, crashing.1);
        let summary = |commands: &[ServiceCommand]| -> Vec<_> {
            commands.iter().map(|command| (command.id.clone(), command.device, level_of(command))).collect()
        };
        prop_assert_eq!(summary(&steady.0), summary(&crashing.0));
    }

    /// Lamps that obey at once never give less than their minimum in the dark, and never use more than always on.
    #[test]
    fn obeyed_lighting_is_safe_and_saves(flows in prop::collection::vec((1i64..20, 0u16..200), 2..150), minimum in 0u8..=100) {
        let mut district = District::new();
        let (lamp, sensor) = (district.lamp(0), district.sensor(100));
        let mut lighting = district.lighting();
        let entry = district.readings(&[(lamp, MINIMUM, MIDNIGHT_US, f64::from(minimum))]);
        for command in district.show(&mut lighting, &entry) {
            let entry = district.ended(&command, CommandState::Succeeded);
            district.show(&mut lighting, &entry);
        }
        let mut now_us = MIDNIGHT_US;
        for (minutes, flow) in flows {
            now_us += minutes * MINUTE_US;
            district.observe(&mut lighting, sensor, now_us, f64::from(flow));
            let is_dark = level::is_dark(Sun::at(Timestamp(lighting.ticked_us)).elevation_deg(place(0)));
            let level = lighting.lamps.iter().next().unwrap().1.level;
            if is_dark {
                prop_assert!(level >= Some(Level::from_percent(f64::from(minimum))));
            } else {
                prop_assert_eq!(level, Some(Level::OFF));
            }
        }
        prop_assert!(figure(&lighting, "energy_used_kwh") <= figure(&lighting, "energy_baseline_kwh") + 1e-9);
    }

    #[test]
    fn hostile_bytes_are_no_state(bytes: Vec<u8>) {
        let district = District::new();
        // Neither panics; what decodes by chance can be encoded again.
        if let Ok(lighting) = Lighting::restore("a", &bytes, district.world()) {
            lighting.encode();
        }
    }
}
