//! What simulated devices measure, and how the cluster's catalog numbers it.
//!
//! The simulation knows kinds and attributes by name only. `SignalCatalog` looks the numbers and value types up once, when
//! the catalog of the running cluster has been read, so a reading costs an array access and no search.
use jiff::Timestamp;
use kvarter_api::v1;

use crate::device::DeviceIndex;

/// Kinds of the built-in catalog that the simulation has devices of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimulatedKind {
    TrafficFlowSensor,
    Luminaire,
    Garage,
    WasteContainer,
    AirQuality,
    Weather,
}

impl SimulatedKind {
    /// Name in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrafficFlowSensor => "traffic_flow_sensor",
            Self::Luminaire => "luminaire",
            Self::Garage => "garage",
            Self::WasteContainer => "waste_container",
            Self::AirQuality => "air_quality",
            Self::Weather => "weather",
        }
    }
}

/// One attribute of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Vehicles in 5 minutes.
    VehicleCount,
    /// km/h
    VehicleSpeed,
    /// Seconds, median over the segment.
    TravelTime,
    /// Percent of full light.
    DimmingLevel,
    /// Watts.
    ActivePower,
    OccupiedSpots,
    TotalSpots,
    /// Share of the container, 0 to 1.
    FillingLevel,
    /// Micrograms per cubic metre.
    NitrogenDioxide,
    /// Micrograms per cubic metre, particles up to 2.5 µm.
    FineParticles,
    /// Degrees Celsius.
    Temperature,
    /// Share, 0 to 1.
    RelativeHumidity,
    /// Lux.
    Illuminance,
    /// Metres per second.
    WindSpeed,
}

impl Signal {
    pub const ALL: [Self; 14] = [
        Self::VehicleCount,
        Self::VehicleSpeed,
        Self::TravelTime,
        Self::DimmingLevel,
        Self::ActivePower,
        Self::OccupiedSpots,
        Self::TotalSpots,
        Self::FillingLevel,
        Self::NitrogenDioxide,
        Self::FineParticles,
        Self::Temperature,
        Self::RelativeHumidity,
        Self::Illuminance,
        Self::WindSpeed,
    ];

    pub fn kind(self) -> SimulatedKind {
        match self {
            Self::VehicleCount | Self::VehicleSpeed | Self::TravelTime => SimulatedKind::TrafficFlowSensor,
            Self::DimmingLevel | Self::ActivePower => SimulatedKind::Luminaire,
            Self::OccupiedSpots | Self::TotalSpots => SimulatedKind::Garage,
            Self::FillingLevel => SimulatedKind::WasteContainer,
            Self::NitrogenDioxide | Self::FineParticles => SimulatedKind::AirQuality,
            Self::Temperature | Self::RelativeHumidity | Self::Illuminance | Self::WindSpeed => SimulatedKind::Weather,
        }
    }

    /// Name of the attribute in the catalog entry of [`Signal::kind`].
    pub fn attribute(self) -> &'static str {
        match self {
            Self::VehicleCount => "intensity",
            Self::VehicleSpeed => "averageVehicleSpeed",
            Self::TravelTime => "travelTime",
            Self::DimmingLevel => "dimmingLevel",
            Self::ActivePower => "activePower",
            Self::OccupiedSpots => "occupiedSpotNumber",
            Self::TotalSpots => "totalSpotNumber",
            Self::FillingLevel => "fillingLevel",
            Self::NitrogenDioxide => "no2",
            Self::FineParticles => "pm25",
            Self::Temperature => "temperature",
            Self::RelativeHumidity => "relativeHumidity",
            Self::Illuminance => "illuminance",
            Self::WindSpeed => "windSpeed",
        }
    }
}

/// A value that a device measured at a moment of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedReading {
    pub observed: Timestamp,
    pub device: DeviceIndex,
    pub signal: Signal,
    /// In the unit of the signal; rounded where the catalog wants an integer.
    pub value: f64,
}

/// The cluster's catalog does not have what the simulation measures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogMismatch {
    #[error("the cluster's catalog has no kind {kind}")]
    KindMissing { kind: &'static str },
    #[error("kind {kind} of the cluster's catalog has no attribute {attribute}")]
    AttributeMissing { kind: &'static str, attribute: &'static str },
    #[error("attribute {attribute} of kind {kind} is neither a number nor an integer in the cluster's catalog")]
    NotNumeric { kind: &'static str, attribute: &'static str },
}

