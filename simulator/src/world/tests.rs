//! Same seed, same trace; every kind reports; memory.
use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::order::{LEVEL_ARGUMENT, SET_LEVEL};
use crate::signal::Value;

fn start() -> Timestamp {
    "2025-03-03T00:00:00Z".parse().unwrap()
}

fn options(dials: Dials) -> CityOptions {
    CityOptions { seed: 7, preset: Preset::Village, devices: Some(250), dials, scenario: None }
}

/// Dials under which everything that can happen happens within an hour.
fn wild() -> Dials {
    Dials {
        late: 0.1,
        duplicates: 0.1,
        outages: 2.0,
        stuck: 0.2,
        out_of_range: 0.1,
        wrong_unit: 0.1,
        poison: 0.05,
        ..Dials::default()
    }
}

/// The trace of an hour and more, stepped at these distances in milliseconds, with an order every so often.
fn trace(seed: u64, steps_ms: &[i64]) -> Vec<TimedReading> {
    let mut world = World::city(&CityOptions { seed, ..options(wild()) }, start());
    let (mut readings, mut at, end) = (Vec::new(), start(), start() + SignedDuration::from_mins(70));
    let mut ordered = start() + SignedDuration::from_mins(20);
    for step_ms in steps_ms.iter().cycle() {
        let next = (at + SignedDuration::from_millis(*step_ms)).min(end);
        while ordered <= next {
            world.step(ordered, &mut readings);
            let arguments = BTreeMap::from([(LEVEL_ARGUMENT.to_owned(), Argument::Number(30.0))]);
            let order = Order { action: SET_LEVEL.to_owned(), arguments };
            world.execute(DeviceIndex(3), &order, ordered, &mut readings).unwrap();
            ordered += SignedDuration::from_mins(15);
        }
        world.step(next, &mut readings);
        at = next;
        if at == end {
            break;
        }
    }
    readings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_trace_does_not_depend_on_the_steps(steps_ms in prop::collection::vec(1_000..900_000_i64, 1..8), seed in 0..100_u64) {
        prop_assert_eq!(trace(seed, &[70 * 60_000]), trace(seed, &steps_ms));
    }
}

#[test]
fn one_seed_is_one_city_with_one_trace() {
    assert_eq!(trace(7, &[60_000]), trace(7, &[60_000]));
    assert_ne!(trace(7, &[60_000]), trace(8, &[60_000]));
}

#[test]
fn a_city_goes_on_from_any_moment_as_if_it_had_run_before() {
    let run = |from: Timestamp| {
        let mut readings = Vec::new();
        World::city(&options(Dials::none()), from).step(start() + SignedDuration::from_hours(9), &mut readings);
        readings
    };
    let middle = start() + SignedDuration::from_mins(317);
    let expected: Vec<_> = run(start()).into_iter().filter(|reading| reading.observed >= middle).collect();
    let (rest, close) = (run(middle), |one: Value, other: Value| match (one, other) {
        // A charger adds up its energy at other moments.
        (Value::Number(one), Value::Number(other)) => (one - other).abs() < 0.011,
        (one, other) => one == other,
    });
    assert_eq!(rest.len(), expected.len());
    for (one, other) in rest.iter().zip(&expected) {
        let same = (one.observed, one.device, one.signal) == (other.observed, other.device, other.signal);
        assert!(same && close(one.value, other.value), "{one:?} {other:?}");
    }
}

#[test]
fn every_kind_reports_every_signal_within_a_day_and_within_its_range() {
    let mut world = World::city(&options(Dials::none()), start());
    let mut readings = Vec::new();
    world.step(start() + SignedDuration::from_hours(24), &mut readings);
    let seen: BTreeSet<Signal> = readings.iter().map(|reading| reading.signal).collect();
    // People report only when something is wrong.
    let regular = Signal::ALL.into_iter().filter(|signal| signal.kind() != SimulatedKind::CitizenReports);
    let missing: Vec<_> = regular.filter(|signal| !seen.contains(signal)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for reading in &readings {
        assert_ne!(reading.value, Value::Poison, "{reading:?}");
        assert_eq!(world.kind(reading.device), reading.signal.kind());
        if let (Some(number), Some((minimum, maximum))) = (reading.value.number(), reading.signal.range()) {
            assert!((minimum..=maximum).contains(&number), "{reading:?}");
        }
    }
    assert!(readings.is_sorted_by_key(|reading| reading.observed));
    let repeated = |pair: &[TimedReading]| pair[0].observed == pair[1].observed && pair[0].signal == pair[1].signal;
    assert!(!readings.windows(2).any(|pair| repeated(pair) && pair[0].device == pair[1].device));
}

#[test]
fn a_million_devices_take_no_memory_of_their_own() {
    let million = CityOptions { preset: Preset::Aarhus, devices: Some(1_000_000), ..options(Dials::default()) };
    let mut world = World::city(&million, start());
    assert_eq!((world.device_count(), world.devices().len()), (1_000_000, 1_000_000));
    let mut readings = Vec::new();
    world.step(start() + SignedDuration::from_secs(1), &mut readings);
    assert!(readings.len() > 500, "{}", readings.len());
}
