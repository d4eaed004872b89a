//! The feed: a shard's committed entries, in order, from any index that is still kept.

use std::sync::Arc;

use tokio::sync::watch;

use crate::log::GroupLog;
use crate::raft::Payload;
use crate::replica::Replica;
use crate::{LogIndex, ShardId, StateMachine};

/// Why a feed ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("{shard}: entries below {first} are gone from this replica")]
    Gone { shard: ShardId, first: LogIndex },
    #[error("{shard}: the log can not be read: {reason}")]
    Storage { shard: ShardId, reason: String },
    #[error("{shard}: the replica is closed here")]
    Stopped { shard: ShardId },
}

/// An entry of the feed.
pub struct FeedEntry<S: StateMachine> {
    pub index: LogIndex,
    pub entry: Arc<S::Entry>,
}

/// Reads committed and applied entries in order. It pulls, so a slow reader holds up nobody; one that falls behind what is
/// kept in memory reads from disk, and one that falls behind what is kept at all gets [`FeedError::Gone`].
pub struct FeedReader<S: StateMachine> {
    shard: ShardId,
    replica: Arc<Replica<S>>,
    log: GroupLog,
    applied: watch::Receiver<LogIndex>,
    position: LogIndex,
}

/// First index that can be read.
pub(crate) fn first_index<S: StateMachine>(replica: &Replica<S>, log: &GroupLog) -> LogIndex {
    LogIndex(log.first_index()).max(replica.installed_end())
}

impl<S: StateMachine> FeedReader<S> {
    pub(crate) fn new(shard: ShardId, replica: Arc<Replica<S>>, log: GroupLog, after: LogIndex) -> Self {
        let applied = replica.applied();
        Self { shard, replica, log, applied, position: after }
    }

    /// Index up to which everything was returned; moves on over entries that carry no facts.
    pub fn position(&self) -> LogIndex {
        self.position
    }

    /// The next entries, at least one and at most `entries_max`; waits while there are none. Cancel safe.
    pub async fn next(&mut self, entries_max: usize) -> Result<Vec<FeedEntry<S>>, FeedError> {
        let closed = self.replica.closed().clone();
        loop {
            if closed.is_cancelled() {
                return Err(FeedError::Stopped { shard: self.shard });
            }
            let applied = *self.applied.borrow_and_update();
            if self.position >= applied {
                closed.run_until_cancelled(self.applied.changed()).await;
                continue;
            }
            let (entries, through) = match self.replica.recent(self.position, entries_max) {
                Some(recents) => recents,
                None => self.read_log(applied, entries_max).await?,
            };
            self.position = through;
            if !entries.is_empty() {
                return Ok(entries.into_iter().map(|(index, entry)| FeedEntry { index, entry }).collect());
            }
        }
    }

    async fn read_log(&self, applied: LogIndex, entries_max: usize) -> Result<crate::replica::Recents<S>, FeedError> {
        let storage = |reason: String| FeedError::Storage { shard: self.shard, reason };
        let start = self.position.0 + 1;
        let read = self.log.read(start, applied.0 + 1).await;
        // Checked behind the read, since a purge or a snapshot may have come between.
        let first = first_index(&self.replica, &self.log);
        if first.0 > start {
            return Err(FeedError::Gone { shard: self.shard, first });
        }
        let mut entries = Vec::new();
        let mut through = self.position;
        for entry in read.map_err(|error| storage(error.to_string()))? {
            if entries.len() == entries_max {
                break;
            }
            through = LogIndex(entry.log_id.index());
            if let openraft::EntryPayload::Normal(Payload(bytes)) = &entry.payload {
                let decoded = S::decode(bytes).map_err(|error| storage(error.to_string()))?;
                entries.push((through, Arc::new(decoded)));
            }
        }
        Ok((entries, through))
    }
}