#[derive(Clone, Copy, Debug)]
struct Numbered {
    number: u32,
    is_integer: bool,
}

/// Attribute numbers of all signals, resolved against one catalog.
#[derive(Clone, Debug)]
pub struct SignalCatalog {
    numbered: [Numbered; Signal::ALL.len()],
}

impl SignalCatalog {
    /// Finds every signal in `kinds`; the first that is missing is the error.
    pub fn resolve(kinds: &[v1::Kind]) -> Result<Self, CatalogMismatch> {
        let mut numbered = [Numbered { number: 0, is_integer: false }; Signal::ALL.len()];
        for signal in Signal::ALL {
            numbered[signal as usize] = find(kinds, signal)?;
        }
        Ok(Self { numbered })
    }

    /// The reading as the gateway stream carries it, for the device attached under `alias`.
    pub fn encode(&self, reading: &TimedReading, alias: u32) -> v1::Reading {
        let Numbered { number, is_integer } = self.numbered[reading.signal as usize];
        let value = if is_integer {
            #[expect(clippy::cast_possible_truncation, reason = "saturates; measured values are far below 2^53")]
            let whole = reading.value.round() as i64;
            v1::reading::Value::Integer(whole)
        } else {
            v1::reading::Value::Number(reading.value)
        };
        v1::Reading { alias, attribute: number, observed_us: reading.observed.as_microsecond(), value: Some(value) }
    }

    /// Number of the attribute in its kind.
    pub fn number(&self, signal: Signal) -> u32 {
        self.numbered[signal as usize].number
    }
}

fn find(kinds: &[v1::Kind], signal: Signal) -> Result<Numbered, CatalogMismatch> {
    let (kind, attribute) = (signal.kind().name(), signal.attribute());
    let entry = kinds.iter().find(|entry| entry.name == kind).ok_or(CatalogMismatch::KindMissing { kind })?;
    let found = entry
        .attributes
        .iter()
        .find(|entry| entry.name == attribute)
        .ok_or(CatalogMismatch::AttributeMissing { kind, attribute })?;
    match found.r#type() {
        v1::ValueType::Number => Ok(Numbered { number: found.number, is_integer: false }),
        v1::ValueType::Integer => Ok(Numbered { number: found.number, is_integer: true }),
        v1::ValueType::Unspecified
        | v1::ValueType::Boolean
        | v1::ValueType::Text
        | v1::ValueType::Enum
        | v1::ValueType::Point => Err(CatalogMismatch::NotNumeric { kind, attribute }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A catalog with exactly the signals of the simulation; counts are integers.
    pub(crate) fn kinds() -> Vec<v1::Kind> {
        let mut attributes: BTreeMap<&str, Vec<v1::Attribute>> = BTreeMap::new();
        for signal in Signal::ALL {
            let of_kind = attributes.entry(signal.kind().name()).or_default();
            let r#type = if signal == Signal::VehicleCount { v1::ValueType::Integer } else { v1::ValueType::Number };
            of_kind.push(v1::Attribute {
                number: u32::try_from(of_kind.len() + 1).unwrap(),
                name: signal.attribute().to_owned(),
                r#type: r#type.into(),
                ..Default::default()
            });
        }
        let kind = |(name, attributes): (&str, _)| v1::Kind { name: name.to_owned(), attributes, ..Default::default() };
        attributes.into_iter().map(kind).collect()
    }

    #[test]
    fn every_signal_has_its_own_place_in_the_table() {
        for (place, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!(signal as usize, place);
        }
    }

    #[test]
    fn integers_are_rounded_and_numbers_kept() {
        let catalog = SignalCatalog::resolve(&kinds()).unwrap();
        let reading =
            |signal| TimedReading { observed: Timestamp::UNIX_EPOCH, device: DeviceIndex(0), signal, value: 3.6 };
        assert_eq!(catalog.encode(&reading(Signal::VehicleCount), 7).value, Some(v1::reading::Value::Integer(4)));
        assert_eq!(catalog.encode(&reading(Signal::VehicleSpeed), 7).value, Some(v1::reading::Value::Number(3.6)));
    }

    #[test]
    fn a_catalog_without_the_attribute_is_named() {
        let mut kinds = kinds();
        kinds.iter_mut().find(|kind| kind.name == "luminaire").unwrap().attributes.clear();
        let missing = CatalogMismatch::AttributeMissing { kind: "luminaire", attribute: "dimmingLevel" };
        assert_eq!(SignalCatalog::resolve(&kinds).unwrap_err(), missing);
    }
}
