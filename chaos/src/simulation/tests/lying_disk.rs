//! A disk that after a while says it has synced the log and has not, and that loses the mark by which a node would know.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvarter_cluster::{Database, DatabaseError, Listing, MemoryStorage, Space, Storage, StoredFile};

/// Syncs of the log that take place, in each life of the node: it must come into its cluster.
const HONEST_SYNCS: u64 = 50;

pub(super) struct LyingDisk {
    disk: MemoryStorage,
    syncs: Arc<AtomicU64>,
}

const LOG: &str = "/data/log";
const MARK: &str = "/data/log.round";

impl LyingDisk {
    pub(super) fn new(disk: MemoryStorage) -> Self {
        Self { disk, syncs: Arc::default() }
    }

    fn seen(&self, path: &Path, file: Box<dyn StoredFile>) -> Box<dyn StoredFile> {
        let is_mark = path == Path::new(MARK);
        if is_mark || path.starts_with(LOG) {
            Box::new(LyingFile { file, is_mark, syncs: Arc::clone(&self.syncs) })
        } else {
            file
        }
    }
}

impl Storage for LyingDisk {
    fn blocks(&self) -> bool {
        self.disk.blocks()
    }

    fn sync_time(&self) -> Duration {
        self.disk.sync_time()
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_directory(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(self.seen(path, self.disk.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(self.seen(path, self.disk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }

    fn listing(&self, directory: &Path) -> io::Result<Listing> {
        self.disk.listing(directory)
    }

    fn open_database(&self, directory: &Path) -> Result<Arc<dyn Database>, DatabaseError> {
        self.disk.open_database(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.disk.space(directory)
    }

    fn fail(&self, reason: &str) {
        self.disk.fail(reason);
    }
}

struct LyingFile {
    file: Box<dyn StoredFile>,
    is_mark: bool,
    syncs: Arc<AtomicU64>,
}

impl StoredFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_mark { Ok(()) } else { self.file.write_at(bytes, offset) }
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        // Beyond these, the lie.
        if self.syncs.fetch_add(1, Ordering::Relaxed) < HONEST_SYNCS { self.file.sync() } else { Ok(()) }
    }
}
