//! The figures of the files, with their columns' own names.
use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Content, Figure, Figures, Means};
use crate::calendar::{DayType, LocalTime};
use crate::replay::ReplayError;
use crate::replay::files::{GARAGES, ParkingRow, TRAFFIC, TrafficRow, read, utc};

const BINS: &str = "uk_bin_collections.csv";
const SESSIONS: &str = "no_ev_sessions.csv";
const PRICES: &str = "dk_energy_hourly.csv";
const WATER: &str = "it_water_flow_hourly.csv";
/// The bins' sensors call four fifths of the volume full.
const FULL_SHARE: f64 = 0.8;

#[derive(Deserialize)]
struct BinRow {
    #[serde(deserialize_with = "local")]
    collected_local: DateTime,
    site_id: String,
    fill_before_pct: Option<f64>,
}

#[derive(Deserialize)]
struct SessionRow {
    #[serde(deserialize_with = "local")]
    plug_in_local: DateTime,
    energy_kwh: Option<f64>,
    duration_h: Option<f64>,
}

#[derive(Deserialize)]
struct PriceRow {
    #[serde(deserialize_with = "utc")]
    ts_utc: Timestamp,
    area: String,
    price_eur_mwh: f64,
}

#[derive(Deserialize)]
struct WaterRow {
    ts: String,
    flow_l_s: f64,
}

/// Flow by hour on Mondays to Thursdays, Fridays, Saturdays and Sundays, as multiples of each segment's mean.
pub(super) fn traffic(dir: &Path) -> Result<Figures, ReplayError> {
    let rows = read::<TrafficRow>(dir, TRAFFIC)?;
    let mut segments: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for row in &rows {
        let (sum, count) = segments.entry(row.report_id).or_default();
        *sum += row.vehicle_count;
        *count += 1.0;
    }
    let mut days: [Means; 4] = Default::default();
    for row in &rows {
        let local = LocalTime::of(row.ts_utc);
        let (sum, count) = segments[&row.report_id];
        if sum > 0.0 {
            days[local.day_type as usize].add(local.hour, row.vehicle_count / (sum / count));
        }
    }
    Ok(Figures { file: TRAFFIC, figures: traffic_figures(days) })
}

pub(super) fn traffic_figures(days: [Means; 4]) -> Vec<Figure> {
    let titles = ["Traffic, Monday to Thursday", "Traffic, Friday", "Traffic, Saturday", "Traffic, Sunday"];
    let figure = |(title, means)| Figure { title, unit: "of the mean", content: Content::Hours(means) };
    titles.into_iter().zip(days).map(figure).collect()
}

/// Occupied share by hour. The files' time has no zone and is taken as it stands.
pub(super) fn garages(dir: &Path) -> Result<Figures, ReplayError> {
    let mut days: [Means; 3] = Default::default();
    for row in read::<ParkingRow>(dir, GARAGES)? {
        // The reader takes it for UTC; so what it reads is the local time.
        let second = row.update_time.as_second();
        let local = LocalTime::of(row.update_time);
        let hour = second.rem_euclid(86_400) as f64 / 3_600.0;
        days[garage_day(local.day_type)].add(hour, row.vehicle_count / row.total_spaces.max(1.0));
    }
    Ok(Figures { file: GARAGES, figures: garage_figures(days) })
}

pub(super) fn garage_day(day_type: DayType) -> usize {
    match day_type {
        DayType::MondayToThursday | DayType::Friday => 0,
        DayType::Saturday => 1,
        DayType::Sunday => 2,
    }
}

pub(super) fn garage_figures(days: [Means; 3]) -> Vec<Figure> {
    let titles = ["Garages, workday", "Garages, Saturday", "Garages, Sunday"];
    let figure = |(title, means)| Figure { title, unit: "share occupied", content: Content::Hours(means) };
    titles.into_iter().zip(days).map(figure).collect()
}

