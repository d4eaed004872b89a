//! How failures are made: [`message::Failure`] with a reason for programs and a text for people.

use std::time::Duration;

use crate::message::{self, FailureReason};

impl message::Failure {
    pub fn new(reason: FailureReason, text: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: text.into(), ..Self::default() }
    }

    /// The field `field` of the request is wrong.
    pub fn invalid(field: &str, text: impl Into<String>) -> Self {
        Self { field: field.to_owned(), ..Self::new(FailureReason::Invalid, text) }
    }

    pub(crate) fn overloaded(text: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        Self { retry_after_ms, ..Self::new(FailureReason::Overloaded, text) }
    }

    pub fn device_not_found(name: &str) -> Self {
        Self::new(FailureReason::NotFound, format!("device `{name}` is not registered"))
    }

    pub(crate) fn command_not_found(device: &str, id: &str) -> Self {
        let text = format!("device `{device}` has no command `{id}`, or its receipt is gone");
        Self::new(FailureReason::NotFound, text)
    }

    pub(crate) fn with_totals(self, totals: message::StreamTotals) -> Self {
        Self { totals: Some(totals), ..self }
    }
}
