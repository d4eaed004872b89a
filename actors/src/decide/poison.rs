//! What makes deciding panic in the tests of this crate, in the middle of a change. Outside of them nothing is known that does.

use crate::message;
use crate::value::ValueRef;

/// A reading of this value.
pub(crate) const VALUE: f64 = 31_337.25;

/// A part of readings that holds this value, when it is packed.
pub(crate) const VALUE_OF_PART: f64 = 31_337.75;

/// A fact that names this, where a name, an id or a stream's id may be.
pub(crate) const WORD: &str = "poison";

/// The id of a stream that names [`WORD`].
pub(crate) const STREAM: u128 = u128::from_be_bytes(*b"_____poison_____");

pub(super) fn meet_reading(fingerprint: u64) {
    assert_ne!(fingerprint, ValueRef::Number(VALUE).fingerprint(), "a poisoned reading");
}

pub(super) fn meet_part(readings: &message::Readings) {
    assert!(!readings.value.contains(&VALUE_OF_PART.to_bits()), "a poisoned part");
}

pub(super) fn meet_fact(fact: &message::Fact) {
    assert!(!format!("{fact:?}").contains(WORD), "a poisoned fact");
}
