//! The log store of a node: the logs and votes of all its Raft groups in one `raft-engine`, with one sync for all.
//!
//! Start at [`LogStore::open`]; [`GroupLog`] is one group's part and implements the Raft library's traits in `log/group.rs`.
//! One flusher thread (`log/flusher.rs`) takes what waits, writes one batch, syncs once and completes all. An error or a
//! panic there aborts the process: after a failed sync nobody knows what the disk has.

mod engine;
mod flusher;
mod group;
mod mark;
mod record;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use raft_engine::Engine;

use crate::ShardId;
use flusher::{FlusherSender, Operation};
pub(crate) use group::GroupLog;
#[cfg(fuzzing)]
pub(crate) use {mark::fuzz as fuzz_mark, record::fuzz as fuzz_record};
use mark::RoundMark;

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
    #[error("the log of {shard} is damaged: {reason}")]
    Damaged { shard: ShardId, reason: String },
}

/// The logs and votes of all groups of a node.
pub(crate) struct LogStore {
    engine: Arc<Engine>,
    flusher: FlusherSender,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LogStore {
    /// Opens or makes the log in `directory`, with its round mark beside it. Files are dropped once the groups together keep less than `retention_bytes`.
    pub(crate) fn open(directory: &Path, retention_bytes: u64) -> Result<Self, LogError> {
        let failed = |reason: String| LogError::Open { path: directory.display().to_string(), reason };
        let config =
            engine::config(directory, retention_bytes).ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
        let engine = Arc::new(Engine::open(config).map_err(|error| failed(error.to_string()))?);
        // The engine syncs its directory on rotation, but not for the first file.
        std::fs::File::open(directory).and_then(|file| file.sync_all()).map_err(|error| failed(error.to_string()))?;
        let (mark, acknowledged) =
            RoundMark::open(&directory.with_extension("round")).map_err(|error| failed(error.to_string()))?;
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
        let (flusher, thread) =
            flusher::start(Arc::clone(&engine), mark, round).map_err(|error| failed(error.to_string()))?;
        Ok(Self { engine, flusher, thread: Mutex::new(Some(thread)) })
    }

    /// One group's part of the log. Open it once.
    pub(crate) fn group(&self, shard: ShardId) -> Result<GroupLog, LogError> {
        GroupLog::open(shard, Arc::clone(&self.engine), self.flusher.clone())
    }

    /// Drops files that no group needs; returns groups whose old entries keep a file alive.
    pub(crate) fn purge_files(&self) -> Result<Vec<ShardId>, LogError> {
        let groups = self
            .engine
            .purge_expired_files()
            .map_err(|error| LogError::Open { path: self.engine.path().to_owned(), reason: error.to_string() })?;
        Ok(groups.into_iter().filter_map(|group| u32::try_from(group).ok()).map(ShardId).collect())
    }

    /// Writes and syncs what waits, then ends the flusher. Blocks.
    pub(crate) fn close(&self) {
        self.flusher.send(Operation::Stop);
        if let Some(thread) = self.thread.lock().take() {
            thread.join().expect("the flusher aborts the process rather than panic");
        }
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.close();
    }
}
