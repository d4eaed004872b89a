//! What simulated devices measure, and how the cluster's catalog numbers it.
//!
//! The simulation knows kinds and attributes by name only (`table` has them all). `SignalCatalog` looks the numbers up once,
//! when the catalog of the running cluster has been read, so a reading costs an array access and no search.
mod table;

use jiff::{SignedDuration, Timestamp};
use kvarter_api::v1;

use crate::device::{DeviceIndex, Place};
pub use table::{Signal, SimulatedKind};

/// Attributes that the catalog expects no regular report of are reported once a day.
const STATIC_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// Which values an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// In the unit of the catalog; the bounds may be infinite.
    Number {
        minimum: f64,
        maximum: f64,
    },
    Integer {
        minimum: f64,
        maximum: f64,
    },
    Boolean,
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    Point,
}

/// A value of a signal, in the unit that the catalog names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Rounded where the catalog wants an integer.
    Number(f64),
    Boolean(bool),
    /// Place in [`Shape::Choice`].
    Choice(u8),
    /// A number as text; zero is the empty text.
    Label(u32),
    Point(Place),
    /// What the kind does not allow: of a wrong type, or no value of an enumeration.
    Poison,
}

impl Value {
    /// The number, if it is one.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Boolean(_) | Self::Choice(_) | Self::Label(_) | Self::Point(_) | Self::Poison => None,
        }
    }
}

impl Signal {
    pub fn kind(self) -> SimulatedKind {
        self.row().kind
    }

    /// Name of the attribute in the catalog entry of [`Signal::kind`].
    pub fn attribute(self) -> &'static str {
        self.row().attribute
    }

    pub fn shape(self) -> Shape {
        self.row().shape
    }

    /// Time between two reports.
    pub fn interval(self) -> SignedDuration {
        match self.row().interval_s {
            0 => STATIC_INTERVAL,
            seconds => SignedDuration::from_secs(i64::from(seconds)),
        }
    }

    /// The bounds of a number; none for other shapes.
    pub(crate) fn range(self) -> Option<(f64, f64)> {
        match self.shape() {
            Shape::Number { minimum, maximum } | Shape::Integer { minimum, maximum } => Some((minimum, maximum)),
            Shape::Boolean | Shape::Text | Shape::Choice(_) | Shape::Point => None,
        }
    }

    /// The value of an enumeration by its text.
    pub(crate) fn choice(self, text: &str) -> Option<Value> {
        let Shape::Choice(texts) = self.shape() else { return None };
        let place = texts.iter().position(|one| *one == text)?;
        u8::try_from(place).ok().map(Value::Choice)
    }

    fn row(self) -> &'static table::Row {
        &Self::ROWS[self as usize]
    }
}

impl Shape {
    /// The type that the catalog must give to the attribute.
    pub fn value_type(self) -> v1::ValueType {
        match self {
            Self::Number { .. } => v1::ValueType::Number,
            Self::Integer { .. } => v1::ValueType::Integer,
            Self::Boolean => v1::ValueType::Boolean,
            Self::Text => v1::ValueType::Text,
            Self::Choice(_) => v1::ValueType::Enum,
            Self::Point => v1::ValueType::Point,
        }
    }
}

/// A value that a device measured at a moment of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedReading {
    /// By the device's own clock.
    pub observed: Timestamp,
    pub device: DeviceIndex,
    pub signal: Signal,
    pub value: Value,
}

/// The cluster's catalog does not have what the simulation measures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogMismatch {
    #[error("the cluster's catalog has no kind {kind}")]
    KindMissing { kind: &'static str },
    #[error("kind {kind} of the cluster's catalog has no attribute {attribute}")]
    AttributeMissing { kind: &'static str, attribute: &'static str },
    #[error("attribute {attribute} of kind {kind} has another type in the cluster's catalog")]
    OtherType { kind: &'static str, attribute: &'static str },
}

/// Attribute numbers of all signals, resolved against one catalog.
#[derive(Clone, Debug)]
pub struct SignalCatalog {
    numbers: [u32; Signal::ALL.len()],
}

impl SignalCatalog {
    /// Finds every signal in `kinds`; the first that is missing is the error.
    pub fn resolve(kinds: &[v1::Kind]) -> Result<Self, CatalogMismatch> {
        let mut numbers = [0; Signal::ALL.len()];
        for signal in Signal::ALL {
            numbers[signal as usize] = find(kinds, signal)?;
        }
        Ok(Self { numbers })
    }

    /// The reading as the gateway stream carries it, for the device attached under `alias`.
    pub fn encode(&self, reading: &TimedReading, alias: u32) -> v1::Reading {
        let value = encode_value(reading.value, reading.signal.shape());
        let observed_us = reading.observed.as_microsecond();
        v1::Reading { alias, attribute: self.number(reading.signal), observed_us, value: Some(value) }
    }

    /// The signal with this number in the kind.
    pub(crate) fn signal(&self, kind: SimulatedKind, number: u32) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.kind() == kind && self.number(*signal) == number)
    }

    /// Number of the attribute in its kind.
    pub fn number(&self, signal: Signal) -> u32 {
        self.numbers[signal as usize]
    }
}

fn encode_value(value: Value, shape: Shape) -> v1::reading::Value {
    use v1::reading::Value as Wire;
    match (value, shape) {
        (Value::Number(number), Shape::Integer { .. }) => {
            #[expect(clippy::cast_possible_truncation, reason = "saturates; measured values are far below 2^53")]
            let whole = number.round() as i64;
            Wire::Integer(whole)
        }
        (Value::Number(number), _) => Wire::Number(number),
        (Value::Boolean(boolean), _) => Wire::Boolean(boolean),
        (Value::Choice(place), Shape::Choice(texts)) => {
            Wire::Text(texts.get(usize::from(place)).copied().unwrap_or("unknown value").to_owned())
        }
        (Value::Label(0), _) => Wire::Text(String::new()),
        (Value::Label(label), _) => Wire::Text(label.to_string()),
        (Value::Point(Place { latitude, longitude }), _) => Wire::Point(v1::Point { latitude, longitude }),
        // Text is wrong for all but texts and enumerations; a place is wrong for text, this word for an enumeration.
        (Value::Poison, Shape::Text) => Wire::Boolean(true),
        (Value::Poison | Value::Choice(_), _) => Wire::Text("poison".to_owned()),
    }
}

fn find(kinds: &[v1::Kind], signal: Signal) -> Result<u32, CatalogMismatch> {
    let (kind, attribute) = (signal.kind().name(), signal.attribute());
    let entry = kinds.iter().find(|entry| entry.name == kind).ok_or(CatalogMismatch::KindMissing { kind })?;
    let found = entry
        .attributes
        .iter()
        .find(|entry| entry.name == attribute)
        .ok_or(CatalogMismatch::AttributeMissing { kind, attribute })?;
    if found.r#type() == signal.shape().value_type() {
        Ok(found.number)
    } else {
        Err(CatalogMismatch::OtherType { kind, attribute })
    }
}

#[cfg(test)]
pub(crate) mod tests;
