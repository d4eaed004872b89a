//! What the cluster wants of a device, as a device understands it. Pure.
use kvarter_api::v1;

use crate::order::{Argument, Order};
use crate::signal::{Signal, SignalCatalog, SimulatedKind};

/// The order in a command; arguments of other types are left out, and the device complains about what it misses.
pub(super) fn from_command(delivery: &v1::CommandDelivery) -> Order {
    let argument = |argument: &v1::Argument| Some((argument.name.clone(), argument_of(argument.value.as_ref()?)?));
    Order { action: delivery.action.clone(), arguments: delivery.arguments.iter().filter_map(argument).collect() }
}

/// The wishes of a desired state to a device of this kind; those that it can not understand are left out.
pub(super) fn from_desired(
    desired: &v1::DesiredState,
    kind: SimulatedKind,
    catalog: &SignalCatalog,
) -> Vec<(Signal, Argument)> {
    let wish = |attribute: &v1::DesiredAttribute| {
        Some((catalog.signal(kind, attribute.attribute)?, argument_of(attribute.value.as_ref()?)?))
    };
    desired.attributes.iter().filter_map(wish).collect()
}

fn argument_of(value: &v1::Value) -> Option<Argument> {
    match value.kind.as_ref()? {
        v1::value::Kind::Number(number) => Some(Argument::Number(*number)),
        v1::value::Kind::Integer(integer) => Some(Argument::Number(*integer as f64)),
        v1::value::Kind::Boolean(boolean) => Some(Argument::Boolean(*boolean)),
        v1::value::Kind::Text(text) => Some(Argument::Text(text.clone())),
        v1::value::Kind::Point(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::order::SET_LEVEL;
    use crate::signal::tests::kinds;

    fn number(number: f64) -> Option<v1::Value> {
        Some(v1::Value { kind: Some(v1::value::Kind::Number(number)) })
    }

    #[test]
    fn a_command_keeps_its_arguments() {
        let text = Some(v1::Value { kind: Some(v1::value::Kind::Text("now".to_owned())) });
        let argument = |name: &str, value| v1::Argument { name: name.to_owned(), value };
        let delivery = v1::CommandDelivery {
            action: SET_LEVEL.to_owned(),
            arguments: vec![argument("level", number(40.0)), argument("when", text), argument("none", None)],
            ..Default::default()
        };
        let order = from_command(&delivery);
        let arguments = BTreeMap::from([
            ("level".to_owned(), Argument::Number(40.0)),
            ("when".to_owned(), Argument::Text("now".to_owned())),
        ]);
        assert_eq!((order.action.as_str(), order.arguments), (SET_LEVEL, arguments));
    }

    #[test]
    fn a_wish_is_for_an_attribute_of_the_device_s_kind() {
        let catalog = SignalCatalog::resolve(&kinds()).unwrap();
        let wish = |attribute| v1::DesiredState {
            attributes: vec![v1::DesiredAttribute { attribute, value: number(25.0) }],
            ..Default::default()
        };
        let level = wish(catalog.number(Signal::LuminaireDimmingLevel));
        let lamp = from_desired(&level, SimulatedKind::Luminaire, &catalog);
        assert_eq!(lamp, [(Signal::LuminaireDimmingLevel, Argument::Number(25.0))]);
        assert_eq!(from_desired(&wish(4_000), SimulatedKind::Luminaire, &catalog), []);
    }
}
