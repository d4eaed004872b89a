//! The table against the catalog's documents, and values on the wire.
use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::*;

/// A catalog with exactly the signals of the simulation.
pub(crate) fn kinds() -> Vec<v1::Kind> {
    let mut attributes: BTreeMap<&str, Vec<v1::Attribute>> = BTreeMap::new();
    for signal in Signal::ALL {
        let of_kind = attributes.entry(signal.kind().name()).or_default();
        of_kind.push(v1::Attribute {
            number: u32::try_from(of_kind.len() + 1).unwrap(),
            name: signal.attribute().to_owned(),
            r#type: signal.shape().value_type().into(),
            ..Default::default()
        });
    }
    let kind = |(name, attributes): (&str, _)| v1::Kind { name: name.to_owned(), attributes, ..Default::default() };
    attributes.into_iter().map(kind).collect()
}

#[derive(Deserialize)]
struct KindDocument {
    attributes: Vec<AttributeDocument>,
}

#[derive(Deserialize)]
struct AttributeDocument {
    name: String,
    r#type: String,
    minimum: Option<f64>,
    maximum: Option<f64>,
    interval_s: Option<u32>,
    #[serde(default)]
    values: Vec<String>,
}

#[test]
fn the_table_is_that_of_the_catalog() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/kinds");
    for kind in SimulatedKind::ALL {
        let text = std::fs::read_to_string(dir.join(format!("{}.yaml", kind.name()))).unwrap();
        let document: KindDocument = serde_saphyr::from_str(&text).unwrap();
        let own: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| signal.kind() == kind).collect();
        assert_eq!(own.len(), document.attributes.len(), "{}", kind.name());
        for (signal, attribute) in own.into_iter().zip(&document.attributes) {
            assert_eq!(signal.attribute(), attribute.name);
            assert_eq!(signal.row().interval_s, attribute.interval_s.unwrap_or(0), "{signal:?}");
            let (minimum, maximum) = signal.range().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            assert!(
                attribute.minimum.unwrap_or(f64::NEG_INFINITY) == minimum
                    && attribute.maximum.unwrap_or(f64::INFINITY) == maximum,
                "{signal:?}"
            );
            let values = if let Shape::Choice(values) = signal.shape() { values } else { &[] };
            assert_eq!(values, attribute.values, "{signal:?}");
            let value_type = signal.shape().value_type().as_str_name().trim_start_matches("VALUE_TYPE_").to_lowercase();
            assert_eq!(value_type, attribute.r#type, "{signal:?}");
        }
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), SimulatedKind::ALL.len());
}

fn encoded(signal: Signal, value: Value) -> v1::reading::Value {
    let catalog = SignalCatalog::resolve(&kinds()).unwrap();
    let reading = TimedReading { observed: Timestamp::UNIX_EPOCH, device: DeviceIndex(0), signal, value };
    catalog.encode(&reading, 7).value.unwrap()
}

#[test]
fn values_take_the_type_of_the_catalog() {
    use v1::reading::Value as Wire;
    assert_eq!(encoded(Signal::FlowIntensity, Value::Number(3.6)), Wire::Integer(4));
    assert_eq!(encoded(Signal::FlowSpeed, Value::Number(3.6)), Wire::Number(3.6));
    assert_eq!(encoded(Signal::BayStatus, Value::Choice(1)), Wire::Text("occupied".to_owned()));
    assert_eq!(encoded(Signal::BusLine, Value::Label(0)), Wire::Text(String::new()));
    assert_eq!(Signal::BayStatus.choice("closed"), Some(Value::Choice(2)));
}

#[test]
fn poison_is_never_of_the_right_type() {
    for signal in Signal::ALL {
        let is_right = match (encoded(signal, Value::Poison), signal.shape()) {
            (v1::reading::Value::Text(text), Shape::Choice(texts)) => texts.contains(&text.as_str()),
            (v1::reading::Value::Text(_), shape) => shape == Shape::Text,
            (_, shape) => shape == Shape::Boolean,
        };
        assert!(!is_right, "{signal:?}");
    }
}

#[test]
fn a_catalog_without_the_attribute_is_named() {
    let mut kinds = kinds();
    kinds.iter_mut().find(|kind| kind.name == "luminaire").unwrap().attributes.clear();
    let missing = CatalogMismatch::AttributeMissing { kind: "luminaire", attribute: "dimmingLevel" };
    assert_eq!(SignalCatalog::resolve(&kinds).unwrap_err(), missing);
}
