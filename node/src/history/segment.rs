//! The open file of a shard: begun, taken up again after a crash, written and sealed.
//!
//! Records are appended whole and not synced one by one: what a crash takes from the end is read from the feed again. A file
//! is sealed in four steps, and a crash between any two leaves nothing wrong: footer, sync, new name, sync of the directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use kvarter_api::v1::{FeedFilter, FeedMessage, HistoryFacts, HistoryHeader, Position, history_record::Record};
use prost_types::Timestamp;

use super::account::Account;
use super::record::{ReadError, RecordReader, encode};
use super::{FORMAT, HistoryError, HistoryFile, place};

/// A file that is still written.
pub(super) struct Segment {
    pub(super) file: HistoryFile,
    written: File,
    account: Account,
    sum: u64,
    bytes: u64,
}

impl Segment {
    /// Begins a file for what comes behind `first`.
    pub(super) fn create(
        dir: &Path,
        first: Position,
        filter: &FeedFilter,
        now: Timestamp,
    ) -> Result<Self, HistoryError> {
        let file = HistoryFile::new(dir, first.shard, first, true);
        let header = HistoryHeader {
            format: FORMAT,
            shard: first.shard,
            first: Some(first),
            filter: Some(filter.clone()),
            open_time: Some(now),
        };
        let account = Account::begin(header.clone())
            .map_err(|reason| HistoryError::Misplaced { path: file.path.clone(), reason })?;
        let opened = OpenOptions::new().create_new(true).write(true).open(&file.path);
        let written = opened.map_err(|reason| HistoryError::io(&file.path, reason))?;
        let mut segment = Self { file, written, account, sum: 0, bytes: 0 };
        segment.write(Record::Header(header))?;
        Ok(segment)
    }

    /// Takes up a file that an earlier process left open, cut back to its last whole record. `None`: not even its header is
    /// whole, and it is removed.
    pub(super) fn resume(file: HistoryFile, previous: Option<Position>) -> Result<Option<Self>, HistoryError> {
        let Some(reading) = super::read::<HistoryError>(&file, previous, |_| Ok(()))? else {
            std::fs::remove_file(&file.path).map_err(|reason| HistoryError::io(&file.path, reason))?;
            return Ok(None);
        };
        let failed = |reason| HistoryError::io(&file.path, reason);
        let (bytes, sum) = whole(&file.path).map_err(failed)?;
        let mut written = OpenOptions::new().write(true).open(&file.path).map_err(failed)?;
        written.set_len(bytes).map_err(failed)?;
        written.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Some(Self { file, written, account: reading.account, sum, bytes }))
    }

    /// Takes what the feed says next. A message without facts and gap is only remembered: the footer tells it.
    pub(super) fn take(&mut self, message: FeedMessage) -> Result<(), HistoryError> {
        if let Some(gap) = message.gap {
            self.append(Record::Gap(gap))?;
        }
        if message.facts.is_empty() {
            let passed = self.account.pass(message.next.unwrap_or_default());
            return passed.map_err(|reason| HistoryError::Misplaced { path: self.file.path.clone(), reason });
        }
        self.append(Record::Facts(HistoryFacts { facts: message.facts, next: message.next }))
    }

    fn append(&mut self, record: Record) -> Result<(), HistoryError> {
        // Before it is written: what the feed must not say must not be in a file.
        let taken = self.account.take(&record);
        taken.map_err(|reason| HistoryError::Misplaced { path: self.file.path.clone(), reason })?;
        self.write(record)
    }

    fn write(&mut self, record: Record) -> Result<(), HistoryError> {
        let mut bytes = Vec::new();
        let sum = encode(record, self.sum, &mut bytes);
        self.written.write_all(&bytes).map_err(|reason| HistoryError::io(&self.file.path, reason))?;
        self.sum = sum;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file final; when it returns the file is durable under its final name.
    pub(super) fn seal(mut self, now: Timestamp) -> Result<(HistoryFile, Account), HistoryError> {
        if !self.account.is_sealed() {
            self.append(Record::Footer(self.account.footer(now)))?;
        }
        let sealed = self.file.sealed();
        let finished = self.written.sync_all().and_then(|()| std::fs::rename(&self.file.path, &sealed));
        finished.and_then(|()| sync_directory(&sealed)).map_err(|reason| HistoryError::io(&sealed, reason))?;
        Ok((HistoryFile { is_open: false, path: sealed, ..self.file }, self.account))
    }

    /// The feed goes on from here.
    pub(super) fn next(&self) -> Position {
        self.account.next()
    }

    /// Whether there is anything to seal.
    pub(super) fn has_moved(&self) -> bool {
        place(self.account.next()) > place(self.account.first())
    }

    /// Whether only the new name was missing when its process ended.
    pub(super) fn has_footer(&self) -> bool {
        self.account.is_sealed()
    }

    pub(super) fn filter(&self) -> Option<&FeedFilter> {
        self.account.filter()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn open_time(&self) -> Timestamp {
        self.account.open_time()
    }
}

/// Where the last whole record of a file ends, and its sum.
fn whole(path: &Path) -> io::Result<(u64, u64)> {
    let mut records = RecordReader::new(File::open(path)?);
    loop {
        match records.next() {
            Ok(Some(_)) => {}
            Ok(None) | Err(ReadError::Damaged { .. }) => return Ok((records.offset(), records.sum())),
            Err(ReadError::Io(error)) => return Err(error),
        }
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