/// Filling when a bin is emptied, as a share of the volume, and days between.
pub(super) fn bins(dir: &Path) -> Result<Figures, ReplayError> {
    let (mut fillings, mut gaps) = (Vec::new(), Vec::new());
    let mut last: BTreeMap<String, DateTime> = BTreeMap::new();
    let mut rows = read::<BinRow>(dir, BINS)?;
    rows.sort_by_key(|row| row.collected_local);
    for row in rows {
        fillings.extend(row.fill_before_pct.map(|percent| percent / 100.0 * FULL_SHARE));
        if let Some(before) = last.insert(row.site_id, row.collected_local) {
            gaps.push(row.collected_local.duration_since(before).as_secs_f64() / 86_400.0);
        }
    }
    Ok(Figures { file: BINS, figures: bin_figures(fillings, gaps) })
}

pub(super) fn bin_figures(fillings: Vec<f64>, gaps: Vec<f64>) -> Vec<Figure> {
    vec![
        Figure { title: "Filling at emptying", unit: "share of the volume", content: Content::Values(fillings) },
        Figure { title: "Days between emptyings", unit: "days", content: Content::Values(gaps) },
    ]
}

pub(super) fn sessions(dir: &Path) -> Result<Figures, ReplayError> {
    let mut arrivals = Means::default();
    let (mut energies, mut durations) = (Vec::new(), Vec::new());
    for row in read::<SessionRow>(dir, SESSIONS)? {
        arrivals.add(f64::from(row.plug_in_local.hour()), 1.0);
        energies.extend(row.energy_kwh);
        durations.extend(row.duration_h);
    }
    Ok(Figures { file: SESSIONS, figures: session_figures(arrivals, energies, durations) })
}

pub(super) fn session_figures(arrivals: Means, energies: Vec<f64>, durations: Vec<f64>) -> Vec<Figure> {
    vec![
        Figure { title: "Arrivals of electric cars", unit: "share of all", content: Content::HourShares(arrivals) },
        Figure { title: "Energy of a charging session", unit: "kWh", content: Content::Values(energies) },
        Figure { title: "Time that a car is connected", unit: "hours", content: Content::Values(durations) },
    ]
}

/// Of western Denmark.
pub(super) fn prices(dir: &Path) -> Result<Figures, ReplayError> {
    let rows = read::<PriceRow>(dir, PRICES)?;
    let prices = rows.into_iter().filter(|row| row.area == "DK1").map(|row| (row.ts_utc, row.price_eur_mwh));
    Ok(Figures { file: PRICES, figures: price_figures(prices) })
}

pub(super) fn price_figures(prices: impl Iterator<Item = (Timestamp, f64)>) -> Vec<Figure> {
    let (mut summer, mut winter, mut all) = (Means::default(), Means::default(), Vec::new());
    for (moment, price) in prices {
        let local = LocalTime::of(moment);
        let season = if (91..274).contains(&local.day_of_year) { &mut summer } else { &mut winter };
        season.add(local.hour, price);
        all.push(price);
    }
    vec![
        Figure { title: "Price, April to September", unit: "EUR/MWh", content: Content::Hours(summer) },
        Figure { title: "Price, October to March", unit: "EUR/MWh", content: Content::Hours(winter) },
        Figure { title: "Price, all hours", unit: "EUR/MWh", content: Content::Values(all) },
    ]
}

/// Flow of a main by hour, as multiples of its mean.
pub(super) fn water(dir: &Path) -> Result<Figures, ReplayError> {
    let mut hours = Means::default();
    for row in read::<WaterRow>(dir, WATER)? {
        // `2022-03-20T11:00:00+01:00`: what stands before the offset is the local time.
        let local: Option<DateTime> = row.ts.get(..19).and_then(|text| text.parse().ok());
        if let Some(hour) = local.and_then(|local| local.to_zoned(TimeZone::UTC).ok()).map(|moment| moment.hour()) {
            hours.add(f64::from(hour), row.flow_l_s);
        }
    }
    Ok(Figures { file: WATER, figures: water_figures(hours) })
}

pub(super) fn water_figures(hours: Means) -> Vec<Figure> {
    vec![Figure { title: "Flow of a water main", unit: "of the mean", content: Content::Hours(hours.normalized()) }]
}

/// A date and time without zone.
fn local<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
