//! The built-in kinds, and the rules of a kind.

use super::*;
use crate::AttributeNumber;
use crate::kind::{ValueError, ValueType};
use crate::value::{Value, ValueRef};

fn sample(text: &str) -> Result<Kind, YamlError> {
    Kind::from_yaml(text)
}

const LAMP: &str = "
name: lamp
description: d
source: s
attributes:
  - {number: 2, name: power, type: number, unit: WTT, minimum: 0, maximum: 100, writable: true}
  - {number: 1, name: state, type: enum, values: ['on', 'off']}
commands:
  - {name: dim, arguments: [{name: level, type: integer, maximum: 100}]}
safe_state: {power: 5}
";

#[test]
fn the_built_in_kinds_are_valid_and_survive_their_documents() {
    let catalog = Catalog::built_in();
    assert_eq!(catalog.kinds().count(), BUILT_IN.len());
    let documents: Vec<_> = catalog.kinds().map(|kind| (kind.document_key(), kind.to_document())).collect();
    let stored = Catalog::from_documents(documents.iter().map(|(key, bytes)| (key.as_str(), bytes.as_ref()))).unwrap();
    assert!(catalog.kinds().eq(stored.kinds()));
    let luminaire = catalog.kind("luminaire").unwrap();
    assert_eq!(luminaire.attribute(AttributeNumber(2)).unwrap().name, "activePower");
    assert_eq!(luminaire.safe_state["dimmingLevel"], Value::Number(100.0));
}

#[test]
fn a_retired_kind_is_known_and_no_current_one() {
    let retired = Kind { is_retired: true, ..sample(LAMP).unwrap() };
    let (key, document) = (retired.document_key(), retired.to_document());
    let catalog = Catalog::from_documents([(&*key, &*document)]).unwrap();
    assert_eq!(catalog.kind("lamp").map(AsRef::as_ref), Some(&retired));
    assert_eq!(catalog.current("lamp"), None);
}

#[test]
fn attributes_are_found_by_number_whether_dense_or_not() {
    let mut kind = sample(LAMP).unwrap();
    assert_eq!(kind.attribute(AttributeNumber(1)).unwrap().name, "state");
    kind.attributes[1].number = AttributeNumber(900);
    assert_eq!(kind.attribute(AttributeNumber(900)).unwrap().name, "power");
    assert!(kind.attribute(AttributeNumber(2)).is_none());
    assert!(kind.attribute(AttributeNumber(0)).is_none());
}

#[test]
fn a_kind_that_breaks_a_rule_is_refused_with_the_item() {
    for (from, to, expected) in [
        ("name: lamp", "name: Lamp", "name: must match"),
        ("number: 1", "number: 0", "attribute `state`: number must be 1 to 4095"),
        ("number: 1", "number: 2", "name or number is used twice"),
        ("name: power", "name: state", "name or number is used twice"),
        ("minimum: 0", "minimum: 200", "minimum and maximum"),
        ("unit: WTT", "unit: watts", "UN/CEFACT"),
        ("type: enum, values: ['on', 'off']", "type: enum", "values belong to an enum"),
        ("['on', 'off']", "['on', 'on']", "values must be at most 256 and differ"),
        ("{power: 5}", "{power: 500}", "safe state `power`: out of range"),
        ("{power: 5}", "{power: x}", "safe state `power`: wrong type"),
        ("{power: 5}", "{light: 5}", "is no attribute"),
        ("type: integer, maximum: 100", "type: text, maximum: 100", "command `dim`: only numbers"),
        ("writable: true", "writeable: true", "does not parse"),
    ] {
        assert!(LAMP.contains(from));
        let error = sample(&LAMP.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_kind_may_be_extended_but_not_changed() {
    let old = sample(LAMP).unwrap();
    let more = LAMP.replace("commands:", "  - {number: 9, name: extra, type: text}\ncommands:");
    sample(&more).unwrap().check_extension(&old).unwrap();
    sample(&LAMP.replace("['on', 'off']", "['on', 'off', low]")).unwrap().check_extension(&old).unwrap();
    for (from, to, expected) in [
        ("number: 2", "number: 3", "is missing or has another number"),
        ("name: state", "name: stand", "has another name"),
        ("type: number, ", "type: integer, ", "has another type"),
        ("unit: WTT", "unit: KWT", "has another unit"),
        ("['on', 'off']", "['on']", "lacks a value"),
        ("name: dim", "name: bright", "command `dim`: is missing"),
        ("arguments: [{name: level, type: integer, maximum: 100}]", "arguments: []", "another number of arguments"),
    ] {
        let error = sample(&LAMP.replace(from, to)).expect(to).check_extension(&old).expect_err(to).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_value_is_held_to_its_attribute() {
    let kind = sample(LAMP).unwrap();
    let (state, power) = (&kind.attributes[0], &kind.attributes[1]);
    assert_eq!(power.value_type, ValueType::Number);
    let integer = power.check(ValueRef::Integer(7)).unwrap();
    assert_eq!((integer.value, integer.is_in_range), (ValueRef::Number(7.0), true));
    assert!(!power.check(ValueRef::Number(100.5)).unwrap().is_in_range);
    assert_eq!(power.check(ValueRef::Number(f64::NAN)), Err(ValueError::NotANumber));
    assert_eq!(power.check(ValueRef::Number(f64::INFINITY)), Err(ValueError::NotANumber));
    assert_eq!(power.check(ValueRef::Boolean(true)), Err(ValueError::WrongType));
    assert_eq!(state.check(ValueRef::Text("dim")), Err(ValueError::UnknownValue));
    let level = &kind.commands[0].arguments[0];
    assert_eq!(level.check(ValueRef::Number(5.0)), Err(ValueError::WrongType));
}
