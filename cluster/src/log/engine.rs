//! How the log store sets up `raft-engine`. The benchmark includes this file: it must measure the same engine.

use std::path::Path;

use raft_engine::{Config, Engine, ReadableSize};

use super::files::Files;

pub(super) type LogEngine = Engine<Files>;

/// Bytes of a file.
pub(super) const FILE_BYTES: u64 = 64 << 20;

/// How large files may grow, bytes.
pub(crate) struct Sizes {
    /// One file, about.
    pub(crate) file: u64,
    /// All files together, about, before the engine drops the oldest.
    pub(crate) all: u64,
}

impl Sizes {
    /// Above the retention, so that the engine asks for compaction of quiet groups alone.
    pub(crate) fn of_retention(bytes: u64) -> Self {
        Self { file: FILE_BYTES, all: bytes.max(2 * FILE_BYTES) * 5 / 4 }
    }
}

/// The engine's settings for a log in `directory`; `None` if that path is not UTF-8.
pub(super) fn config(directory: &Path, sizes: &Sizes) -> Option<Config> {
    Some(Config {
        dir: directory.to_str()?.to_owned(),
        // Facts are packed already, and compression would cost more than it saves.
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(sizes.file),
        purge_threshold: ReadableSize(sizes.all),
        ..Config::default()
    })
}
