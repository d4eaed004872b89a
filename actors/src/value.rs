//! Attribute values, as they stand in twins ([`Value`]) and as they pass by in readings ([`ValueRef`]).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::message;

/// Longest text value, bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// Degrees times 1e7, WGS84.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub latitude_e7: i32,
    pub longitude_e7: i32,
}

impl Point {
    const LATITUDE_E7_MAX: i32 = 90 * 10_000_000;
    const LONGITUDE_E7_MAX: i32 = 180 * 10_000_000;
    const EARTH_RADIUS_M: f64 = 6_371_008.8;

    /// Whether it is a place on Earth.
    pub fn is_on_earth(self) -> bool {
        (-Self::LATITUDE_E7_MAX..=Self::LATITUDE_E7_MAX).contains(&self.latitude_e7)
            && (-Self::LONGITUDE_E7_MAX..=Self::LONGITUDE_E7_MAX).contains(&self.longitude_e7)
    }

    /// Great-circle distance on a sphere (haversine), metres: within 0.6 % of that on the ellipsoid.
    pub(crate) fn distance_m(self, other: Self) -> f64 {
        let rad = |degrees_e7: i32| (f64::from(degrees_e7) * 1e-7).to_radians();
        let (here, there) = (rad(self.latitude_e7), rad(other.latitude_e7));
        let half = |one: f64, other: f64| ((one - other) / 2.0).sin().powi(2);
        let east = half(rad(self.longitude_e7), rad(other.longitude_e7));
        let chord = half(here, there) + here.cos() * there.cos() * east;
        2.0 * Self::EARTH_RADIUS_M * chord.sqrt().min(1.0).asin()
    }
}

impl From<message::Point> for Point {
    fn from(point: message::Point) -> Self {
        Self { latitude_e7: point.latitude_e7, longitude_e7: point.longitude_e7 }
    }
}

impl From<Point> for message::Point {
    fn from(point: Point) -> Self {
        Self { latitude_e7: point.latitude_e7, longitude_e7: point.longitude_e7 }
    }
}

/// A value that owns its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    /// Free text or the name of an enum value.
    Text(Arc<str>),
    Point(Point),
}

impl Value {
    /// `None` when the message carries no alternative.
    pub fn from_message(value: &message::Value) -> Option<Self> {
        Some(ValueRef::from_message(value)?.to_value())
    }

    pub fn to_message(&self) -> message::Value {
        self.as_ref().to_message()
    }

    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Number(number) => ValueRef::Number(*number),
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Boolean(boolean) => ValueRef::Boolean(*boolean),
            Self::Text(text) => ValueRef::Text(text),
            Self::Point(point) => ValueRef::Point(*point),
        }
    }
}

/// A value that borrows its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(&'a str),
    Point(Point),
}

impl<'a> ValueRef<'a> {
    /// `None` when the message carries no alternative.
    pub fn from_message(value: &'a message::Value) -> Option<Self> {
        use message::value::Kind;
        Some(match value.kind.as_ref()? {
            Kind::Number(number) => Self::Number(*number),
            Kind::Integer(integer) => Self::Integer(*integer),
            Kind::Boolean(boolean) => Self::Boolean(*boolean),
            Kind::Text(text) => Self::Text(text),
            Kind::Point(point) => Self::Point((*point).into()),
        })
    }

    pub fn to_message(self) -> message::Value {
        use message::value::Kind;
        message::Value {
            kind: Some(match self {
                Self::Number(number) => Kind::Number(number),
                Self::Integer(integer) => Kind::Integer(integer),
                Self::Boolean(boolean) => Kind::Boolean(boolean),
                Self::Text(text) => Kind::Text(text.to_owned()),
                Self::Point(point) => Kind::Point(point.into()),
            }),
        }
    }

    pub fn to_value(self) -> Value {
        match self {
            Self::Number(number) => Value::Number(number),
            Self::Integer(integer) => Value::Integer(integer),
            Self::Boolean(boolean) => Value::Boolean(boolean),
            Self::Text(text) => Value::Text(text.into()),
            Self::Point(point) => Value::Point(point),
        }
    }

    /// 64 bits that tell values of one attribute apart: exact but for texts, which are hashed.
    pub fn fingerprint(self) -> u64 {
        match self {
            // Adding zero makes one of the two zeros.
            Self::Number(number) => (number + 0.0).to_bits(),
            Self::Integer(integer) => integer.cast_unsigned(),
            Self::Boolean(boolean) => u64::from(boolean),
            Self::Text(text) => xxh3_64(text.as_bytes()),
            Self::Point(point) => point_bits(point),
        }
    }
}

/// Latitude in the high, longitude in the low 32 bits.
pub(crate) fn point_bits(point: Point) -> u64 {
    (u64::from(point.latitude_e7.cast_unsigned()) << 32) | u64::from(point.longitude_e7.cast_unsigned())
}

pub(crate) fn point_from_bits(bits: u64) -> Point {
    let high = (bits >> 32) as u32;
    let low = (bits & 0xffff_ffff) as u32;
    Point { latitude_e7: high.cast_signed(), longitude_e7: low.cast_signed() }
}

/// A scalar of a configuration file; points are not written there.
impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Scalar {
            Boolean(bool),
            Integer(i64),
            Number(f64),
            Text(String),
        }
        Ok(match Scalar::deserialize(deserializer)? {
            Scalar::Boolean(boolean) => Self::Boolean(boolean),
            Scalar::Integer(integer) => Self::Integer(integer),
            Scalar::Number(number) => Self::Number(number),
            Scalar::Text(text) => Self::Text(text.into()),
        })
    }
}
