//! Readings in columns: how [`message::Readings`] is filled and read.

use crate::value::{ValueRef, point_bits, point_from_bits};
use crate::{AttributeNumber, DeviceNumber, message};

/// Bytes that one part may take in an entry. The largest batch of a gateway, all of the longest texts and for one shard, is one
/// part and no more.
pub const PART_BYTES_MAX: usize = 1_200 * 1024;

/// About what a reading takes in an entry, the bytes of its text apart.
pub const READING_BYTES: usize = 22;

const NUMBER: u32 = 1;
const INTEGER: u32 = 2;
const BOOLEAN: u32 = 3;
const TEXT: u32 = 4;
const POINT: u32 = 5;

/// One row of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<'a> {
    pub device: DeviceNumber,
    /// As it came: may be no attribute of the device's kind.
    pub attribute: u32,
    /// Microseconds since 1970.
    pub observed_us: i64,
    /// `None`: the columns hold no value of a known type here.
    pub value: Option<ValueRef<'a>>,
}

/// What happened to an accepted reading, packed as in `ReadingsReported.mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingMark(pub u32);

impl ReadingMark {
    const GOOD: u32 = 1;
    const OUT_OF_RANGE: u32 = 3;
    const LATE: u32 = 16;

    pub fn new(is_in_range: bool, is_late: bool) -> Self {
        let quality = if is_in_range { Self::GOOD } else { Self::OUT_OF_RANGE };
        Self(if is_late { quality + Self::LATE } else { quality })
    }

    /// In the feed, not in the twin, which has a newer value.
    pub fn is_late(self) -> bool {
        self.0 & Self::LATE != 0
    }

    /// 1 good, 3 out of range.
    pub fn quality(self) -> u8 {
        (self.0 & 0xf) as u8
    }
}

impl message::Readings {
    /// Number of readings.
    pub fn len(&self) -> usize {
        self.device.len()
    }

    pub fn is_empty(&self) -> bool {
        self.device.is_empty()
    }

    /// About what the readings take in an entry.
    pub fn payload_bytes(&self) -> usize {
        READING_BYTES * self.len() + self.texts.iter().map(String::len).sum::<usize>()
    }

    /// Whether all columns have the same length.
    pub fn is_rectangular(&self) -> bool {
        [self.attribute.len(), self.offset_us.len(), self.r#type.len(), self.value.len()]
            .iter()
            .all(|length| *length == self.device.len())
    }

    /// The reading in row `row`, `None` behind the end of the shortest column.
    pub fn reading(&self, row: usize) -> Option<Reading<'_>> {
        let bits = *self.value.get(row)?;
        let value = match *self.r#type.get(row)? {
            NUMBER => Some(ValueRef::Number(f64::from_bits(bits))),
            INTEGER => Some(ValueRef::Integer(bits.cast_signed())),
            BOOLEAN => (bits <= 1).then_some(ValueRef::Boolean(bits == 1)),
            TEXT => usize::try_from(bits).ok().and_then(|place| self.texts.get(place)).map(|text| ValueRef::Text(text)),
            POINT => Some(ValueRef::Point(point_from_bits(bits))),
            _ => None,
        };
        Some(Reading {
            device: DeviceNumber(*self.device.get(row)?),
            attribute: *self.attribute.get(row)?,
            observed_us: self.base_us.saturating_add(*self.offset_us.get(row)?),
            value,
        })
    }

    /// All readings in order.
    pub fn iter(&self) -> impl Iterator<Item = Reading<'_>> {
        (0..self.len()).map_while(|row| self.reading(row))
    }

    /// Appends a reading. Offsets are small when `base_us` was set near the observation times before.
    pub fn push(&mut self, device: DeviceNumber, attribute: AttributeNumber, observed_us: i64, value: ValueRef<'_>) {
        let (value_type, bits) = match value {
            ValueRef::Number(number) => (NUMBER, number.to_bits()),
            ValueRef::Integer(integer) => (INTEGER, integer.cast_unsigned()),
            ValueRef::Boolean(boolean) => (BOOLEAN, u64::from(boolean)),
            ValueRef::Text(text) => {
                self.texts.push(text.to_owned());
                (TEXT, (self.texts.len() - 1) as u64)
            }
            ValueRef::Point(point) => (POINT, point_bits(point)),
        };
        self.device.push(device.0);
        self.attribute.push(attribute.to_message());
        self.offset_us.push(observed_us.saturating_sub(self.base_us));
        self.r#type.push(value_type);
        self.value.push(bits);
    }

    /// Makes room for `additional` more readings.
    pub fn reserve(&mut self, additional: usize) {
        self.device.reserve(additional);
        self.attribute.reserve(additional);
        self.offset_us.reserve(additional);
        self.r#type.reserve(additional);
        self.value.reserve(additional);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Point;

    #[test]
    fn columns_give_back_what_was_pushed() {
        let values = [
            ValueRef::Number(-1.5),
            ValueRef::Integer(-7),
            ValueRef::Boolean(true),
            ValueRef::Text("on"),
            ValueRef::Point(Point { latitude_e7: -561_500_000, longitude_e7: 102_000_000 }),
        ];
        let mut readings = message::Readings { base_us: 1_000_000, ..Default::default() };
        for value in values {
            readings.push(DeviceNumber(3), AttributeNumber(9), 999_999, value);
        }
        assert!(readings.is_rectangular());
        let back: Vec<_> = readings.iter().map(|reading| (reading.observed_us, reading.value.unwrap())).collect();
        assert_eq!(back, values.map(|value| (999_999, value)));
    }

    #[test]
    fn a_value_of_an_unknown_type_is_none() {
        let mut readings = message::Readings::default();
        readings.push(DeviceNumber(0), AttributeNumber(1), 0, ValueRef::Text("x"));
        readings.texts.clear();
        assert_eq!(readings.reading(0).unwrap().value, None);
        readings.r#type[0] = 77;
        assert_eq!(readings.reading(0).unwrap().value, None);
    }
}
