//! A kind as the meta group stores it: the bytes of a [`message::KindDocument`].

use bytes::Bytes;
use prost::Message;

use crate::kind::{Attribute, CommandKind, Kind, KindError, ValueType};
use crate::value::Value;
use crate::{AttributeNumber, message};

const FORMAT: u32 = 1;

/// Why a document is no kind.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("document `{key}` does not decode: {reason}")]
    Damaged { key: String, reason: String },
    #[error("document `{key}` has format {format}, this program knows {FORMAT}")]
    UnknownFormat { key: String, format: u32 },
    #[error(transparent)]
    Invalid(#[from] KindError),
}

impl Kind {
    /// Where the meta group keeps kinds.
    pub const DOCUMENT_PREFIX: &'static str = "kinds/";

    /// `kinds/{name}`
    pub fn document_key(&self) -> String {
        Self::document_key_of(&self.name)
    }

    pub(crate) fn document_key_of(name: &str) -> String {
        format!("{}{name}", Self::DOCUMENT_PREFIX)
    }

    pub fn to_document(&self) -> Bytes {
        let document = message::KindDocument {
            format: FORMAT,
            name: self.name.clone(),
            description: self.description.clone(),
            source: self.source.clone(),
            attributes: self.attributes.iter().map(attribute_to_document).collect(),
            commands: self.commands.iter().map(command_to_document).collect(),
            safe_state: self.safe_state.iter().map(|(name, value)| (name.clone(), value.to_message())).collect(),
            retired: self.is_retired,
        };
        document.encode_to_vec().into()
    }

    /// Reads and checks the document stored under `key`.
    pub fn from_document(key: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let damaged = |reason: String| DocumentError::Damaged { key: key.to_owned(), reason };
        let document = message::KindDocument::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        if document.format != FORMAT {
            return Err(DocumentError::UnknownFormat { key: key.to_owned(), format: document.format });
        }
        let safe_state = document.safe_state.iter().map(|(name, value)| {
            let value =
                Value::from_message(value).ok_or_else(|| damaged(format!("safe state `{name}` has no value")))?;
            Ok((name.clone(), value))
        });
        let kind = Kind {
            name: document.name,
            description: document.description,
            source: document.source,
            attributes: attributes_from_documents(document.attributes).map_err(damaged)?,
            commands: document
                .commands
                .into_iter()
                .map(|command| {
                    Ok(CommandKind {
                        name: command.name,
                        description: command.description,
                        arguments: attributes_from_documents(command.arguments)?,
                    })
                })
                .collect::<Result<_, String>>()
                .map_err(damaged)?,
            safe_state: safe_state.collect::<Result<_, DocumentError>>()?,
            is_retired: document.retired,
        };
        Ok(kind.check()?)
    }
}

fn command_to_document(command: &CommandKind) -> message::CommandKindDocument {
    message::CommandKindDocument {
        name: command.name.clone(),
        description: command.description.clone(),
        arguments: command.arguments.iter().map(attribute_to_document).collect(),
    }
}

fn attribute_to_document(attribute: &Attribute) -> message::AttributeDocument {
    message::AttributeDocument {
        number: attribute.number.to_message(),
        name: attribute.name.clone(),
        r#type: match attribute.value_type {
            ValueType::Number => 1,
            ValueType::Integer => 2,
            ValueType::Boolean => 3,
            ValueType::Text => 4,
            ValueType::Enum => 5,
            ValueType::Point => 6,
        },
        unit: attribute.unit.clone(),
        minimum: attribute.minimum,
        maximum: attribute.maximum,
        values: attribute.values.clone(),
        writable: attribute.writable,
        description: attribute.description.clone(),
        interval_s: attribute.interval_s,
    }
}

fn attributes_from_documents(documents: Vec<message::AttributeDocument>) -> Result<Vec<Attribute>, String> {
    documents.into_iter().map(attribute_from_document).collect()
}

fn attribute_from_document(document: message::AttributeDocument) -> Result<Attribute, String> {
    let number = u16::try_from(document.number).map_err(|error| format!("`{}`: number: {error}", document.name));
    let value_type = match document.r#type {
        1 => ValueType::Number,
        2 => ValueType::Integer,
        3 => ValueType::Boolean,
        4 => ValueType::Text,
        5 => ValueType::Enum,
        6 => ValueType::Point,
        unknown => return Err(format!("`{}`: unknown type {unknown}", document.name)),
    };
    Ok(Attribute {
        number: AttributeNumber(number?),
        name: document.name,
        value_type,
        unit: document.unit,
        minimum: document.minimum,
        maximum: document.maximum,
        values: document.values,
        writable: document.writable,
        description: document.description,
        interval_s: document.interval_s,
    })
}
