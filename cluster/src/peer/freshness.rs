//! How a follower knows how old its state is at most, although a message may lie in a socket for any time, a leader may have
//! lost its quorum without knowing, and no wall clock can be trusted.
//!
//! ```text
//!  follower                                leader
//!     stamp s ───── answer to an append ───► received at r
//!                                            a quorum confirmed it at q; by then all committed was at or below c
//!     as of s - (r - q) ◄─── next append ─── (c, s, r - q)
//! ```
//! Each side measures with its own steady clock alone. The stamp was taken before it was received, so what was committed at
//! `s - (r - q)` was committed at `q`: whoever has applied `c` had it all then. Every way and every pause counts in full, the
//! follower's since it looks at its own stamp, the leader's since `q` stays behind.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftMetrics;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::raft::Types;
use crate::{LogIndex, NodeId, wire};

type MetricsReceiver = openraft::alias::WatchReceiverOf<Types, RaftMetrics<Types>>;

/// At `at` this node led for certain; everything that was committed by then is at or below `committed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) at: Instant,
    pub(crate) committed: LogIndex,
}

impl Confirmed {
    /// When that was last so by what the Raft core says of itself. `None`: it does not lead, no quorum has answered it yet, or
    /// it has committed nothing of its own, and so does not know up to where its predecessor had.
    pub(crate) fn of(metrics: &RaftMetrics<Types>) -> Option<Self> {
        let committed = metrics.cluster_committed.as_ref()?;
        if !metrics.state.is_leader() || committed.committed_leader_id().term != metrics.vote.leader_id().term {
            return None;
        }
        let now = Instant::now();
        let at = now.checked_sub(metrics.last_quorum_acked?.elapsed())?;
        Some(Self { at, committed: LogIndex(committed.index()) })
    }
}

/// The leader's side, for one group: what it tells its followers. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Teller {
    metrics: Arc<OnceLock<MetricsReceiver>>,
    /// The last stamp of each follower, and when it was received.
    stamps: Arc<Mutex<BTreeMap<NodeId, (wire::Stamp, Instant)>>>,
}

impl Teller {
    /// Has it tell what the group's Raft core says. Until then, it tells nothing.
    pub(crate) fn follow(&self, metrics: MetricsReceiver) {
        drop(self.metrics.set(metrics));
    }

    pub(super) fn keep(&self, from: NodeId, stamp: Option<wire::Stamp>) {
        if let Some(stamp) = stamp {
            self.stamps.lock().insert(from, (stamp, Instant::now()));
        }
    }

    pub(super) fn word(&self, to: NodeId) -> wire::QuorumWord {
        // First the stamp: what is confirmed may be later.
        let stamped = self.stamps.lock().get(&to).copied();
        let confirmed = self.metrics.get().and_then(|metrics| Confirmed::of(&metrics.borrow_watched()));
        word(stamped, confirmed)
    }
}

/// What the leader tells a follower, whose stamp it received at a time.
fn word(stamped: Option<(wire::Stamp, Instant)>, confirmed: Option<Confirmed>) -> wire::QuorumWord {
    let (Some((stamp, received)), Some(confirmed)) = (stamped, confirmed) else { return wire::QuorumWord::default() };
    let age = received.saturating_duration_since(confirmed.at);
    let age_us = u64::try_from(age.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    wire::QuorumWord { committed: confirmed.committed.0, stamp: Some(stamp), age_us }
}

/// The follower's side, for one replica: takes stamps, and reads what comes back. Copies are the same.
#[derive(Clone, Copy)]
pub(crate) struct Stamper {
    /// Drawn, so that nobody takes the stamps of an earlier life for its own.
    replica: u64,
    begun: Instant,
}

impl Stamper {
    pub(crate) fn new(replica: u64) -> Self {
        Self { replica, begun: Instant::now() }
    }

    pub(super) fn stamp(&self, now: Instant) -> wire::Stamp {
        let elapsed = now.saturating_duration_since(self.begun);
        wire::Stamp { replica: self.replica, elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX) }
    }

    /// What a word means here. `None`: nothing, as when its stamp is another replica's.
    pub(super) fn read(&self, word: &wire::QuorumWord, now: Instant) -> Option<Confirmed> {
        let stamp = word.stamp.filter(|stamp| stamp.replica == self.replica)?;
        let taken = self.begun.checked_add(Duration::from_micros(stamp.elapsed_us)).filter(|taken| *taken <= now)?;
        Some(Confirmed {
            at: taken.checked_sub(Duration::from_micros(word.age_us))?,
            committed: LogIndex(word.committed),
        })
    }
}

#[cfg(test)]
mod tests;
