//! What an application replicates: the state machine and the views of it.

use bytes::Bytes;

use crate::{LogIndex, Page, PageId};

/// The state that a shard replicates. `Clone` makes a view and must be cheap: keep everything in [`crate::PageTable`]s.
pub trait StateMachine: Clone + Default + Send + Sync + 'static {
    /// A decoded entry: decoded once a node, shared by `apply` and all readers of the feed.
    type Entry: Send + Sync + 'static;

    /// Decodes a committed payload. Only what this version of the program proposes or accepts reaches the log, so an
    /// error here stops the replica.
    fn decode(payload: &Bytes) -> Result<Self::Entry, DamagedBytes>;

    /// Applies a committed entry: deterministic, reads no clock, no randomness and no hash order, and can not fail.
    fn apply(&mut self, index: LogIndex, entry: &Self::Entry);

    /// The last entry that no reader with a cursor in this state still needs; `None`: none does. Retention keeps what follows it
    /// for twice as long as anything else.
    fn read_by_all(&self) -> Option<LogIndex> {
        None
    }

    /// All pages ever written, in the order of their ids.
    fn pages(&self) -> Vec<Page>;

    /// The state whose `pages` encode to these.
    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes>;
}

/// Bytes that do not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged bytes: {reason}")]
pub struct DamagedBytes {
    pub reason: String,
}

/// The state at an index. Never changes: hold it briefly, since pages that change meanwhile are copied.
#[derive(Clone)]
pub struct View<S> {
    pub applied: LogIndex,
    pub state: S,
}

/// XXH3-128 over ids and bytes of all pages: equal for replicas with equal states.
pub(crate) fn state_hash(pages: &[Page]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let mut buffer = Vec::new();
    for page in pages {
        buffer.clear();
        page.encode(&mut buffer);
        hasher.update(&[page.id.table]);
        hasher.update(&page.id.number.to_le_bytes());
        hasher.update(&(buffer.len() as u64).to_le_bytes());
        hasher.update(&buffer);
    }
    hasher.digest128()
}
