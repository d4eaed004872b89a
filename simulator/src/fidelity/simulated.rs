//! The same figures from the reports of simulated devices.
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::measured::{
    bin_figures, garage_day, garage_figures, price_figures, session_figures, traffic_figures, water_figures,
};
use super::{Figures, Means};
use crate::calendar::LocalTime;
use crate::causes::Sky;
use crate::city::City;
use crate::city::plan::Plan;
use crate::device::DeviceIndex;
use crate::dials::Dials;
use crate::preset::{Counts, Preset};
use crate::signal::{Signal, SimulatedKind, TimedReading};

/// Devices of a kind; enough that chance hardly shows.
const SENSORS: u32 = 60;
const BINS: u32 = 150;
const CHARGERS: u32 = 97;
/// More of a bin than this is gone from one report to the next: it was emptied.
const EMPTIED_FALL: f64 = 0.05;

pub(super) fn traffic(seed: u64, days: u32) -> Figures {
    let mut of_days: [Means; 4] = Default::default();
    let mut of_segment: BTreeMap<DeviceIndex, Vec<(LocalTime, f64)>> = BTreeMap::new();
    run(
        seed,
        SimulatedKind::TrafficFlowSensor,
        SENSORS,
        ("2025-09-01T00:00:00Z", days),
        &[Signal::FlowIntensity],
        |reading, count| {
            of_segment.entry(reading.device).or_default().push((LocalTime::of(reading.observed), count));
        },
    );
    for counts in of_segment.values() {
        let mean = counts.iter().map(|(_, count)| count).sum::<f64>() / counts.len() as f64;
        for (local, count) in counts {
            of_days[local.day_type as usize].add(local.hour, count / mean.max(f64::MIN_POSITIVE));
        }
    }
    Figures { file: "", figures: traffic_figures(of_days) }
}

pub(super) fn garages(seed: u64, days: u32) -> Figures {
    let mut of_days: [Means; 3] = Default::default();
    let mut spots: BTreeMap<DeviceIndex, f64> = BTreeMap::new();
    let signals = [Signal::GarageOccupied, Signal::GarageSpots];
    run(seed, SimulatedKind::Garage, 8, ("2025-05-22T00:00:00Z", days), &signals, |reading, value| {
        if reading.signal == Signal::GarageSpots {
            spots.insert(reading.device, value);
        } else if let Some(spots) = spots.get(&reading.device) {
            let local = LocalTime::of(reading.observed);
            of_days[garage_day(local.day_type)].add(local.hour, value / spots);
        }
    });
    Figures { file: "", figures: garage_figures(of_days) }
}

pub(super) fn bins(seed: u64, days: u32) -> Figures {
    let (mut fillings, mut gaps) = (Vec::new(), Vec::new());
    let mut last: BTreeMap<DeviceIndex, (f64, Option<Timestamp>)> = BTreeMap::new();
    run(
        seed,
        SimulatedKind::WasteContainer,
        BINS,
        ("2025-06-03T00:00:00Z", days),
        &[Signal::BinFilling],
        |reading, filling| {
            let (before, emptied) = last.entry(reading.device).or_insert((filling, None));
            if filling < *before - EMPTIED_FALL {
                fillings.push(*before);
                gaps.extend(emptied.map(|emptied| reading.observed.duration_since(emptied).as_secs_f64() / 86_400.0));
                *emptied = Some(reading.observed);
            }
            *before = filling;
        },
    );
    // The measured sensors can not tell more than full.
    let fillings = fillings.into_iter().map(|filling| filling.min(0.8)).collect();
    Figures { file: "", figures: bin_figures(fillings, gaps) }
}

pub(super) fn sessions(seed: u64, days: u32) -> Figures {
    let mut arrivals = Means::default();
    let (mut energies, mut durations) = (Vec::new(), Vec::new());
    let idle = Signal::ChargerState.choice("Idle");
    /// A charger as it was last seen.
    #[derive(Default)]
    struct Seen {
        register_kwh: f64,
        /// When the car came and what the register said.
        since: Option<(Timestamp, f64)>,
        was_idle: bool,
    }
    let mut chargers: BTreeMap<DeviceIndex, Seen> = BTreeMap::new();
    let signals = [Signal::ChargerEnergy, Signal::ChargerState];
    let mut readings = Vec::new();
    let mut city = city(seed, SimulatedKind::EvCharger, CHARGERS, "2025-03-01T00:00:00Z", &signals);
    let end = moment("2025-03-01T00:00:00Z") + SignedDuration::from_hours(24 * i64::from(days));
    while city.next_due().is_some_and(|due| due < end) {
        city.report_next(&mut readings);
        for reading in readings.drain(..) {
            let seen = chargers.entry(reading.device).or_default();
            if let Some(register_kwh) = reading.value.number() {
                seen.register_kwh = register_kwh;
                continue;
            }
            let is_idle = Some(reading.value) == idle;
            match seen.since {
                None if !is_idle && seen.was_idle => {
                    arrivals.add(LocalTime::of(reading.observed).hour, 1.0);
                    seen.since = Some((reading.observed, seen.register_kwh));
                }
                Some((since, register_kwh)) if is_idle => {
                    energies.push(seen.register_kwh - register_kwh);
                    durations.push(reading.observed.duration_since(since).as_secs_f64() / 3_600.0);
                    seen.since = None;
                }
                None | Some(_) => {}
            }
            seen.was_idle = is_idle;
        }
    }
    Figures { file: "", figures: session_figures(arrivals, energies, durations) }
}

pub(super) fn prices(seed: u64) -> Figures {
    let first = moment("2025-08-01T00:00:00Z");
    let hours = (0..365 * 24).map(|hour| first + SignedDuration::from_hours(hour));
    let prices = hours.map(|hour| (hour, Sky::at(seed, Preset::Aarhus.centre(), hour).price));
    Figures { file: "", figures: price_figures(prices) }
}

pub(super) fn water(seed: u64, days: u32) -> Figures {
    let mut hours = Means::default();
    let mut last = None;
    // The first meter is that of a main.
    run(
        seed,
        SimulatedKind::WaterMeter,
        1,
        ("2025-03-20T00:00:00Z", days),
        &[Signal::WaterVolume],
        |reading, volume| {
            if let Some(before) = last.replace(volume) {
                // What flowed in the hour before.
                hours.add(LocalTime::of(reading.observed - SignedDuration::from_mins(30)).hour, volume - before);
            }
        },
    );
    Figures { file: "", figures: water_figures(hours) }
}

/// Gives all numbers that the devices of one kind report to `take`.
fn run(
    seed: u64,
    kind: SimulatedKind,
    devices: u32,
    (start, days): (&str, u32),
    signals: &[Signal],
    mut take: impl FnMut(&TimedReading, f64),
) {
    let mut city = city(seed, kind, devices, start, signals);
    let end = moment(start) + SignedDuration::from_hours(24 * i64::from(days));
    let mut readings = Vec::new();
    while city.next_due().is_some_and(|due| due < end) {
        city.report_next(&mut readings);
        for reading in readings.drain(..) {
            if let Some(number) = reading.value.number() {
                take(&reading, number);
            }
        }
    }
}

fn city(seed: u64, kind: SimulatedKind, devices: u32, start: &str, signals: &[Signal]) -> City {
    let plan = Plan::new("fidelity", seed, Preset::Aarhus.centre(), Counts::only(&[(kind, devices)]));
    City::new(seed, plan, moment(start), signals, Dials::none(), None)
}

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a moment of this file")
}
