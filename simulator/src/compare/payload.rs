//! What one record carries, byte for byte the same in both systems but for how they name the device.
use bytes::Bytes;
use clap::ValueEnum;
use kvarter_api::v1::{self, Reading, reading::Value};
use prost::Message;

/// What a record carries besides the name of its device and attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// A text of 200 bytes with the time of its observation
    Text,
    /// A number with the time of its observation, as most devices report
    Number,
}

/// Length of the text.
const TEXT_BYTES: usize = 200;

impl Payload {
    /// Kind of the devices that report it, and their attribute.
    pub(crate) fn attribute(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("bus", "line"),
            Self::Number => ("air_quality", "no2"),
        }
    }

    fn value(self, serial: u64) -> Value {
        match self {
            // Different each time, so that nothing is saved by knowing the last one.
            Self::Text => Value::Text(format!("{serial:0>TEXT_BYTES$}")),
            Self::Number => Value::Number(f64::from(u8::try_from(serial % 200).unwrap_or(0))),
        }
    }

    /// The record for Kvarter.
    pub(crate) fn reading(self, alias: u32, attribute: u32, observed_us: i64, serial: u64) -> Reading {
        Reading { alias, attribute, observed_us, value: Some(self.value(serial)) }
    }

    /// The value for etcd: time and value in the same encoding. What device and attribute they are of stands in the key.
    pub(crate) fn etcd_value(self, observed_us: i64, serial: u64) -> Bytes {
        self.reading(0, 0, observed_us, serial).encode_to_vec().into()
    }

    pub(crate) fn etcd_key(self, device: &str) -> Bytes {
        let (_, attribute) = self.attribute();
        format!("{device}/{attribute}").into()
    }

    pub(crate) fn registration(self, name: String) -> v1::Device {
        v1::Device { name, kind: self.attribute().0.to_owned(), ..v1::Device::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_systems_get_the_same_value() {
        for payload in [Payload::Text, Payload::Number] {
            let decoded = Reading::decode(payload.etcd_value(1_700_000_000_000_000, 77)).unwrap();
            let reading = payload.reading(5, 1, 1_700_000_000_000_000, 77);
            assert_eq!((decoded.value, decoded.observed_us), (reading.value, reading.observed_us));
        }
    }

    #[test]
    fn a_text_is_as_long_as_it_says() {
        let Value::Text(text) = Payload::Text.value(12) else { panic!("a text") };
        assert_eq!(text.len(), TEXT_BYTES);
        assert_ne!(Payload::Text.value(12), Payload::Text.value(13));
    }
}
