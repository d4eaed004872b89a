//! Writing history: one open file per shard, sealed when it is large or old enough.
//!
//! An archive holds its directory by a lock, so that two processes can not write the same files. All calls block.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_api::v1::{FeedFilter, FeedMessage, Position};
use prost_types::Timestamp;

use super::segment::Segment;
use super::{HistoryError, HistoryFile, files, read};

const LOCK: &str = "lock";

/// When a file is sealed: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentBounds {
    /// A file that has reached this size is sealed; the record that crosses it is still whole in it.
    pub(crate) bytes: u64,
    pub(crate) age: Duration,
}

/// A file that will not change any more.
#[derive(Debug)]
pub(crate) struct SealedFile {
    pub(crate) file: HistoryFile,
    pub(crate) facts: u64,
    pub(crate) gaps: u64,
    pub(crate) next: Position,
}

/// A directory of history, held for writing.
pub(crate) struct Archive {
    dir: PathBuf,
    filter: FeedFilter,
    bounds: SegmentBounds,
    /// Where shards without an open file go on.
    nexts: BTreeMap<u32, Position>,
    open: BTreeMap<u32, Segment>,
    /// Held while this value lives.
    _lock: File,
}

impl Archive {
    /// Takes `dir` over, made where it is missing. What an earlier process left open is cut back to its last whole record and
    /// gone on with; what it had all but sealed is sealed. A sealed file that is damaged is an error: history must not go
    /// on behind it as if it were whole.
    pub(crate) fn open(
        dir: &Path,
        filter: FeedFilter,
        bounds: SegmentBounds,
        now: Timestamp,
    ) -> Result<Self, HistoryError> {
        let failed = |reason| HistoryError::io(dir, reason);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HistoryError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(reason)) => return Err(failed(reason)),
        }
        let (nexts, open) = (BTreeMap::new(), BTreeMap::new());
        let mut archive = Self { dir: dir.to_owned(), filter, bounds, nexts, open, _lock: lock };
        let files = files(dir)?;
        for (place, file) in files.iter().enumerate() {
            let is_last = files.get(place + 1).is_none_or(|next| next.shard != file.shard);
            if file.is_open && !is_last {
                return Err(HistoryError::OpenBeforeOthers { path: file.path.clone() });
            }
            // Only an open file and what it follows on matter for going on.
            let is_before_open = files.get(place + 1).is_some_and(|next| next.shard == file.shard && next.is_open);
            if is_last || is_before_open {
                archive.take_up(file.clone(), now)?;
            }
        }
        Ok(archive)
    }

    fn take_up(&mut self, file: HistoryFile, now: Timestamp) -> Result<(), HistoryError> {
        let shard = file.shard;
        let previous = self.nexts.get(&shard).copied();
        let path = file.path.clone();
        let other_filter = || HistoryError::OtherFilter { path: path.clone() };
        if !file.is_open {
            let sealed = read::<HistoryError>(&file, previous, |_| Ok(()))?.expect("a sealed file has a header");
            if sealed.account.filter() != Some(&self.filter) {
                return Err(other_filter());
            }
            self.nexts.insert(shard, sealed.account.next());
            return Ok(());
        }
        let Some(segment) = Segment::resume(file, previous)? else { return Ok(()) };
        if segment.filter() != Some(&self.filter) {
            return Err(other_filter());
        }
        if segment.has_footer() {
            let (_, account) = segment.seal(now)?;
            self.nexts.insert(shard, account.next());
        } else {
            self.open.insert(shard, segment);
        }
        Ok(())
    }

    /// Where each of `shards` goes on: behind what is in the files, or before the first fact of all.
    pub(crate) fn cursors(&self, shards: impl IntoIterator<Item = u32>) -> Vec<Position> {
        let cursor = |shard| {
            let open = self.open.get(&shard).map(Segment::next);
            open.or_else(|| self.nexts.get(&shard).copied()).unwrap_or(Position { shard, index: 0, ordinal: 0 })
        };
        shards.into_iter().map(cursor).collect()
    }

    /// Takes the next message of the feed, and returns the file that this sealed.
    pub(crate) fn take(&mut self, message: FeedMessage, now: Timestamp) -> Result<Option<SealedFile>, HistoryError> {
        let shard = message.shard;
        if !self.open.contains_key(&shard) {
            let first = self.cursors([shard])[0];
            self.open.insert(shard, Segment::create(&self.dir, first, &self.filter, now)?);
        }
        let segment = self.open.get_mut(&shard).expect("just opened");
        segment.take(message)?;
        if segment.bytes() < self.bounds.bytes || !segment.has_moved() {
            return Ok(None);
        }
        self.seal(shard, now).map(Some)
    }

    /// Seals the files that are old enough.
    pub(crate) fn seal_old(&mut self, now: Timestamp) -> Result<Vec<SealedFile>, HistoryError> {
        let bound = self.bounds.age;
        let is_old = |segment: &Segment| segment.has_moved() && age(segment.open_time(), now) >= bound;
        self.seal_where(is_old, now)
    }

    /// Seals all files that have anything in them, for an end in order.
    pub(crate) fn seal_all(&mut self, now: Timestamp) -> Result<Vec<SealedFile>, HistoryError> {
        self.seal_where(Segment::has_moved, now)
    }

    fn seal_where(
        &mut self,
        is_due: impl Fn(&Segment) -> bool,
        now: Timestamp,
    ) -> Result<Vec<SealedFile>, HistoryError> {
        let due: Vec<_> = self.open.iter().filter(|(_, segment)| is_due(segment)).map(|(shard, _)| *shard).collect();
        due.into_iter().map(|shard| self.seal(shard, now)).collect()
    }

    fn seal(&mut self, shard: u32, now: Timestamp) -> Result<SealedFile, HistoryError> {
        let segment = self.open.remove(&shard).expect("only open files are sealed");
        let (file, account) = segment.seal(now)?;
        self.nexts.insert(shard, account.next());
        Ok(SealedFile { file, facts: account.facts(), gaps: account.gaps(), next: account.next() })
    }
}

/// Zero for a time that lies ahead, as after the clock was set back.
fn age(opened: Timestamp, now: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(now.seconds - opened.seconds).unwrap_or(0))
}
