//! History: the city's facts in files, longer than the cluster keeps them.
//!
//! A directory has, for each shard, a row of sealed files and at most one that is open. [`Archive`] writes them as a reader
//! of the public feed; what it knows of its own progress is what the files say, and nothing else. [`files`] and [`read`] read
//! them. `record` is the framing, `account` what the records of a file must add up to, `segment` the file that is open. The
//! format is in `node/api/proto/kvarter/v1/history.proto`, why it is so in `node/docs/history.md`.

mod account;
mod archive;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use kvarter_api::v1::{HistoryHeader, Position, history_record::Record};

pub(crate) use account::{Account, Misplaced};
pub(crate) use archive::{Archive, SealedFile, SegmentBounds};
use record::{ReadError, RecordReader};

const FORMAT: u32 = 1;
const SEALED: &str = "history";
const OPEN: &str = "open";

/// Why history can not be read or written. The text names the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("{path}: {reason}", path = path.display())]
    Io { path: PathBuf, reason: io::Error },
    #[error("{path} is damaged at byte {offset}: {reason}", path = path.display())]
    Damaged { path: PathBuf, offset: u64, reason: &'static str },
    #[error("{path}: {reason}", path = path.display())]
    Misplaced { path: PathBuf, reason: Misplaced },
    #[error("{path} begins at {first}, but the file before it ends at {next}", path = path.display())]
    NotContinuous { path: PathBuf, next: String, first: String },
    #[error("{path} is open, but there are files behind it", path = path.display())]
    OpenBeforeOthers { path: PathBuf },
    #[error("another process writes history to {dir}", dir = dir.display())]
    Locked { dir: PathBuf },
    #[error("{path} was written with another filter: use another directory for another filter", path = path.display())]
    OtherFilter { path: PathBuf },
}

impl HistoryError {
    fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io { path: path.to_owned(), reason }
    }
}

/// One file of history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HistoryFile {
    pub(crate) shard: u32,
    /// Index and ordinal of the position that it begins behind.
    first: (u64, u32),
    pub(crate) is_open: bool,
    pub(crate) path: PathBuf,
}

impl HistoryFile {
    fn new(dir: &Path, shard: u32, first: Position, is_open: bool) -> Self {
        let first = place(first);
        let end = if is_open { OPEN } else { SEALED };
        let path = dir.join(format!("shard-{shard:05}-{:020}-{:010}.{end}", first.0, first.1));
        Self { shard, first, is_open, path }
    }

    /// `None`: a file of something else.
    fn parse(path: PathBuf) -> Option<Self> {
        let is_open = match path.extension()?.to_str()? {
            SEALED => false,
            OPEN => true,
            _ => return None,
        };
        let mut parts = path.file_stem()?.to_str()?.strip_prefix("shard-")?.splitn(3, '-');
        let shard = parts.next()?.parse().ok()?;
        let first = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { shard, first, is_open, path })
    }

    fn sealed(&self) -> PathBuf {
        self.path.with_extension(SEALED)
    }
}

/// The files of `dir`, shard by shard, each shard's in the order of positions.
pub(crate) fn files(dir: &Path) -> Result<Vec<HistoryFile>, HistoryError> {
    let failed = |reason| HistoryError::io(dir, reason);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        files.extend(HistoryFile::parse(entry.map_err(failed)?.path()));
    }
    files.sort();
    Ok(files)
}

/// What [`read`] found in a file.
pub(crate) struct Reading {
    pub(crate) account: Account,
    /// Bytes behind the last whole record: of an open file, whose writer may be in the middle of one.
    pub(crate) torn_bytes: u64,
}

/// Reads a file, giving each record to `each` once it is checked. `previous` is where the file before it of the same shard
/// ended. `None`: an open file without a whole header.
pub(crate) fn read<E: From<HistoryError>>(
    file: &HistoryFile,
    previous: Option<Position>,
    mut each: impl FnMut(&Record) -> Result<(), E>,
) -> Result<Option<Reading>, E> {
    let path = &file.path;
    let opened = File::open(path).map_err(|reason| HistoryError::io(path, reason))?;
    let length = opened.metadata().map_err(|reason| HistoryError::io(path, reason))?.len();
    let mut records = RecordReader::new(opened);
    let mut account: Option<Account> = None;
    let torn_bytes = loop {
        let whole = records.offset();
        let record = match records.next() {
            Ok(Some(record)) => record,
            Ok(None) => break 0,
            Err(ReadError::Damaged { .. }) if file.is_open => break length.saturating_sub(whole),
            Err(ReadError::Damaged { offset, reason }) => {
                return Err(HistoryError::Damaged { path: path.clone(), offset, reason }.into());
            }
            Err(ReadError::Io(reason)) => return Err(HistoryError::io(path, reason).into()),
        };
        let misplaced = |reason| HistoryError::Misplaced { path: path.clone(), reason };
        match &mut account {
            Some(account) => account.take(&record).map_err(misplaced)?,
            None => {
                let Record::Header(header) = &record else { return Err(misplaced(Misplaced::NoHeader).into()) };
                check_place(file, header, previous)?;
                account = Some(Account::begin(header.clone()).map_err(misplaced)?);
            }
        }
        each(&record)?;
    };
    match account {
        Some(account) if file.is_open || account.is_sealed() => Ok(Some(Reading { account, torn_bytes })),
        None if file.is_open => Ok(None),
        Some(_) | None => {
            let reason = "it ends without a footer";
            Err(HistoryError::Damaged { path: path.clone(), offset: records.offset(), reason }.into())
        }
    }
}

/// Whether a file is what its name says, and goes on where the one before it ended.
fn check_place(file: &HistoryFile, header: &HistoryHeader, previous: Option<Position>) -> Result<(), HistoryError> {
    let first = header.first.unwrap_or_default();
    if header.shard != file.shard || place(first) != file.first {
        return Err(HistoryError::Misplaced { path: file.path.clone(), reason: Misplaced::OtherName });
    }
    match previous {
        Some(next) if place(next) != file.first => {
            let (next, first) = (show(next), show(first));
            Err(HistoryError::NotContinuous { path: file.path.clone(), next, first })
        }
        Some(_) | None => Ok(()),
    }
}

/// The order of positions in one shard.
fn place(position: Position) -> (u64, u32) {
    (position.index, position.ordinal)
}

fn show(position: Position) -> String {
    format!("{}:{}:{}", position.shard, position.index, position.ordinal)
}
