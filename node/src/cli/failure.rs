//! Why a call failed, with what the caller can do about it.

use std::fmt;

use kvarter_api::ApiError;
use kvarter_api::v1::ErrorReason;

/// A call that failed.
#[derive(Debug)]
struct Failure(ApiError);

/// The error of a command whose call failed.
pub(super) fn explained(error: ApiError) -> anyhow::Error {
    Failure(error).into()
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if let ApiError::Rejected { message, violations, .. } = &self.0 {
            for violation in violations.iter().filter(|violation| !message.contains(&violation.description)) {
                write!(f, "\n  {}: {}", violation.field, violation.description)?;
            }
        }
        advice(&self.0).map_or(Ok(()), |advice| write!(f, "\n  {advice}"))
    }
}

fn advice(error: &ApiError) -> Option<&'static str> {
    match (error, error.reason()) {
        (_, Some(ErrorReason::NotFound)) => Some("see what there is with `kvarter twin list` and `kvarter kind list`"),
        (_, Some(ErrorReason::Invalid)) => Some("see what a kind allows with `kvarter kind get KIND`"),
        (_, Some(ErrorReason::KindInUse)) => Some("see which they are with `kvarter twin list --kind KIND`"),
        (_, Some(ErrorReason::VersionConflict)) => {
            Some("it was changed meanwhile: look at it with `kvarter twin get`, then decide again")
        }
        (_, Some(ErrorReason::Overloaded)) => Some("the cluster is busy: try again later"),
        (_, Some(ErrorReason::DiskFull)) => {
            Some("the disks are nearly full: make room, or lower `retention.bytes` and restart the node")
        }
        (_, Some(ErrorReason::Unauthenticated)) => {
            Some("the certificate is refused: name another client profile with --profile")
        }
        (ApiError::NotApplied { .. }, _) => {
            Some("nothing was changed; `kvarter cluster status` tells how the cluster is")
        }
        (ApiError::Unknown { .. }, _) => Some("it may have happened or may still happen: look before you repeat it"),
        (ApiError::Rejected { .. }, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_warns_of_repeating() {
        let error = ApiError::Unknown { reason: None, message: "no answer".to_owned() };
        let text = explained(error).to_string();
        assert!(text.starts_with("perhaps applied: no answer\n") && text.contains("before you repeat"), "{text}");
    }

    #[test]
    fn fields_that_are_wrong_are_listed() {
        let violation =
            kvarter_api::FieldViolation { field: "set[0]".to_owned(), description: "is not writable".to_owned() };
        let error = ApiError::Rejected {
            code: tonic::Code::InvalidArgument,
            reason: Some(ErrorReason::Invalid),
            message: "no".to_owned(),
            violations: vec![violation],
        };
        assert!(explained(error).to_string().contains("\n  set[0]: is not writable\n"));
    }
}
