//! What the cluster must count when a file has been played into it: the comparison's other side.
//!
//! It is told from the meaning of the outcomes alone, with no bound on memory, so a difference to the cluster's counts is a
//! finding and not a shared mistake.
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::device::DeviceIndex;
use crate::signal::{Signal, TimedReading};

/// Readings of one file and the outcomes that they must have in a cluster that saw none of them before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileTally {
    pub file: &'static str,
    pub rows: u64,
    pub readings: u64,
    pub stored: u64,
    /// Older than one of the same device and attribute that was played before.
    pub late: u64,
    /// Same device, attribute, time and value as one that was played before.
    pub duplicate: u64,
}

#[derive(Default)]
struct Seen {
    newest: Option<Timestamp>,
    observations: BTreeSet<(Timestamp, u64)>,
}

impl FileTally {
    /// Counts `readings` in the order in which they will be played.
    pub(super) fn of(file: &'static str, readings_per_row: u64, readings: &[TimedReading]) -> Self {
        let mut tally = Self { file, ..Self::default() };
        let mut seen: BTreeMap<(DeviceIndex, Signal), Seen> = BTreeMap::new();
        for reading in readings {
            let of_attribute = seen.entry((reading.device, reading.signal)).or_default();
            tally.readings += 1;
            let bits = reading.value.number().unwrap_or(f64::NAN).to_bits();
            if !of_attribute.observations.insert((reading.observed, bits)) {
                tally.duplicate += 1;
            } else if of_attribute.newest.is_some_and(|newest| reading.observed < newest) {
                tally.late += 1;
            } else {
                of_attribute.newest = Some(reading.observed);
                tally.stored += 1;
            }
        }
        tally.rows = tally.readings / readings_per_row;
        tally
    }
}
