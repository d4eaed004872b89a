//! Why a call failed, as its caller has to decide: repeat it, find out what it did, or change it.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::reason::{ERROR_DOMAIN, Effect};
use crate::v1::ErrorReason;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Certainly not applied: nothing changed, and the same call may succeed later. The client has repeated it already, up to
    /// its limits.
    #[error("not applied: {message}")]
    NotApplied {
        /// Absent when no node was reached, or the reason is newer than this crate.
        reason: Option<ErrorReason>,
        message: String,
        /// When the node wants to be asked again at the earliest.
        retry_after: Option<Duration>,
    },
    /// Perhaps applied: the change may have happened, or may still happen.
    #[error("perhaps applied: {message}")]
    Unknown {
        /// Absent when the answer was lost on its way, or the reason is newer than this crate.
        reason: Option<ErrorReason>,
        message: String,
    },
    /// Nothing changed, and the same call will be refused again.
    #[error("rejected: {message}")]
    Rejected {
        code: Code,
        /// Absent when the refusal did not come from Kvarter, or the reason is newer than this crate.
        reason: Option<ErrorReason>,
        message: String,
        violations: Vec<FieldViolation>,
    },
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field: `devices[3].kind`.
    pub field: String,
    pub description: String,
}

impl ApiError {
    /// The reason, where a node gave one that this crate knows.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::NotApplied { reason, .. } | Self::Unknown { reason, .. } | Self::Rejected { reason, .. } => *reason,
        }
    }

    /// The call was refused because what it names does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rejected { code: Code::NotFound, .. })
    }

    /// The called node, or the way to it, may be to blame, and another one do better.
    pub(crate) fn is_about_node(&self) -> bool {
        match self {
            Self::NotApplied { reason, .. } | Self::Unknown { reason, .. } => {
                reason.is_none_or(ErrorReason::is_about_node)
            }
            Self::Rejected { .. } => false,
        }
    }

    /// The same of a call that had begun to change something before.
    pub(crate) fn perhaps_applied(self) -> Self {
        match self {
            Self::NotApplied { reason, message, .. } => Self::Unknown { reason, message },
            error @ (Self::Unknown { .. } | Self::Rejected { .. }) => error,
        }
    }

    /// No answer came in time.
    pub(crate) fn silent(address: &str, waited: Duration) -> Self {
        Self::Unknown { reason: None, message: format!("{address} did not answer within {waited:?}") }
    }

    /// `address` said what the protocol does not allow.
    pub(crate) fn broken_contract(address: &str, problem: &str) -> Self {
        Self::Unknown {
            reason: Some(ErrorReason::BrokenContract),
            message: format!("{address} broke the protocol: {problem}"),
        }
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let reason = info.and_then(|info| ErrorReason::from_str_name(&info.reason));
        let effect = reason.map_or_else(|| effect_without_reason(&status), ErrorReason::effect);
        let message = described(&status);
        match effect {
            Effect::NotApplied => {
                let retry_after = details.retry_info().and_then(|info| info.retry_delay);
                Self::NotApplied { reason, message, retry_after }
            }
            Effect::PerhapsApplied => Self::Unknown { reason, message },
            Effect::Rejected => {
                let violations = details.bad_request().map(|request| request.field_violations.as_slice());
                let violations = violations.unwrap_or_default().iter().map(|violation| FieldViolation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                });
                Self::Rejected { code: status.code(), reason, message, violations: violations.collect() }
            }
        }
    }
}

/// What a status says that comes from a transport, a proxy or a newer node.
///
/// Transports report a connection that broke halfway as UNAVAILABLE, UNKNOWN, CANCELLED or INTERNAL, so none of these proves
/// that nothing was applied. Only a connection that was never made does.
fn effect_without_reason(status: &Status) -> Effect {
    if was_never_sent(status) {
        return Effect::NotApplied;
    }
    match status.code() {
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Effect::PerhapsApplied,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Effect::Rejected,
    }
}

fn was_never_sent(status: &Status) -> bool {
    causes(status).any(|error| error.is::<tonic::ConnectError>())
}

/// What the status says, and what led to it: "transport error" alone helps nobody.
fn described(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for cause in causes(status).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str, details: impl FnOnce(&mut ErrorDetails)) -> ApiError {
        let mut all = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
        details(&mut all);
        Status::with_error_details(code, "because", all).into()
    }

    #[test]
    fn the_reason_decides_and_not_the_code() {
        let error = refused(Code::Unavailable, "OUTCOME_UNKNOWN", |_| {});
        assert!(matches!(error, ApiError::Unknown { reason: Some(ErrorReason::OutcomeUnknown), .. }), "{error:?}");
        let error = refused(Code::DeadlineExceeded, "NOT_LEADER", |_| {});
        assert!(matches!(error, ApiError::NotApplied { reason: Some(ErrorReason::NotLeader), .. }), "{error:?}");
    }

    #[test]
    fn a_broken_connection_proves_nothing() {
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled, Code::DeadlineExceeded] {
            let error = ApiError::from(Status::new(code, "h2 protocol error"));
            assert!(matches!(error, ApiError::Unknown { reason: None, .. }), "{error:?}");
        }
    }

    #[test]
    fn a_connection_never_made_applies_nothing() {
        let connect = tonic::ConnectError("connection refused".into());
        let error = ApiError::from(Status::from_error(Box::new(connect)));
        assert!(matches!(error, ApiError::NotApplied { reason: None, .. }), "{error:?}");
        assert!(error.is_about_node());
    }

    #[test]
    fn an_error_of_the_transport_tells_its_causes() {
        let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "broken pipe");
        let mut status = Status::unavailable("transport error");
        status.set_source(std::sync::Arc::new(tonic::ConnectError(broken.into())));
        assert!(ApiError::from(status).to_string().ends_with("transport error: broken pipe"));
    }

    #[test]
    fn overload_tells_when_to_come_back() {
        let delay = Duration::from_millis(250);
        let error = refused(Code::ResourceExhausted, "OVERLOADED", |details| {
            details.set_retry_info(Some(delay));
        });
        assert!(matches!(error, ApiError::NotApplied { retry_after: Some(after), .. } if after == delay), "{error:?}");
        assert!(!error.is_about_node());
    }

    #[test]
    fn a_bad_request_names_its_fields() {
        let error = refused(Code::InvalidArgument, "INVALID", |details| {
            details.add_bad_request_violation("devices[3].kind", "no such kind");
        });
        let ApiError::Rejected { violations, .. } = error else { panic!("{error:?}") };
        assert_eq!(violations[0].field, "devices[3].kind");
    }

    #[test]
    fn a_foreign_reason_is_not_ours() {
        let details = ErrorDetails::with_error_info("NOT_LEADER", "example.com", HashMap::new());
        let error = ApiError::from(Status::with_error_details(Code::Unavailable, "proxy", details));
        assert!(matches!(error, ApiError::Unknown { reason: None, .. }), "{error:?}");
    }
}
