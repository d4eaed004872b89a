//! The log store of a node: the logs and votes of all its Raft groups in one `raft-engine`, with one sync for all.
//!
//! Start at [`LogStore::open`]; [`GroupLog`] is one group's part and implements the Raft library's traits in `log/group.rs`.
//! One flusher thread (`log/flusher.rs`) takes what waits, writes one batch, syncs once and completes all. An error or a
//! panic there aborts the process: after a failed sync nobody knows what the disk has.

mod engine;
mod files;
mod flusher;
#[cfg(fuzzing)]
mod fuzz;
mod group;
mod mark;
mod record;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raft_engine::Engine;

use crate::ports::storage::in_place;
use crate::{ShardId, Storage};
pub(crate) use engine::Sizes;
use engine::{FILE_BYTES, LogEngine};
use files::Files;
use flusher::Flusher;
pub(crate) use group::GroupLog;
use mark::RoundMark;
#[cfg(fuzzing)]
pub(crate) use {fuzz::record as fuzz_record, mark::fuzz as fuzz_mark};

/// Why the log store can not be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log in {path} can not be opened: {reason}")]
    Open { path: String, reason: String },
    /// Starting all the same would break what this node promised to its peers.
    #[error(
        "the log in {path} ends with round {round}, but round {acknowledged} was acknowledged: the disk lost entries; \
         give the node an empty data directory and a new id"
    )]
    Lost { path: String, round: u64, acknowledged: u64 },
    /// The identity is still there: starting with an empty log would break the same promises.
    #[error(
        "the log in {path} is gone, and the node is of a cluster already: give it an empty data directory and a new id"
    )]
    Gone { path: String },
    #[error("the log of {shard} is damaged: {reason}")]
    Damaged { shard: ShardId, reason: String },
}

/// How much log is kept at least, about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    Bytes(u64),
    /// Half of what there is.
    Half,
}

/// The logs and votes of all groups of a node.
pub(crate) struct LogStore {
    storage: Arc<dyn Storage>,
    engine: Arc<LogEngine>,
    flusher: Flusher,
}

impl LogStore {
    /// Opens or makes the log in `directory`, with its round mark beside it. Files are dropped once the groups together keep less
    /// than `kept`.
    pub(crate) fn open(storage: Arc<dyn Storage>, directory: &Path, kept: Kept) -> Result<Self, LogError> {
        let sizes = match kept {
            Kept::Bytes(bytes) => Sizes::of_retention(bytes),
            Kept::Half => {
                let bytes = bytes(&*storage, directory).map_err(|error| LogError::Open {
                    path: directory.display().to_string(),
                    reason: error.to_string(),
                })?;
                // The engine keeps one file beside the one that it writes.
                Sizes { file: FILE_BYTES, all: (bytes / 2).max(FILE_BYTES) }
            }
        };
        Self::open_sized(storage, directory, &sizes)
    }

    pub(crate) fn open_sized(storage: Arc<dyn Storage>, directory: &Path, sizes: &Sizes) -> Result<Self, LogError> {
        let failed = |reason: String| LogError::Open { path: directory.display().to_string(), reason };
        let files = Files::open(Arc::clone(&storage), directory).map_err(|error| failed(error.to_string()))?;
        let config =
            engine::config(files.listing(), sizes).ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
        let engine = Engine::open_with_file_system(config, Arc::new(files));
        let engine = Arc::new(engine.map_err(|error| failed(error.to_string()))?);
        let (mark, acknowledged) = RoundMark::open(&*storage, &directory.with_extension("round"))
            .map_err(|error| failed(error.to_string()))?;
        let round = flusher::last_round(&engine);
        match acknowledged {
            Some(acknowledged) if round < acknowledged => {
                let path = directory.display().to_string();
                return Err(LogError::Lost { path, round, acknowledged });
            }
            None if !engine.is_empty() => {
                tracing::warn!(?directory, "the log's round mark is missing or unreadable: lost entries go unnoticed");
            }
            Some(_) | None => {}
        }
        let flusher = Flusher::start(Arc::clone(&storage), Arc::clone(&engine), mark, round)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { storage, engine, flusher })
    }

    /// Whether a vote of `shard` was ever stored: before anything else of a group, one is.
    pub(crate) fn has_vote(&self, shard: ShardId) -> bool {
        self.engine.get(u64::from(shard.0), flusher::VOTE_KEY).is_some()
    }

    /// One group's part of the log. Open it once.
    pub(crate) fn group(&self, shard: ShardId) -> Result<GroupLog, LogError> {
        GroupLog::open(shard, Arc::clone(&self.storage), Arc::clone(&self.engine), self.flusher.sender())
    }

    /// Tells `observer` how long each round took from its begin until it was synced, from now on; it is called before the round is
    /// acknowledged, and must not wait. The first one stays; whether it is this one.
    pub(crate) fn observe_syncs(&self, observer: impl Fn(Duration) + Send + Sync + 'static) -> bool {
        self.flusher.observe(Box::new(observer))
    }

    /// For how long the round that is being written has not been synced; zero when none is.
    pub(crate) fn sync_pending(&self) -> Duration {
        self.flusher.pending()
    }

    /// Drops files that no group needs; returns groups whose old entries keep a file alive. A panic of the engine, as after a
    /// failed sync, ends the process.
    pub(crate) fn purge_files(&self) -> Result<Vec<ShardId>, LogError> {
        let purge = || catch_unwind(AssertUnwindSafe(|| self.engine.purge_expired_files()));
        let Ok(purged) = in_place(&*self.storage, purge) else {
            self.storage.fail("old log files can not be dropped: the engine panicked");
            return Ok(Vec::new());
        };
        let groups = purged
            .map_err(|error| LogError::Open { path: self.engine.path().to_owned(), reason: error.to_string() })?;
        Ok(groups.into_iter().filter_map(|group| u32::try_from(group).ok()).map(ShardId).collect())
    }

    /// Writes and syncs what waits, then ends the flusher.
    pub(crate) async fn close(&self) {
        self.flusher.stop().await;
    }
}

/// Bytes of all files in `path`.
fn bytes(storage: &dyn Storage, path: &Path) -> std::io::Result<u64> {
    if !storage.exists(path)? {
        return Ok(0);
    }
    let mut bytes = 0;
    let listing = storage.listing(path)?;
    for entry in std::fs::read_dir(&listing.directory)? {
        bytes += storage.open(&path.join(entry?.file_name()))?.length()?;
    }
    Ok(bytes)
}
