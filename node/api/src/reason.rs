//! What a reason says about the call that it ends: the one place that knows which reasons leave everything unchanged.

use crate::v1::ErrorReason;

/// The `domain` of the `google.rpc.ErrorInfo` in errors of this API.
pub const ERROR_DOMAIN: &str = "kvarter";

/// What a refused call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing; the same call may succeed later or on another node.
    NotApplied,
    /// Nobody knows yet.
    PerhapsApplied,
    /// Nothing; the same call will be refused again.
    Rejected,
}

impl ErrorReason {
    /// What a call changed that was refused with this reason. For the reasons that end a stream, `NotApplied` means that
    /// it can be resumed.
    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::NotLeader
            | Self::Overloaded
            | Self::DiskFull
            | Self::Draining
            | Self::Stopping
            | Self::Superseded
            | Self::TooSlow
            | Self::NoReplica => Effect::NotApplied,
            Self::Unspecified | Self::OutcomeUnknown | Self::BrokenContract => Effect::PerhapsApplied,
            Self::Invalid
            | Self::NotFound
            | Self::VersionConflict
            | Self::Limit
            | Self::KindInUse
            | Self::Gone
            | Self::Forbidden
            | Self::Unauthenticated
            | Self::Defect
            | Self::StreamExpired
            | Self::SequenceGap => Effect::Rejected,
        }
    }

    /// The called node may be to blame, and another one do better: it is leaving, cut off from the others, or without the shard.
    pub(crate) fn is_about_node(self) -> bool {
        matches!(self, Self::NotLeader | Self::OutcomeUnknown | Self::Draining | Self::Stopping | Self::NoReplica)
    }
}
