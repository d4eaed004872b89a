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

pub(crate) const TRAFFIC: &str = "aarhus_traffic_5min.csv";
pub(crate) const SEGMENTS: &str = "aarhus_traffic_sensors.csv";
pub(crate) const GARAGES: &str = "aarhus_parking.csv";

/// Five minutes of one road segment.
#[derive(Debug, Deserialize)]
pub(crate) struct TrafficRow {
    #[serde(deserialize_with = "utc")]
    pub(crate) ts_utc: Timestamp,
    pub(crate) report_id: u64,
    /// Bluetooth matches: a sample of the vehicles.
    pub(crate) vehicle_count: f64,
    pub(crate) avg_speed_kmh: f64,
    pub(crate) median_travel_s: f64,
}

/// A road segment; the file has more columns, which are not used.
#[derive(Debug, Deserialize)]
pub(crate) struct SegmentRow {
    pub(crate) report_id: u64,
    lat1: f64,
    lon1: f64,
    lat2: f64,
    lon2: f64,
    pub(crate) distance_m: f64,
    pub(crate) road_type: String,
    /// Blank for some, as the postal code is.
    pub(crate) street1: String,
    pub(crate) postal_code: String,
}

impl SegmentRow {
    pub(crate) fn from(&self) -> Place {
        Place { latitude: self.lat1, longitude: self.lon1 }
    }

    pub(crate) fn to(&self) -> Place {
        Place { latitude: self.lat2, longitude: self.lon2 }
    }
}

/// A garage at one moment. More vehicles than spaces occur and are played as they stand.
#[derive(Debug, Deserialize)]
pub(crate) struct ParkingRow {
    #[serde(deserialize_with = "utc")]
    pub(crate) update_time: Timestamp,
    pub(crate) garage_code: String,
    pub(crate) vehicle_count: f64,
    pub(crate) total_spaces: f64,
}

/// All rows of a file with a header line.
pub(crate) fn read<Row: DeserializeOwned>(dir: &Path, name: &str) -> Result<Vec<Row>, ReplayError> {
    let file = dir.join(name);
    let rows = csv::Reader::from_path(&file).and_then(|mut reader| reader.deserialize().collect());
    rows.map_err(|source| ReplayError::Unreadable { file, source })
}

/// A moment in RFC 3339, or a date and time without zone, which is taken as UTC.
pub(crate) fn utc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let zoneless = || text.parse::<DateTime>()?.to_zoned(TimeZone::UTC);
    match text.parse() {
        Ok(moment) => Ok(moment),
        Err(_) => zoneless().map(|zoned| zoned.timestamp()).map_err(D::Error::custom),
    }
}
