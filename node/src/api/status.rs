//! What callers are told when something is refused: the one place that maps failures of the city to gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with domain `kvarter` and a reason that programs may match on; a wrong
//! field adds `BadRequest`, a full queue or disk `RetryInfo`. `UNAVAILABLE` always means *certainly not applied*, and
//! `DEADLINE_EXCEEDED` with reason `OUTCOME_UNKNOWN` means *perhaps applied*.

use std::collections::HashMap;
use std::time::Duration;

use kvarter_actors::message::{Failure, FailureReason};
use kvarter_api::ERROR_DOMAIN;
use kvarter_api::v1::ErrorReason;
use kvarter_cluster::ShardId;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// When an overloaded shard did not say when to try again.
const RETRY_DELAY_DEFAULT: Duration = Duration::from_millis(100);

/// Characters of an error's text.
const TEXT_CHARS_MAX: usize = 512;

/// The status that tells a caller about `failure`.
pub(crate) fn of_failure(failure: &Failure) -> Status {
    let reason = failure.reason();
    let (code, public) = match reason {
        // A reason that this version does not know: nothing may be concluded from it.
        FailureReason::Unspecified => (Code::Unknown, ErrorReason::OutcomeUnknown),
        FailureReason::NotLeader => (Code::Unavailable, ErrorReason::NotLeader),
        FailureReason::Unknown => (Code::DeadlineExceeded, ErrorReason::OutcomeUnknown),
        FailureReason::Overloaded => (Code::ResourceExhausted, ErrorReason::Overloaded),
        FailureReason::DiskFull => (Code::ResourceExhausted, ErrorReason::DiskFull),
        FailureReason::NotFound => (Code::NotFound, ErrorReason::NotFound),
        FailureReason::Invalid => (Code::InvalidArgument, ErrorReason::Invalid),
        FailureReason::Conflict => (Code::Aborted, ErrorReason::VersionConflict),
        FailureReason::StreamExpired => (Code::FailedPrecondition, ErrorReason::StreamExpired),
        FailureReason::Forbidden => (Code::PermissionDenied, ErrorReason::Forbidden),
        FailureReason::SequenceGap | FailureReason::AlreadyAccepted => (Code::Aborted, ErrorReason::SequenceGap),
        FailureReason::Limit => (Code::FailedPrecondition, ErrorReason::Limit),
        FailureReason::InUse => (Code::FailedPrecondition, ErrorReason::KindInUse),
        FailureReason::Gone => (Code::OutOfRange, ErrorReason::Gone),
        FailureReason::Defect => (Code::Internal, ErrorReason::Defect),
        FailureReason::Superseded => (Code::Aborted, ErrorReason::Superseded),
    };
    let mut details = details(public);
    if matches!(reason, FailureReason::Overloaded | FailureReason::DiskFull) {
        let delay = match failure.retry_after_ms {
            0 => RETRY_DELAY_DEFAULT,
            delay_ms => Duration::from_millis(u64::from(delay_ms)),
        };
        details.set_retry_info(Some(delay));
    }
    if !failure.field.is_empty() {
        details.add_bad_request_violation(short(&failure.field), short(&failure.message));
    }
    answer(code, failure.message.as_str(), details)
}

/// A request whose `field` is wrong; nothing was changed.
pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Status {
    let (field, problem) = (field.into(), problem.into());
    let message = format!("{field}: {problem}");
    let mut details = details(ErrorReason::Invalid);
    details.add_bad_request_violation(short(&field), short(&problem));
    answer(Code::InvalidArgument, message, details)
}

/// Something that the request names does not exist.
pub(crate) fn not_found(message: impl Into<String>) -> Status {
    answer(Code::NotFound, message, details(ErrorReason::NotFound))
}

/// The caller showed no certificate that names it.
pub(crate) fn unauthenticated(message: impl Into<String>) -> Status {
    answer(Code::Unauthenticated, message, details(ErrorReason::Unauthenticated))
}

/// The cluster can not do without the node that the caller wants to remove.
pub(crate) fn limit(message: impl Into<String>) -> Status {
    answer(Code::FailedPrecondition, message, details(ErrorReason::Limit))
}

