//! A disk that says it has synced the log and has not, and that loses the mark by which a node would know.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{Database, DatabaseError, Listing, MemoryStorage, Space, Storage, StoredFile};

pub(super) struct LyingDisk(pub(super) MemoryStorage);

const LOG: &str = "/data/log";
const MARK: &str = "/data/log.round";

impl LyingDisk {
    fn seen(path: &Path, file: Box<dyn StoredFile>) -> Box<dyn StoredFile> {
        let is_mark = path == Path::new(MARK);
        if is_mark || path.starts_with(LOG) { Box::new(LyingFile { file, is_mark }) } else { file }
    }
}

impl Storage for LyingDisk {
    fn blocks(&self) -> bool {
        self.0.blocks()
    }

    fn sync_time(&self) -> Duration {
        self.0.sync_time()
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.create_directory(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Self::seen(path, self.0.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Self::seen(path, self.0.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn listing(&self, directory: &Path) -> io::Result<Listing> {
        self.0.listing(directory)
    }

    fn open_database(&self, directory: &Path) -> Result<Arc<dyn Database>, DatabaseError> {
        self.0.open_database(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.0.space(directory)
    }

    fn fail(&self, reason: &str) {
        self.0.fail(reason);
    }
}

struct LyingFile {
    file: Box<dyn StoredFile>,
    is_mark: bool,
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
        // The lie.
        Ok(())
    }
}
