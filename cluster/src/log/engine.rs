//! How the log store sets up `raft-engine`. The benchmark includes this file: it must measure the same engine.

use std::path::Path;

use raft_engine::{Config, Engine, ReadableSize};

use super::files::Files;

pub(super) type LogEngine = Engine<Files>;

/// The engine's settings for a log in `directory`; `None` if that path is not UTF-8.
pub(super) fn config(directory: &Path, retention_bytes: u64) -> Option<Config> {
    Some(Config {
        dir: directory.to_str()?.to_owned(),
        // Facts are packed already, and compression would cost more than it saves.
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize::mb(64),
        // Above the retention, so that the engine asks for compaction of quiet groups alone.
        purge_threshold: ReadableSize(retention_bytes.max(128 << 20) * 5 / 4),
        ..Config::default()
    })
}
