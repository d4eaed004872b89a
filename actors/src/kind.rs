//! What the catalog says about a type of device: attributes, commands, safe state.
//!
//! [`Kind::check`] holds a kind to its rules, [`Kind::check_extension`] a new version of it to the old one. How a kind
//! is stored is in [`document`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::value::{TEXT_BYTES_MAX, Value, ValueRef};
use crate::{AttributeNumber, message};

mod check;
mod document;

pub use check::KindError;
pub use document::DocumentError;

/// A type of device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// `[a-z][a-z0-9_]{0,62}`
    pub name: String,
    pub description: String,
    /// Data model or standard that the names come from.
    pub source: String,
    /// In the order of their numbers once checked.
    pub attributes: Vec<Attribute>,
    #[serde(default)]
    pub commands: Vec<CommandKind>,
    /// What the device falls back to when it hears nothing, by attribute name.
    #[serde(default)]
    pub safe_state: BTreeMap<String, Value>,
    /// No device may be registered of it any more, and it is not shown; what is stored of it stays readable.
    #[serde(skip)]
    pub is_retired: bool,
}

/// One attribute of a kind, or one argument of a command.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Never reused. Zero in arguments, which are known by name only.
    #[serde(default)]
    pub number: AttributeNumber,
    pub name: String,
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// UN/CEFACT common code; `P1` for percent, empty for none.
    #[serde(default)]
    pub unit: String,
    #[serde(default)]
    pub minimum: Option<f64>,
    #[serde(default)]
    pub maximum: Option<f64>,
    /// For [`ValueType::Enum`].
    #[serde(default)]
    pub values: Vec<String>,
    /// May stand in a twin's desired attributes.
    #[serde(default)]
    pub writable: bool,
    #[serde(default)]
    pub description: String,
    /// Expected time between readings, seconds; zero: no rhythm, never stale.
    #[serde(default)]
    pub interval_s: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandKind {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// All are required.
    #[serde(default)]
    pub arguments: Vec<Attribute>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    Number,
    Integer,
    Boolean,
    Text,
    Enum,
    Point,
}

/// Why a value is none of an attribute's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("wrong type")]
    WrongType,
    #[error("not a number")]
    NotANumber,
    #[error("unknown value, or a text above {TEXT_BYTES_MAX} bytes")]
    UnknownValue,
}

/// A value of the right type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckedValue<'a> {
    /// An integer given for a number has become one.
    pub value: ValueRef<'a>,
    pub is_in_range: bool,
}

impl Attribute {
    /// Whether `value` is one of this attribute's.
    ///
    /// An integer is taken for a number; a whole number is not taken for an integer.
    pub fn check<'a>(&self, value: ValueRef<'a>) -> Result<CheckedValue<'a>, ValueError> {
        let in_range = |value| Ok(CheckedValue { value, is_in_range: true });
        match (self.value_type, value) {
            (ValueType::Number, ValueRef::Number(number)) => self.check_number(number),
            #[expect(clippy::cast_precision_loss, reason = "a number attribute has the precision of a double")]
            (ValueType::Number, ValueRef::Integer(integer)) => self.check_number(integer as f64),
            (ValueType::Integer, ValueRef::Integer(integer)) => {
                #[expect(clippy::cast_precision_loss, reason = "bounds are doubles")]
                let is_in_range = self.is_in_range(integer as f64);
                Ok(CheckedValue { value, is_in_range })
            }
            (ValueType::Boolean, ValueRef::Boolean(_)) => in_range(value),
            (ValueType::Text, ValueRef::Text(text)) if text.len() <= TEXT_BYTES_MAX => in_range(value),
            (ValueType::Enum, ValueRef::Text(text)) if self.values.iter().any(|known| known == text) => in_range(value),
            (ValueType::Text | ValueType::Enum, ValueRef::Text(_)) => Err(ValueError::UnknownValue),
            (ValueType::Point, ValueRef::Point(point)) => Ok(CheckedValue { value, is_in_range: point.is_on_earth() }),
            _ => Err(ValueError::WrongType),
        }
    }

    fn check_number<'a>(&self, number: f64) -> Result<CheckedValue<'a>, ValueError> {
        if !number.is_finite() {
            return Err(ValueError::NotANumber);
        }
        Ok(CheckedValue { value: ValueRef::Number(number), is_in_range: self.is_in_range(number) })
    }

    fn is_in_range(&self, number: f64) -> bool {
        self.minimum.is_none_or(|minimum| number >= minimum) && self.maximum.is_none_or(|maximum| number <= maximum)
    }

    /// Microseconds after which a value reads as stale: three intervals. `None`: never.
    pub fn stale_after_us(&self) -> Option<i64> {
        (self.interval_s > 0).then(|| i64::from(self.interval_s) * 3_000_000)
    }

    /// The value in a message, checked and in range; the error is for the caller who sent it.
    pub(crate) fn accept(&self, value: Option<&message::Value>) -> Result<Value, String> {
        let value = value.and_then(ValueRef::from_message).ok_or_else(|| format!("`{}` has no value", self.name))?;
        let checked = self.check(value).map_err(|error| format!("`{}`: {error}", self.name))?;
        if checked.is_in_range {
            Ok(checked.value.to_value())
        } else {
            Err(format!("`{}` is out of range{}", self.name, self.range_text()))
        }
    }

    fn range_text(&self) -> String {
        match (self.minimum, self.maximum) {
            (Some(minimum), Some(maximum)) => format!(" ({minimum} to {maximum})"),
            (Some(minimum), None) => format!(" (at least {minimum})"),
            (None, Some(maximum)) => format!(" (at most {maximum})"),
            (None, None) => String::new(),
        }
    }
}

impl Kind {
    /// The attribute with this number.
    pub fn attribute(&self, number: AttributeNumber) -> Option<&Attribute> {
        // Numbers are nearly always dense from 1.
        let guess = self.attributes.get(usize::from(number.0).wrapping_sub(1));
        guess.filter(|attribute| attribute.number == number).or_else(|| {
            let place = self.attributes.binary_search_by_key(&number, |attribute| attribute.number).ok()?;
            self.attributes.get(place)
        })
    }

    pub fn attribute_named(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub fn command(&self, name: &str) -> Option<&CommandKind> {
        self.commands.iter().find(|command| command.name == name)
    }
}
