//! The rows of the three files, with their columns' own names.
use std::borrow::Cow;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::ReplayError;
use crate::device::Place;

pub(super) const TRAFFIC: &str = "aarhus_traffic_5min.csv";
pub(super) const SEGMENTS: &str = "aarhus_traffic_sensors.csv";
pub(super) const GARAGES: &str = "aarhus_parking.csv";

/// Five minutes of one road segment.
#[derive(Debug, Deserialize)]
pub(super) struct TrafficRow {
    #[serde(deserialize_with = "utc")]
    pub(super) ts_utc: Timestamp,
    pub(super) report_id: u64,
    /// Bluetooth matches: a sample of the vehicles.
    pub(super) vehicle_count: f64,
    pub(super) avg_speed_kmh: f64,
    pub(super) median_travel_s: f64,
}

/// A road segment; the file has more columns, which are not used.
#[derive(Debug, Deserialize)]
pub(super) struct SegmentRow {
    pub(super) report_id: u64,
    lat1: f64,
    lon1: f64,
    lat2: f64,
    lon2: f64,
    pub(super) distance_m: f64,
    pub(super) road_type: String,
    /// Blank for some, as the postal code is.
    pub(super) street1: String,
    pub(super) postal_code: String,
}

impl SegmentRow {
    pub(super) fn from(&self) -> Place {
        Place { latitude: self.lat1, longitude: self.lon1 }
    }

    pub(super) fn to(&self) -> Place {
        Place { latitude: self.lat2, longitude: self.lon2 }
    }
}

/// A garage at one moment. More vehicles than spaces occur and are played as they stand.
#[derive(Debug, Deserialize)]
pub(super) struct ParkingRow {
    #[serde(deserialize_with = "utc")]
    pub(super) update_time: Timestamp,
    pub(super) garage_code: String,
    pub(super) vehicle_count: f64,
    pub(super) total_spaces: f64,
}

/// All rows of a file with a header line.
pub(super) fn read<Row: DeserializeOwned>(dir: &Path, name: &str) -> Result<Vec<Row>, ReplayError> {
    let file = dir.join(name);
    let rows = csv::Reader::from_path(&file).and_then(|mut reader| reader.deserialize().collect());
    rows.map_err(|source| ReplayError::Unreadable { file, source })
}

/// A moment in RFC 3339, or a date and time without zone, which is taken as UTC.
fn utc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let zoneless = || text.parse::<DateTime>()?.to_zoned(TimeZone::UTC);
    match text.parse() {
        Ok(moment) => Ok(moment),
        Err(_) => zoneless().map(|zoned| zoned.timestamp()).map_err(D::Error::custom),
    }
}
