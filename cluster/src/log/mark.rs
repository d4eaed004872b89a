//! The round mark: the number of the last synced round, kept beside the log.
//!
//! `raft-engine` takes damage in its last file for a torn tail and drops what follows, without an error. Every synced round
//! carries its number, so a log that ends before its mark is known to have lost what was acknowledged.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Storage, StoredFile};

/// The number and its checksum, little-endian.
const MARK_BYTES: usize = 16;

pub(super) struct RoundMark(Box<dyn StoredFile>);

impl RoundMark {
    /// Opens or makes the mark in `path`, and returns the round that it names: `None` when it is new or unreadable.
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = storage.create(path)?;
        let mut bytes = [0; MARK_BYTES];
        let round = if file.read_at(&mut bytes, 0)? == MARK_BYTES { decode(bytes) } else { None };
        let mark = Self(file);
        if round.is_none() {
            // Its blocks are there from now on, so that no later write changes the file's size. What the log has is not
            // noted: after a crash, its end may be in memory only.
            mark.write(0)?;
            mark.0.sync()?;
            if let Some(directory) = path.parent() {
                storage.sync_directory(directory)?;
            }
        }
        Ok((mark, round))
    }

    /// Notes a round that is synced.
    ///
    /// It is not synced itself: written behind the round's sync, the mark may lag behind the log after a power cut, but it is
    /// never ahead of it. Once the process alone dies, it is exact.
    pub(super) fn write(&self, round: u64) -> io::Result<()> {
        let round = round.to_le_bytes();
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&round);
        bytes[8..].copy_from_slice(&xxh3_64(&round).to_le_bytes());
        self.0.write_at(&bytes, 0)
    }
}

fn decode(bytes: [u8; MARK_BYTES]) -> Option<u64> {
    let (round, sum) = bytes.split_first_chunk::<8>()?;
    (xxh3_64(round).to_le_bytes() == sum).then(|| u64::from_le_bytes(*round))
}

/// `bytes` as the file of a round mark.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk() {
        decode(*bytes);
    }
}
