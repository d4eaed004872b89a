//! How failures are made: [`message::Failure`] with a reason for programs and a text for people.

use crate::message::{self, FailureReason};

impl message::Failure {
    pub fn new(reason: FailureReason, text: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: text.into(), ..Self::default() }
    }

    /// The field `field` of the request is wrong.
    pub fn invalid(field: &str, text: impl Into<String>) -> Self {
        Self { field: field.to_owned(), ..Self::new(FailureReason::Invalid, text) }
    }

    pub fn device_not_found(name: &str) -> Self {
        Self::new(FailureReason::NotFound, format!("device `{name}` is not registered"))
    }

    pub(crate) fn with_totals(self, totals: message::StreamTotals) -> Self {
        Self { totals: Some(totals), ..self }
    }
}
