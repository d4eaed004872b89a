//! What the cluster wants of a lamp, as a lamp understands it. Pure.
use std::collections::BTreeMap;

use kvarter_api::v1;

use crate::lamp::{LEVEL_ARGUMENT, Order, SET_LEVEL};
use crate::signal::{Signal, SignalCatalog};

/// The order in a command; arguments that are no numbers are left out, and the lamp complains about what it misses.
pub(super) fn from_command(delivery: &v1::CommandDelivery) -> Order {
    let number = |argument: &v1::Argument| Some((argument.name.clone(), number_of(argument.value.as_ref()?)?));
    Order { action: delivery.action.clone(), arguments: delivery.arguments.iter().filter_map(number).collect() }
}

/// The order in a desired state; none when it does not wish a light level.
pub(super) fn from_desired(desired: &v1::DesiredState, catalog: &SignalCatalog) -> Option<Order> {
    let wanted = catalog.number(Signal::DimmingLevel);
    let attribute = desired.attributes.iter().find(|attribute| attribute.attribute == wanted)?;
    let level = number_of(attribute.value.as_ref()?)?;
    Some(Order { action: SET_LEVEL.to_owned(), arguments: BTreeMap::from([(LEVEL_ARGUMENT.to_owned(), level)]) })
}

fn number_of(value: &v1::Value) -> Option<f64> {
    match value.kind.as_ref()? {
        v1::value::Kind::Number(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "levels are small")]
        v1::value::Kind::Integer(integer) => Some(*integer as f64),
        v1::value::Kind::Boolean(_) | v1::value::Kind::Text(_) | v1::value::Kind::Point(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::tests::kinds;

    fn number(number: f64) -> Option<v1::Value> {
        Some(v1::Value { kind: Some(v1::value::Kind::Number(number)) })
    }

    #[test]
    fn a_command_keeps_its_numbers() {
        let text = Some(v1::Value { kind: Some(v1::value::Kind::Text("now".to_owned())) });
        let argument = |name: &str, value| v1::Argument { name: name.to_owned(), value };
        let delivery = v1::CommandDelivery {
            action: SET_LEVEL.to_owned(),
            arguments: vec![argument("level", number(40.0)), argument("when", text), argument("none", None)],
            ..Default::default()
        };
        let order = from_command(&delivery);
        assert_eq!((order.action.as_str(), order.arguments), (SET_LEVEL, BTreeMap::from([("level".to_owned(), 40.0)])));
    }

    #[test]
    fn only_a_wished_light_level_is_an_order() {
        let catalog = SignalCatalog::resolve(&kinds()).unwrap();
        let wish = |attribute| v1::DesiredState {
            attributes: vec![v1::DesiredAttribute { attribute, value: number(25.0) }],
            ..Default::default()
        };
        let order = from_desired(&wish(catalog.number(Signal::DimmingLevel)), &catalog).unwrap();
        assert_eq!(order.arguments[LEVEL_ARGUMENT].to_bits(), 25.0_f64.to_bits());
        assert_eq!(from_desired(&wish(4_000), &catalog), None);
    }
}
