//! The lamps of a district as lighting knows them.

use std::collections::BTreeMap;

use crate::lighting::LAMPS_MAX;
use crate::lighting::level::{Level, default_minimum};
use crate::lighting::sun::Sun;
use crate::lighting::traffic::{self, Sensors};
use crate::{DeviceNumber, Point};

/// Power at full light of a lamp that does not tell its own, watts: a LED luminaire for a collector road. An assumption.
const DEFAULT_POWER_W: u16 = 80;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lamp {
    /// Power at full light, watts.
    pub(crate) power_w: u16,
    pub(crate) minimum: Level,
    /// The lamp named its minimum itself; otherwise it comes of the labels.
    pub(crate) is_minimum_reported: bool,
    /// What the lamp reported or executed last; `None`: not known, taken to burn from dusk to dawn.
    pub(crate) level: Option<Level>,
    pub(crate) location: Option<Point>,
    /// The sensor that it follows; `None`: the district's mean.
    pub(crate) sensor: Option<DeviceNumber>,
}

impl Lamp {
    pub(crate) fn new(location: Option<Point>, labels: &BTreeMap<String, String>) -> Self {
        Self {
            power_w: DEFAULT_POWER_W,
            minimum: default_minimum(labels),
            is_minimum_reported: false,
            level: None,
            location,
            sensor: None,
        }
    }

    /// The lamp was registered again.
    pub(crate) fn describe(&mut self, location: Option<Point>, labels: &BTreeMap<String, String>) {
        self.location = location;
        if !self.is_minimum_reported {
            self.minimum = default_minimum(labels);
        }
    }

    /// The lamp's power at full light, watts; whole watts are exact enough.
    pub(crate) fn rate(&mut self, watts: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a lamp's power")]
        let whole = watts.round().clamp(0.0, 10_000.0) as u16;
        self.power_w = whole;
    }

    pub(crate) fn set_minimum(&mut self, minimum: Level) {
        self.minimum = minimum;
        self.is_minimum_reported = true;
    }

    /// A lamp whose place nobody knows stands in the dark: it burns, which is safe.
    pub(crate) fn elevation_deg(&self, sun: &Sun) -> f64 {
        self.location.map_or(-90.0, |place| sun.elevation_deg(place))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lamps {
    lamps: BTreeMap<DeviceNumber, Lamp>,
    /// Lamps above [`LAMPS_MAX`], which nobody steers.
    pub(crate) left_out: u64,
}

impl Lamps {
    pub(crate) fn insert(&mut self, device: DeviceNumber, lamp: Lamp) {
        if self.lamps.len() < LAMPS_MAX || self.lamps.contains_key(&device) {
            self.lamps.insert(device, lamp);
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn remove(&mut self, device: DeviceNumber) -> bool {
        self.lamps.remove(&device).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lamps.is_empty()
    }

    pub(crate) fn contains(&self, device: DeviceNumber) -> bool {
        self.lamps.contains_key(&device)
    }

    pub(crate) fn get_mut(&mut self, device: DeviceNumber) -> Option<&mut Lamp> {
        self.lamps.get_mut(&device)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (DeviceNumber, &Lamp)> {
        self.lamps.iter().map(|(number, lamp)| (*number, lamp))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (DeviceNumber, &mut Lamp)> {
        self.lamps.iter_mut().map(|(number, lamp)| (*number, lamp))
    }

    /// Gives each lamp the sensor that it follows.
    pub(crate) fn assign(&mut self, sensors: &Sensors) {
        for lamp in self.lamps.values_mut() {
            lamp.sensor = traffic::nearest(sensors, lamp.location);
        }
    }
}
