//! The rules of a kind and of its extension.

use std::collections::BTreeSet;

use crate::AttributeNumber;
use crate::kind::{Attribute, CommandKind, Kind, ValueType};
use crate::value::TEXT_BYTES_MAX;

/// Most attributes, commands and values that a kind may have: keeps a kind's document small.
const ITEMS_MAX: usize = 256;

/// Longest description or source, bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// What is wrong with a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    #[error("kind `{kind}`: {item}: {reason}")]
    Invalid { kind: String, item: String, reason: String },
    #[error("kind `{kind}`: {item}: {reason}; a kind may be extended, not changed")]
    NotAnExtension { kind: String, item: String, reason: String },
}

impl Kind {
    /// Checks the kind and brings it into its one form: attributes by number, safe state of the attributes' types.
    pub fn check(mut self) -> Result<Self, KindError> {
        self.attributes.sort_by_key(|attribute| attribute.number);
        let fault = self.find_fault();
        if let Some((item, reason)) = fault {
            return Err(KindError::Invalid { kind: self.name, item, reason });
        }
        for (name, value) in &mut self.safe_state {
            let Some(attribute) = self.attributes.iter().find(|attribute| attribute.name == *name) else { continue };
            if let Ok(checked) = attribute.check(value.as_ref()) {
                *value = checked.value.to_value();
            }
        }
        Ok(self)
    }

    /// Checks that this kind only adds to `old`: nothing is removed, renumbered or retyped. Descriptions, ranges and
    /// intervals may change, enum values may be added.
    pub fn check_extension(&self, old: &Kind) -> Result<(), KindError> {
        let refuse = |item: String, reason: &str| {
            Err(KindError::NotAnExtension { kind: self.name.clone(), item, reason: reason.to_owned() })
        };
        for was in &old.attributes {
            let item = format!("attribute `{}`", was.name);
            match self.attribute(was.number) {
                None => return refuse(item, "is missing or has another number"),
                Some(is) => {
                    if let Some(reason) = difference(was, is) {
                        return refuse(item, reason);
                    }
                }
            }
        }
        for was in &old.commands {
            let item = format!("command `{}`", was.name);
            let Some(is) = self.command(&was.name) else { return refuse(item, "is missing") };
            if was.arguments.len() != is.arguments.len() {
                return refuse(item, "has another number of arguments");
            }
            for (was, is) in was.arguments.iter().zip(&is.arguments) {
                if let Some(reason) = difference(was, is) {
                    return refuse(format!("{item}, argument `{}`", was.name), reason);
                }
            }
        }
        Ok(())
    }

    /// Whether a kind may be called so.
    pub(crate) fn is_name(name: &str) -> bool {
        (1..=63).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }

    /// The first item that breaks a rule, and how.
    fn find_fault(&self) -> Option<(String, String)> {
        let fault = |item: String, reason: &str| Some((item, reason.to_owned()));
        if !Self::is_name(&self.name) {
            return fault("name".into(), "must match [a-z][a-z0-9_]{0,62}");
        }
        if self.description.len() > DESCRIPTION_BYTES_MAX || self.source.len() > DESCRIPTION_BYTES_MAX {
            return fault("description or source".into(), "is above 1024 bytes");
        }
        if self.attributes.len() > ITEMS_MAX || self.commands.len() > ITEMS_MAX {
            return fault("attributes or commands".into(), "are more than 256");
        }
        let mut names = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for attribute in &self.attributes {
            let item = || format!("attribute `{}`", attribute.name);
            if AttributeNumber::from_message(attribute.number.to_message()).is_none() {
                return fault(item(), "number must be 1 to 4095");
            }
            if !names.insert(&attribute.name) || !numbers.insert(attribute.number) {
                return fault(item(), "name or number is used twice");
            }
            if let Some(reason) = attribute.find_fault() {
                return fault(item(), reason);
            }
        }
        self.commands_fault().or_else(|| self.safe_state_fault())
    }

    fn commands_fault(&self) -> Option<(String, String)> {
        let mut names = BTreeSet::new();
        for command in &self.commands {
            let reason = if !is_item_name(&command.name) {
                Some("name must match [A-Za-z][A-Za-z0-9_]{0,62}")
            } else if !names.insert(&command.name) {
                Some("name is used twice")
            } else {
                command.find_fault()
            };
            if let Some(reason) = reason {
                return Some((format!("command `{}`", command.name), reason.to_owned()));
            }
        }
        None
    }

    fn safe_state_fault(&self) -> Option<(String, String)> {
        self.safe_state.iter().find_map(|(name, value)| {
            let reason = match self.attribute_named(name).map(|attribute| attribute.check(value.as_ref())) {
                None => "is no attribute of the kind".to_owned(),
                Some(Err(error)) => error.to_string(),
                Some(Ok(checked)) if !checked.is_in_range => "out of range".to_owned(),
                Some(Ok(_)) => return None,
            };
            Some((format!("safe state `{name}`"), reason))
        })
    }
}

impl CommandKind {
    fn find_fault(&self) -> Option<&'static str> {
        let mut names = BTreeSet::new();
        if self.arguments.len() > 16 {
            return Some("has more than 16 arguments");
        }
        self.arguments.iter().find_map(|argument| {
            if names.insert(&argument.name) { argument.find_fault() } else { Some("an argument's name is used twice") }
        })
    }
}

impl Attribute {
    fn find_fault(&self) -> Option<&'static str> {
        let has_range = self.minimum.is_some() || self.maximum.is_some();
        let is_finite = [self.minimum, self.maximum].iter().flatten().all(|bound| bound.is_finite());
        let is_ordered = self.minimum.zip(self.maximum).is_none_or(|(minimum, maximum)| minimum <= maximum);
        let distinct: BTreeSet<_> = self.values.iter().collect();
        if !is_item_name(&self.name) {
            Some("name must match [A-Za-z][A-Za-z0-9_]{0,62}")
        } else if self.unit.len() > 3 || !self.unit.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Some("unit must be a UN/CEFACT common code")
        } else if self.description.len() > DESCRIPTION_BYTES_MAX {
            Some("description is above 1024 bytes")
        } else if has_range && !matches!(self.value_type, ValueType::Number | ValueType::Integer) {
            Some("only numbers and integers have a range")
        } else if !is_finite || !is_ordered {
            Some("minimum and maximum must be numbers in this order")
        } else if (self.value_type == ValueType::Enum) == self.values.is_empty() {
            Some("values belong to an enum, which needs some")
        } else if self.values.len() > ITEMS_MAX || distinct.len() != self.values.len() {
            Some("values must be at most 256 and differ")
        } else if self.values.iter().any(|value| value.is_empty() || value.len() > TEXT_BYTES_MAX) {
            Some("values must have 1 to 256 bytes")
        } else {
            None
        }
    }
}

fn difference(was: &Attribute, is: &Attribute) -> Option<&'static str> {
    if was.name != is.name {
        Some("has another name")
    } else if was.value_type != is.value_type {
        Some("has another type")
    } else if was.unit != is.unit {
        Some("has another unit")
    } else if was.values.iter().any(|value| !is.values.contains(value)) {
        Some("lacks a value that it had")
    } else if was.writable && !is.writable {
        Some("is not writable any more")
    } else {
        None
    }
}

/// Attributes and commands carry the names of their standards, in any case.
fn is_item_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
