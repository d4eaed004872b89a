//! Real readings of Aarhus, played again: road segments every five minutes and garages every half hour.
//!
//! Each file is played in its own order and the two are merged by time. Observation times are those of the files: UTC for
//! traffic; parking names no zone and is taken as UTC too. `files` reads the rows, `tally` foretells the outcomes.
pub(crate) mod files;
mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::device::{DeviceIndex, SimulatedDevice};
use crate::signal::{Signal, SimulatedKind, TimedReading, Value};
use crate::street::Street;
use files::{GARAGES, ParkingRow, SEGMENTS, SegmentRow, TRAFFIC, TrafficRow};
pub use tally::FileTally;

/// District of segments whose postal code the file leaves blank.
const DISTRICT_UNKNOWN: &str = "aarhus-unknown";
/// District of the garages: all eight stand in the city centre, and the file has no addresses.
const DISTRICT_CENTRE: &str = "aarhus-8000";

/// A span of observation times, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaySpan {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl ReplaySpan {
    /// From the beginning of `first` to the end of `last`, days of UTC; `None` when `last` is before `first` or the calendar ends.
    pub fn days(first: Date, last: Date) -> Option<Self> {
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).ok().map(|moment| moment.timestamp());
        let span = Self { from: midnight(first)?, to: midnight(last.tomorrow().ok()?)? };
        (first <= last).then_some(span)
    }

    fn holds(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// Text that names no day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a day such as 2014-09-02")]
pub struct NotADay {
    text: String,
}

impl FromStr for ReplaySpan {
    type Err = NotADay;

    /// One day of UTC.
    fn from_str(text: &str) -> Result<Self, NotADay> {
        let day = text.parse().ok().and_then(|day: Date| Self::days(day, day));
        day.ok_or_else(|| NotADay { text: text.to_owned() })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// `source` names the line.
    #[error("can not read {}", file.display())]
    Unreadable { file: PathBuf, source: csv::Error },
    #[error("{}: segment {segment} of {TRAFFIC} is not listed", file.display())]
    SegmentMissing { file: PathBuf, segment: u64 },
    #[error("no reading of {} lies in the chosen span", dir.display())]
    NothingInSpan { dir: PathBuf },
}

/// Readings that are still to be played.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    rows: VecDeque<TimedReading>,
    span: ReplaySpan,
    tallies: Vec<FileTally>,
}

impl Replay {
    /// Reads the three files of `dir` and keeps the readings of `span`, by default all those of the traffic file's days.
    pub(crate) fn load(dir: &Path, span: Option<ReplaySpan>) -> Result<(Self, Vec<SimulatedDevice>), ReplayError> {
        let traffic = files::read::<TrafficRow>(dir, TRAFFIC)?;
        let parking = files::read::<ParkingRow>(dir, GARAGES)?;
        let nothing = || ReplayError::NothingInSpan { dir: dir.to_owned() };
        let span = span.or_else(|| span_of(&traffic)).ok_or_else(nothing)?;

        let mut devices = Devices::default();
        devices.add_segments(dir, &traffic)?;
        devices.add_garages(&parking);

        let traffic_readings = devices.traffic_readings(traffic.iter().filter(|row| span.holds(row.ts_utc)));
        let parking_readings = devices.parking_readings(parking.iter().filter(|row| span.holds(row.update_time)));
        if traffic_readings.is_empty() && parking_readings.is_empty() {
            return Err(nothing());
        }
        let tallies = vec![FileTally::of(TRAFFIC, 3, &traffic_readings), FileTally::of(GARAGES, 2, &parking_readings)];
        let rows = merged(traffic_readings, parking_readings);
        Ok((Self { rows, span, tallies }, devices.devices))
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.rows.front().map_or(self.span.from, |first| first.observed)
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.rows.front().map(|reading| reading.observed)
    }

    pub(crate) fn measure_next(&mut self, readings: &mut Vec<TimedReading>) {
        readings.extend(self.rows.pop_front());
    }

    pub(crate) fn tallies(&self) -> &[FileTally] {
        &self.tallies
    }
}

/// The devices of a replay, and where the rows find theirs.
#[derive(Default)]
struct Devices {
    devices: Vec<SimulatedDevice>,
    segments: BTreeMap<u64, DeviceIndex>,
    garages: BTreeMap<String, DeviceIndex>,
}

impl Devices {
    /// Sensors and lamps of the segments that the traffic file reports on, in the order of the segments' file.
    fn add_segments(&mut self, dir: &Path, traffic: &[TrafficRow]) -> Result<(), ReplayError> {
        let mut wanted: BTreeMap<u64, bool> = traffic.iter().map(|row| (row.report_id, false)).collect();
        for row in files::read::<SegmentRow>(dir, SEGMENTS)? {
            let Some(found) = wanted.get_mut(&row.report_id) else { continue };
            *found = true;
            self.add_segment(&row);
        }
        match wanted.into_iter().find(|(_, found)| !found) {
            Some((segment, _)) => Err(ReplayError::SegmentMissing { file: dir.join(SEGMENTS), segment }),
            None => Ok(()),
        }
    }

    fn add_segment(&mut self, row: &SegmentRow) {
        let district = if row.postal_code.is_empty() {
            DISTRICT_UNKNOWN.to_owned()
        } else {
            format!("aarhus-{}", row.postal_code)
        };
        let id = row.report_id.to_string();
        let street = Street {
            district: &district,
            id: &id,
            from: row.from(),
            to: row.to(),
            length_m: row.distance_m,
            street: &row.street1,
            road_type: &row.road_type,
        };
        let sensor = self.add(street.sensor());
        self.segments.insert(row.report_id, sensor);
        for lamp in street.lamps() {
            self.add(lamp);
        }
    }

    fn add_garages(&mut self, parking: &[ParkingRow]) {
        for row in parking {
            if !self.garages.contains_key(&row.garage_code) {
                let name = format!("g-{}", row.garage_code.to_lowercase());
                let garage = SimulatedDevice::new(DISTRICT_CENTRE, &name, SimulatedKind::Garage, None);
                let index = self.add(garage.labelled("garage_code", &row.garage_code));
                self.garages.insert(row.garage_code.clone(), index);
            }
        }
    }

    fn add(&mut self, device: SimulatedDevice) -> DeviceIndex {
        let index = DeviceIndex(u32::try_from(self.devices.len()).expect("a city has fewer devices than 2^32"));
        self.devices.push(device);
        index
    }

    fn traffic_readings<'a>(&self, rows: impl Iterator<Item = &'a TrafficRow>) -> Vec<TimedReading> {
        let of_row = |row: &TrafficRow| {
            let (observed, device) = (row.ts_utc, self.segments[&row.report_id]);
            [
                (Signal::FlowIntensity, row.vehicle_count),
                (Signal::FlowSpeed, row.avg_speed_kmh),
                (Signal::FlowTravelTime, row.median_travel_s),
            ]
            .map(|(signal, number)| TimedReading {
                observed,
                device,
                signal,
                value: Value::Number(number),
            })
        };
        rows.flat_map(of_row).collect()
    }

    fn parking_readings<'a>(&self, rows: impl Iterator<Item = &'a ParkingRow>) -> Vec<TimedReading> {
        let of_row = |row: &ParkingRow| {
            let (observed, device) = (row.update_time, self.garages[&row.garage_code]);
            [(Signal::GarageOccupied, row.vehicle_count), (Signal::GarageSpots, row.total_spaces)]
                .map(|(signal, number)| TimedReading { observed, device, signal, value: Value::Number(number) })
        };
        rows.flat_map(of_row).collect()
    }
}

/// From the first to behind the last time of the traffic file.
fn span_of(traffic: &[TrafficRow]) -> Option<ReplaySpan> {
    let from = traffic.iter().map(|row| row.ts_utc).min()?;
    let last = traffic.iter().map(|row| row.ts_utc).max()?;
    Some(ReplaySpan { from, to: last + jiff::SignedDuration::from_secs(1) })
}

/// Both in their own order; of two that wait, the older one is first.
fn merged(left: Vec<TimedReading>, right: Vec<TimedReading>) -> VecDeque<TimedReading> {
    let mut rows = VecDeque::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let older = if b.observed < a.observed { right.next() } else { left.next() };
        rows.extend(older);
    }
    rows.extend(left);
    rows.extend(right);
    rows
}

#[cfg(test)]
mod tests;
