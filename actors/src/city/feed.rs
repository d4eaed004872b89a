//! A shard's feed on this node: from the local replica while it has the entries, else from others.

use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{FeedError, FeedReader, LogIndex, ShardHandle, ShardId, StateMachine};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::city::Inner;
use crate::city::call::Unserved;
use crate::message::{self, Failure, FailureReason};
use crate::{ShardState, message::Facts};

/// Entries of one answer.
const ENTRIES_MAX: usize = 256;

/// How long another replica waits for entries before it says that there are none.
const WAIT_MS: u32 = 2_000;

/// An answer from another replica is given up after this.
const ANSWER_MAX: Duration = Duration::from_secs(4);

const RETRY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };

/// Rounds over all replicas before the caller hears that none answers.
const ROUNDS_MAX: u32 = 5;

/// A replica that does not answer may have what all others have dropped. Reading is silent no longer than this.
const GONE_PATIENCE: Duration = Duration::from_secs(30);

/// Facts of one entry as readers see them.
#[derive(Clone, Debug)]
pub struct FeedEntry {
    pub index: LogIndex,
    pub facts: Arc<Facts>,
}

/// What is kept of a shard's feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedBounds {
    /// First entry that some replica keeps, such that each behind it is kept by some, too.
    pub first: LogIndex,
    /// Last entry that some replica has applied.
    pub applied: LogIndex,
}

impl FeedBounds {
    /// What several replicas keep together: up to the last entry of any, from where nothing is missing between. `None` of none.
    pub(super) fn joined(mut kept: Vec<Self>) -> Option<Self> {
        kept.sort_by_key(|bounds| std::cmp::Reverse(bounds.applied));
        kept.into_iter().reduce(|known, next| {
            let is_next = next.applied.0 + 1 >= known.first.0;
            if is_next { Self { first: known.first.min(next.first), ..known } } else { known }
        })
    }
}

/// Reads the entries of one shard in order.
pub struct CityFeed {
    pub(super) inner: Arc<Inner>,
    pub(super) shard: ShardId,
    pub(super) position: LogIndex,
    /// `None`: another replica serves.
    pub(super) local: Option<FeedReader<ShardState>>,
    /// The position behind which the local log could not be read.
    pub(super) unreadable: Option<LogIndex>,
    /// Since when most replicas have said that the entries are gone.
    pub(super) gone_since: Option<Instant>,
}

impl CityFeed {
    /// Index up to which everything was returned; moves on over entries that carry no facts.
    pub fn position(&self) -> LogIndex {
        self.position
    }

    /// The next entries, at least one; waits while there are none. Cancel safe.
    ///
    /// `GONE`: no replica keeps the entries behind [`CityFeed::position`], or most do not and the others did not answer for half a
    /// minute. `NOT_LEADER`: no replica that may have them answers now; calling again goes on from the same position.
    pub async fn next(&mut self) -> Result<Vec<FeedEntry>, Failure> {
        loop {
            self.come_home();
            let entries = if self.local.is_some() { self.next_local().await? } else { self.next_remote().await? };
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// Reads from the local replica once it has what is next. One that is still being filled is behind the reader, and a damaged
    /// one is not asked twice for the same.
    fn come_home(&mut self) {
        if self.local.is_some() || self.unreadable == Some(self.position) {
            return;
        }
        let handle = self.inner.cluster.shard(self.shard);
        let has_next = |handle: &ShardHandle<ShardState>| {
            handle.first_index().0 <= self.position.0 + 1 && handle.view().applied >= self.position
        };
        if let Some(handle) = handle.filter(has_next) {
            self.local = Some(handle.feed(self.position));
        }
    }

    async fn next_local(&mut self) -> Result<Vec<FeedEntry>, Failure> {
        let Some(reader) = &mut self.local else { return Ok(Vec::new()) };
        match reader.next(ENTRIES_MAX).await {
            Ok(entries) => {
                self.position = reader.position();
                Ok(entries.into_iter().map(|entry| FeedEntry { index: entry.index, facts: entry.entry }).collect())
            }
            // The entries, or the whole replica, have left this node: another one serves.
            Err(FeedError::Gone { .. } | FeedError::Stopped { .. }) => {
                self.local = None;
                self.next_remote().await
            }
            Err(error @ FeedError::Storage { .. }) => {
                tracing::error!(position = %self.position, %error, "another replica is to serve the feed");
                (self.local, self.unreadable) = (None, Some(self.position));
                self.next_remote().await
            }
        }
    }

    /// Entries from another replica; none when there were none for a while.
    async fn next_remote(&mut self) -> Result<Vec<FeedEntry>, Failure> {
        let mut rounds = 0;
        let answer = loop {
            let read = message::ReadFeed { after: self.position.0, wait_ms: WAIT_MS, only_bounds: false };
            match self.inner.read_feed_anywhere(self.shard, read, Instant::now() + ANSWER_MAX).await {
                Ok(answer) => break answer,
                Err(Unserved { failure, .. }) if failure.reason() == FailureReason::Gone => return Err(failure),
                Err(Unserved { failure, is_gone_at_most: true }) => {
                    let since = *self.gone_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= GONE_PATIENCE {
                        let text = format!(
                            "{}: the entries behind {} are gone: {}",
                            self.shard, self.position, failure.message
                        );
                        return Err(Failure::new(FailureReason::Gone, text));
                    }
                }
                Err(Unserved { failure, .. }) if rounds >= ROUNDS_MAX => return Err(failure),
                Err(_unanswered) => self.gone_since = None,
            }
            rounds += 1;
            sleep(RETRY_BACKOFF.delay(rounds, self.inner.cluster.ports().random.next_u64())).await;
        };
        self.gone_since = None;
        let entries = answer.entries.into_iter().map(|entry| {
            let facts = ShardState::decode(&entry.facts).map_err(|error| {
                let text = format!("{}: entry {} from another replica: {error}", self.shard, entry.index);
                Failure::new(FailureReason::NotLeader, text)
            })?;
            Ok(FeedEntry { index: LogIndex(entry.index), facts: Arc::new(facts) })
        });
        let entries = entries.collect::<Result<Vec<_>, Failure>>()?;
        self.position = self.position.max(LogIndex(answer.through));
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replicas_keep_together_has_no_hole() {
        let joined = |kept: &[(u64, u64)]| {
            let kept =
                kept.iter().map(|(first, applied)| FeedBounds { first: LogIndex(*first), applied: LogIndex(*applied) });
            FeedBounds::joined(kept.collect()).map(|bounds| (bounds.first.0, bounds.applied.0))
        };
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&[(40, 98), (30, 100), (45, 99)]), Some((30, 100)));
        assert_eq!(joined(&[(1, 39), (40, 100)]), Some((1, 100)));
        // A replica that was away for long is no way to what lies between.
        assert_eq!(joined(&[(1, 20), (40, 100)]), Some((40, 100)));
    }
}
