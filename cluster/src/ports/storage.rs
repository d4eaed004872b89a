//! The storage port: what a node keeps over its death. Files, and the database of its checkpoints.
//!
//! Two stand behind it: the machine's disk (`ports/disk.rs`) and a simulated one (`ports/memory.rs`). What is written is lost
//! with the power until it is synced, in both; neither promises an order of what was not.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Keeps files and databases under paths.
pub trait Storage: Send + Sync + 'static {
    /// Whether calls take time. If not, no thread is made for them, and what a sync takes is told by [`Storage::sync_time`].
    fn blocks(&self) -> bool;

    /// What the next sync of the log takes, on the runtime's clock, where calls do not block.
    fn sync_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Makes `directory` and those above it, where they are missing. Durable on return.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The file in `path`; `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// The file in `path`, made if there is none. Its name is durable once its directory is synced.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// As [`Storage::create`], for a file that is written from its start to its end and hardly read.
    fn create_for_appending(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.create(path)
    }

    /// Renames a file or a database within its directory; replaces what has the name. Durable once the directory is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable once its directory is synced.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `directory` durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// A directory of this machine with the names that `directory` has now, for readers that know no other directories.
    fn listing(&self, directory: &Path) -> io::Result<Listing>;

    /// Opens or makes the database in `directory`, whose name is durable on return. Finds damage as far as it can.
    fn open_database(&self, directory: &Path) -> Result<Arc<dyn Database>, DatabaseError>;

    /// The room on the disk that `directory` is on.
    fn space(&self, directory: &Path) -> io::Result<Space>;

    /// Whether what was synced until now counts. A simulated disk that lost its power goes on for a process that does not know it
    /// yet, but that process may acknowledge nothing any more: it asks after each sync.
    fn is_alive(&self) -> bool {
        true
    }

    /// Ends the process: nobody knows what the disk has, so nothing may be acknowledged any more. A simulated storage returns
    /// and has the process ended by its owner.
    fn fail(&self, reason: &str);
}

/// An open file. Offsets and lengths in bytes.
pub trait StoredFile: Send + Sync {
    /// Fills `buffer` from `offset` on and returns how much there was: less than asked at the end of the file alone.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`; some of them may be there after an error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    fn length(&self) -> io::Result<u64>;

    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes room for `length` bytes from `offset` on and lets the file reach as far, where the file system can.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes what was written durable, with the length.
    fn sync(&self) -> io::Result<()>;
}

/// Ordered maps of bytes, each a tree with a name.
pub trait Database: Send + Sync + 'static {
    /// The tree `name`, made if there is none.
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, DatabaseError>;

    /// Makes all applied batches of all trees durable.
    fn flush(&self) -> Result<(), DatabaseError>;
}

/// A tree of a database. Values of at most 96 KiB.
pub trait Tree: Send {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError>;

    /// All whose keys begin with `prefix`, in order.
    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes), DatabaseError>> + 'a>;

    /// Changes all keys of `batch` or none, also when the power goes.
    fn apply(&self, batch: Batch) -> Result<(), DatabaseError>;
}

/// Keys with their new values, or without: removed.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Why a database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// What it has can not be relied on.
    #[error("damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A directory of this machine that is there as long as this value.
pub struct Listing {
    pub directory: PathBuf,
    /// What keeps it there.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

/// Room on a disk, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this process may still write.
    pub free: u64,
    pub total: u64,
}

/// All of `file`.
pub(crate) fn read_to_end(file: &dyn StoredFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes calls to `storage` away from the async threads.
pub(crate) async fn off_threads<T: Send + 'static>(
    storage: &dyn Storage,
    calls: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if storage.blocks() { tokio::task::spawn_blocking(calls).await.map_err(io::Error::other) } else { Ok(calls()) }
}

/// Makes calls to `storage` here, while the runtime's other tasks go on elsewhere.
pub(crate) fn in_place<T>(storage: &dyn Storage, calls: impl FnOnce() -> T) -> T {
    if storage.blocks() { tokio::task::block_in_place(calls) } else { calls() }
}
