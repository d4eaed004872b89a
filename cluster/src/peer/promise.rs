//! What followers have acknowledged to this node as a leader: one that takes it back has lost it, and is refused.
//!
//! The Raft library takes for granted that a follower keeps what it acknowledged. It panics, or counts on what is not there, when
//! a disk went back in time under an intact identity, as after a copy of it was put back. Such an answer never reaches it from
//! here: the follower is as good as gone until it has again what it had, or is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;

use crate::raft::Types;
use crate::{LogIndex, NodeId, ShardId};

/// Of the followers of one group.
pub(crate) type Promises = Arc<Mutex<BTreeMap<NodeId, Promise>>>;

/// What one follower has acknowledged to the leader of `term`.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    term: u64,
    /// Behind the last acknowledged entry.
    end: u64,
    /// It was said that the promise is broken.
    is_told: bool,
}

/// A follower has not the entry before `end` that it acknowledged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{target} has lost entry {at} of {shard}, although it acknowledged all before {end}: it gets nothing more; give it an \
     empty data directory and a new id"
)]
struct Broken {
    shard: ShardId,
    target: NodeId,
    at: LogIndex,
    end: LogIndex,
}

/// Notes what `target` acknowledges to the leader of `term`, and lets its answer pass unless it breaks a promise.
pub(super) fn keep(
    promises: &Promises,
    shard: ShardId,
    target: NodeId,
    term: u64,
    answer: StreamAppendResult<Types>,
) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
    let mut promises = promises.lock();
    let promise = promises.entry(target).or_default();
    let (at, end) = match &answer {
        Ok(Some(last)) => {
            promise.extend(term, last.index() + 1);
            return Ok(answer);
        }
        Err(StreamAppendError::Conflict(at)) => match promise.broken_at(term, at.index()) {
            Some(end) => (LogIndex(at.index()), LogIndex(end)),
            None => return Ok(answer),
        },
        Ok(None) | Err(StreamAppendError::HigherVote(_)) => return Ok(answer),
    };
    let broken = Broken { shard, target, at, end };
    if !std::mem::replace(&mut promise.is_told, true) {
        tracing::error!("{broken}");
    }
    Err(RPCError::Unreachable(Unreachable::new(&broken)))
}

impl Promise {
    fn extend(&mut self, term: u64, end: u64) {
        if term != self.term {
            // Another leadership may have had other entries in the same places.
            *self = Self { term, ..Self::default() };
        }
        if end >= self.end {
            *self = Self { term, end, is_told: false };
        }
    }

    /// The promised end, when a follower that lacks entry `at` breaks its promise.
    fn broken_at(&self, term: u64, at: u64) -> Option<u64> {
        (term == self.term && at < self.end).then_some(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_lacks_what_it_acknowledged_breaks_its_promise() {
        let mut promise = Promise::default();
        assert_eq!(promise.broken_at(3, 7), None, "nothing was promised");
        promise.extend(3, 8);
        promise.extend(3, 6);
        assert_eq!(promise.broken_at(3, 8), None, "that was never acknowledged");
        assert_eq!(promise.broken_at(3, 7), Some(8));
        assert_eq!(promise.broken_at(4, 7), None, "another leader may have other entries");
        promise.extend(4, 2);
        assert_eq!((promise.broken_at(4, 2), promise.broken_at(4, 1)), (None, Some(2)));
    }
}