/// Nobody can be asked to change the cluster; nothing was changed.
pub(crate) fn not_leader(message: impl Into<String>) -> Status {
    answer(Code::Unavailable, message, details(ErrorReason::NotLeader))
}

/// Whether the cluster is changed is not known.
pub(crate) fn unknown(message: impl Into<String>) -> Status {
    answer(Code::DeadlineExceeded, message, details(ErrorReason::OutcomeUnknown))
}

/// What the caller asks for belongs to someone else.
pub(crate) fn forbidden(message: impl Into<String>) -> Status {
    answer(Code::PermissionDenied, message, details(ErrorReason::Forbidden))
}

/// This node takes no new work; another one does.
pub(crate) fn draining() -> Status {
    answer(Code::Unavailable, "the node is draining, use another one", details(ErrorReason::Draining))
}

/// A stream that ends because its node stops; it can be resumed elsewhere.
pub(crate) fn stopping() -> Status {
    answer(Code::Unavailable, "the node is stopping, resume on another one", details(ErrorReason::Stopping))
}

/// Another connection of the same stream took its place.
pub(crate) fn superseded() -> Status {
    let message = "the stream was resumed on another connection";
    answer(Code::Aborted, message, details(ErrorReason::Superseded))
}

/// A subscriber that did not read in time; the `next` of its last message is its cursor.
pub(crate) fn too_slow() -> Status {
    let message = "the subscriber reads too slowly, resume from the `next` of each shard's last message";
    answer(Code::Aborted, message, details(ErrorReason::TooSlow))
}

/// Only the replicas of the shard know this, and none told this node in time.
pub(crate) fn no_replica(shard: ShardId) -> Status {
    let message = format!("no replica of {shard} answers this node: see ClusterAdmin.GetClusterStatus");
    answer(Code::Unavailable, message, details(ErrorReason::NoReplica))
}

/// A shard or peer answered what its contract does not allow: a defect, told with what was seen.
pub(crate) fn broken_contract(message: impl Into<String>) -> Status {
    answer(Code::Internal, message, details(ErrorReason::BrokenContract))
}

/// A status is sent in headers, which clients bound: what it quotes of a request may be as long as a request.
fn answer(code: Code, message: impl Into<String>, details: ErrorDetails) -> Status {
    Status::with_error_details(code, short(&message.into()), details)
}

fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn details(reason: ErrorReason) -> ErrorDetails {
    ErrorDetails::with_error_info(reason.as_str_name(), ERROR_DOMAIN, HashMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: FailureReason) -> Failure {
        Failure { reason: reason.into(), message: "shard-3 said so".to_owned(), ..Failure::default() }
    }

    #[test]
    fn a_status_fits_into_headers_whatever_it_quotes() {
        let status = invalid("name", "å".repeat(100_000));
        assert!(status.message().chars().count() <= TEXT_CHARS_MAX + 1 && status.details().len() < 4_096);
        assert!(status.message().starts_with("name: åå") && status.message().ends_with('…'));
    }

    #[test]
    fn only_certainly_not_applied_is_unavailable() {
        let unavailable: Vec<_> = (0..=16)
            .filter_map(|number| FailureReason::try_from(number).ok())
            .filter(|reason| of_failure(&failure(*reason)).code() == Code::Unavailable)
            .collect();
        assert_eq!(unavailable, [FailureReason::NotLeader]);
    }

    #[test]
    fn an_unknown_outcome_says_so() {
        let status = of_failure(&failure(FailureReason::Unknown));
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let info = status.get_error_details().error_info().cloned().expect("an error info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OUTCOME_UNKNOWN", "kvarter"));
    }

    #[test]
    fn overload_tells_when_to_retry() {
        let status = of_failure(&Failure { retry_after_ms: 250, ..failure(FailureReason::Overloaded) });
        let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_full_disk_is_told_apart_from_overload() {
        let status = of_failure(&Failure { retry_after_ms: 1_000, ..failure(FailureReason::DiskFull) });
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().expect("an error info").reason, "DISK_FULL");
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let status = of_failure(&Failure { field: "set[1].value".to_owned(), ..failure(FailureReason::Invalid) });
        let details = status.get_error_details();
        let violations = &details.bad_request().expect("a bad request").field_violations;
        assert_eq!(violations[0].field, "set[1].value");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}
