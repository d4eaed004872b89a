//! Kinds, as the catalog has them and as callers see and put them.

use kvarter_actors::{Attribute, AttributeNumber, CommandKind, Kind, Value, ValueType};
use kvarter_api::v1;
use tonic::Status;

use super::value;
use crate::api::status;

pub(crate) fn to_public(kind: &Kind) -> v1::Kind {
    let safe_state = kind.safe_state.iter();
    v1::Kind {
        name: kind.name.clone(),
        description: kind.description.clone(),
        attributes: kind.attributes.iter().map(attribute_to_public).collect(),
        commands: kind.commands.iter().map(command_to_public).collect(),
        safe_state: safe_state.map(|(name, safe)| (name.clone(), value::to_public(safe.to_message()))).collect(),
        source: kind.source.clone(),
    }
}

fn attribute_to_public(attribute: &Attribute) -> v1::Attribute {
    v1::Attribute {
        number: attribute.number.to_message(),
        name: attribute.name.clone(),
        r#type: type_to_public(attribute.value_type).into(),
        unit: attribute.unit.clone(),
        minimum: attribute.minimum,
        maximum: attribute.maximum,
        values: attribute.values.clone(),
        writable: attribute.writable,
        description: attribute.description.clone(),
        interval_s: attribute.interval_s,
    }
}

fn command_to_public(command: &CommandKind) -> v1::CommandKind {
    v1::CommandKind {
        name: command.name.clone(),
        description: command.description.clone(),
        arguments: command.arguments.iter().map(attribute_to_public).collect(),
    }
}

fn type_to_public(value_type: ValueType) -> v1::ValueType {
    match value_type {
        ValueType::Number => v1::ValueType::Number,
        ValueType::Integer => v1::ValueType::Integer,
        ValueType::Boolean => v1::ValueType::Boolean,
        ValueType::Text => v1::ValueType::Text,
        ValueType::Enum => v1::ValueType::Enum,
        ValueType::Point => v1::ValueType::Point,
    }
}

/// The kind in a request. Whether it keeps the catalog's rules is for [`kvarter_actors::City::put_kind`] to say.
pub(crate) fn from_public(kind: v1::Kind) -> Result<Kind, Status> {
    let attribute = |(index, attribute)| {
        let field = format!("kind.attributes[{index}]");
        attribute_from_public(attribute, Numbering::Required, &field)
    };
    let command = |(index, command)| command_from_public(command, &format!("kind.commands[{index}]"));
    let safe = |(name, safe): (String, v1::Value)| {
        let field = format!("kind.safe_state[{name}]");
        let safe = value::from_public(Some(safe), &field)?;
        let safe = Value::from_message(&safe).ok_or_else(|| status::invalid(field, "no value"))?;
        Ok((name, safe))
    };
    Ok(Kind {
        name: kind.name,
        description: kind.description,
        source: kind.source,
        attributes: kind.attributes.into_iter().enumerate().map(attribute).collect::<Result<_, Status>>()?,
        commands: kind.commands.into_iter().enumerate().map(command).collect::<Result<_, Status>>()?,
        safe_state: kind.safe_state.into_iter().map(safe).collect::<Result<_, Status>>()?,
        is_retired: false,
    })
}

fn command_from_public(command: v1::CommandKind, field: &str) -> Result<CommandKind, Status> {
    let argument = |(index, argument)| {
        let field = format!("{field}.arguments[{index}]");
        attribute_from_public(argument, Numbering::Absent, &field)
    };
    Ok(CommandKind {
        name: command.name,
        description: command.description,
        arguments: command.arguments.into_iter().enumerate().map(argument).collect::<Result<_, Status>>()?,
    })
}

/// Attributes are known by number, arguments by name only.
#[derive(Clone, Copy)]
enum Numbering {
    Required,
    Absent,
}

fn attribute_from_public(attribute: v1::Attribute, numbering: Numbering, field: &str) -> Result<Attribute, Status> {
    let number = match numbering {
        Numbering::Absent => AttributeNumber::default(),
        Numbering::Required => AttributeNumber::from_message(attribute.number).ok_or_else(|| {
            let problem = format!("{} is not between 1 and {}", attribute.number, AttributeNumber::MAX.0);
            status::invalid(format!("{field}.number"), problem)
        })?,
    };
    let value_type = type_from_public(attribute.r#type())
        .ok_or_else(|| status::invalid(format!("{field}.type"), "not one of the value types"))?;
    Ok(Attribute {
        number,
        name: attribute.name,
        value_type,
        unit: attribute.unit,
        minimum: attribute.minimum,
        maximum: attribute.maximum,
        values: attribute.values,
        writable: attribute.writable,
        description: attribute.description,
        interval_s: attribute.interval_s,
    })
}

fn type_from_public(value_type: v1::ValueType) -> Option<ValueType> {
    match value_type {
        v1::ValueType::Unspecified => None,
        v1::ValueType::Number => Some(ValueType::Number),
        v1::ValueType::Integer => Some(ValueType::Integer),
        v1::ValueType::Boolean => Some(ValueType::Boolean),
        v1::ValueType::Text => Some(ValueType::Text),
        v1::ValueType::Enum => Some(ValueType::Enum),
        v1::ValueType::Point => Some(ValueType::Point),
    }
}

#[cfg(test)]
mod tests {
    use kvarter_actors::Catalog;

    use super::*;

    #[test]
    fn every_built_in_kind_comes_back_as_it_was() {
        for kind in Catalog::built_in().kinds() {
            assert_eq!(from_public(to_public(kind)).expect("a good kind"), **kind);
        }
    }

    #[test]
    fn attributes_without_type_or_number_are_named() {
        let typed = v1::Attribute { r#type: v1::ValueType::Number.into(), number: 1, ..Default::default() };
        for (attribute, field) in [
            (v1::Attribute { number: 0, ..typed.clone() }, "kind.attributes[1].number"),
            (v1::Attribute { number: 4096, ..typed.clone() }, "kind.attributes[1].number"),
            (v1::Attribute { r#type: 0, ..typed.clone() }, "kind.attributes[1].type"),
        ] {
            let kind = v1::Kind { attributes: vec![typed.clone(), attribute], ..Default::default() };
            let error = from_public(kind).expect_err("a wrong attribute");
            assert!(error.message().starts_with(field), "{error}");
        }
    }
}
