//! How the entries fare that this node's shards propose: how many are under way, how each ended, and how long it took.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kvarter_cluster::ShardId;
use tokio::time::Instant;

use crate::shard::state::Loss;

/// What became of a proposed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalOutcome {
    /// Synced on a quorum, and applied here.
    Committed,
    /// Certainly not applied: another node leads.
    NotLeader,
    /// Perhaps applied.
    Unknown,
}

/// A proposed entry whose outcome is known.
#[derive(Clone, Copy, Debug)]
pub struct ProposalEnd {
    pub shard: ShardId,
    pub outcome: ProposalOutcome,
    /// From handing the entry to the log.
    pub took: Duration,
}

type Observer = Box<dyn Fn(ProposalEnd) + Send + Sync>;

/// The account of a node, all its shards together.
#[derive(Default)]
pub(crate) struct Proposals {
    pending: AtomicUsize,
    observer: OnceLock<Observer>,
}

impl Proposals {
    /// Tells `observer` of each end from now on. The first one stays; whether it is this one.
    pub(crate) fn observe(&self, observer: Observer) -> bool {
        self.observer.set(observer).is_ok()
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// An entry is handed to the log.
    pub(crate) fn begin(self: &Arc<Self>, shard: ShardId) -> PendingProposal {
        self.pending.fetch_add(1, Ordering::Relaxed);
        PendingProposal { proposals: Arc::clone(self), shard, began: Instant::now() }
    }
}

impl fmt::Debug for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposals").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

/// An entry under way. Dropped without an end, nobody waits for its outcome any more.
pub(crate) struct PendingProposal {
    proposals: Arc<Proposals>,
    shard: ShardId,
    began: Instant,
}

impl PendingProposal {
    pub(crate) fn end<T>(self, outcome: &Result<T, Loss>) {
        let outcome = match outcome {
            Ok(_) => ProposalOutcome::Committed,
            Err(Loss::NotLeader) => ProposalOutcome::NotLeader,
            Err(Loss::Unknown) => ProposalOutcome::Unknown,
        };
        if let Some(observer) = self.proposals.observer.get() {
            observer(ProposalEnd { shard: self.shard, outcome, took: self.began.elapsed() });
        }
    }
}

impl Drop for PendingProposal {
    fn drop(&mut self) {
        self.proposals.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_end_is_told_with_its_time_and_nothing_stays_pending() {
        let proposals = Arc::new(Proposals::default());
        let (ends_tx, ends) = mpsc::channel();
        assert!(proposals.observe(Box::new(move |end| ends_tx.send((end.shard, end.outcome, end.took)).unwrap())));
        assert!(!proposals.observe(Box::new(|_| {})), "the first observer stays");
        let (first, second) = (proposals.begin(ShardId(3)), proposals.begin(ShardId(4)));
        let abandoned = proposals.begin(ShardId(5));
        tokio::time::advance(Duration::from_millis(7)).await;
        assert_eq!(proposals.pending(), 3);
        first.end(&Ok(()));
        second.end::<()>(&Err(Loss::Unknown));
        drop(abandoned);
        assert_eq!(proposals.pending(), 0);
        let took = Duration::from_millis(7);
        let told: Vec<_> = ends.try_iter().collect();
        let (committed, unknown) = (ProposalOutcome::Committed, ProposalOutcome::Unknown);
        assert_eq!(told, [(ShardId(3), committed, took), (ShardId(4), unknown, took)]);
    }
}
