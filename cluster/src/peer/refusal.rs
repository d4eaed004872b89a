//! Why a node turns another one away, and what the other makes of it.

use tonic::Status;
use tonic::metadata::MetadataValue;

/// Marks refusals that are about the node and not about the request.
const KEY: &str = "kvarter-refusal";

/// Why a node has no part in its cluster, as the others told it: it should end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expulsion {
    /// It was removed, and its id is never used again.
    Removed,
    /// Its disk is not the one that it had, another process runs from that, or it is of another cluster.
    Refused { reason: String },
}

/// A refusal that tells a node that it may have no part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Removed,
    /// A process was started as the same node later.
    Superseded,
    /// Another process is the same node, or was a moment ago.
    Doubled,
    /// It has another disk, or is of another cluster. Of two strangers, each says so of the other.
    Stranger,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Removed, Self::Superseded, Self::Doubled, Self::Stranger];

    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Superseded => "superseded",
            Self::Doubled => "doubled",
            Self::Stranger => "stranger",
        }
    }

    pub(super) fn status(self, reason: String) -> Status {
        let mut status = refused(reason);
        status.metadata_mut().insert(KEY, MetadataValue::from_static(self.name()));
        status
    }

    pub(super) fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(KEY)?.to_str().ok()?;
        Self::ALL.into_iter().find(|refusal| refusal.name() == name)
    }
}

/// A refusal without a meaning of its own.
pub(super) fn refused(reason: String) -> Status {
    Status::permission_denied(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_status() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(&refusal.status("so it is".to_owned())), Some(refusal));
        }
        assert_eq!(Refusal::of(&refused("a malformed request".to_owned())), None);
    }
}
