//! A simulated device as it is registered: name, kind, place and labels. What it measures stands in `signal`.
use std::collections::BTreeMap;

use kvarter_api::v1;

use crate::signal::SimulatedKind;

/// Number of a device within one world, dense from 0. It means nothing to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub u32);

impl DeviceIndex {
    /// The place of this device in `World::devices`.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Degrees on WGS84.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

impl Place {
    /// The point at `share` (0 to 1) of the straight way to `end`; exact enough below 10 km.
    #[must_use]
    pub fn towards(self, end: Place, share: f64) -> Place {
        Place {
            latitude: self.latitude + (end.latitude - self.latitude) * share,
            longitude: self.longitude + (end.longitude - self.longitude) * share,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedDevice {
    /// `districts/{district}/devices/{device}`
    pub name: String,
    pub kind: SimulatedKind,
    /// Absent where the source does not tell.
    pub place: Option<Place>,
    /// At most 8; values at most 64 bytes.
    pub labels: BTreeMap<String, String>,
}

impl SimulatedDevice {
    pub fn new(district: &str, device: &str, kind: SimulatedKind, place: impl Into<Option<Place>>) -> Self {
        let name = format!("districts/{district}/devices/{device}");
        Self { name, kind, place: place.into(), labels: BTreeMap::new() }
    }

    /// Adds a label; an empty value adds none, because files leave many blank.
    #[must_use]
    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.labels.insert(key.to_owned(), truncated(value, 64).to_owned());
        }
        self
    }

    /// The record for `TwinService.BatchRegisterDevices`.
    pub fn registration(&self) -> v1::Device {
        v1::Device {
            name: self.name.clone(),
            kind: self.kind.name().to_owned(),
            location: self.place.map(|place| v1::Point { latitude: place.latitude, longitude: place.longitude }),
            labels: self.labels.clone().into_iter().collect(),
        }
    }
}

/// The longest beginning of `text` that has at most `bytes_max` bytes and ends between two characters.
fn truncated(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_between_characters() {
        let place = Place { latitude: 56.0, longitude: 10.0 };
        let device = SimulatedDevice::new("d", "x", SimulatedKind::Garage, place).labelled("street", &"ø".repeat(40));
        assert_eq!(device.labels["street"], "ø".repeat(32));
        assert!(device.labelled("road", "").labels.len() == 1, "a blank label is left out");
    }

    #[test]
    fn half_way_is_in_the_middle() {
        let from = Place { latitude: 56.0, longitude: 10.0 };
        let to = Place { latitude: 56.2, longitude: 10.4 };
        let middle = from.towards(to, 0.5);
        assert!((middle.latitude - 56.1).abs() < 1e-9 && (middle.longitude - 10.2).abs() < 1e-9);
    }
}
