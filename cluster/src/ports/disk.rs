//! The machine's own disk behind the storage port, and `sled` as the database on it.
//!
//! `sled`'s own flush is not durable: [`SledDatabase`] syncs the database file itself. A value above an eighth of a segment would
//! become a file that is never synced, hence the large segments.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::direct::DirectFile;
use super::storage::{Batch, Database, DatabaseError, Listing, Space, Storage, StoredFile, Tree};

mod direct;

pub(super) struct DiskStorage;

impl Storage for DiskStorage {
    fn blocks(&self) -> bool {
        true
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing = directory.ancestors().take_while(is_missing).count();
        fs::create_dir_all(directory)?;
        directory.ancestors().skip(1).take(missing).try_for_each(|above| self.sync_directory(above))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?))
    }

    fn create_for_appending(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        match DirectFile::create_new(path)? {
            Some(file) => Ok(Box::new(file)),
            None => self.create(path),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        // The parent of a relative path of one part.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()
    }

    fn listing(&self, directory: &Path) -> io::Result<Listing> {
        Ok(Listing { directory: directory.to_owned(), held: None })
    }

    fn open_database(&self, directory: &Path) -> Result<Arc<dyn Database>, DatabaseError> {
        let database = open_sled(directory).map_err(DatabaseError::from)?;
        self.sync_directory(directory)?;
        if let Some(above) = directory.parent() {
            self.sync_directory(above)?;
        }
        Ok(Arc::new(SledDatabase { database, file: directory.join("db") }))
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let room = rustix::fs::statvfs(directory)?;
        Ok(Space { free: room.f_bavail * room.f_frsize, total: room.f_blocks * room.f_frsize })
    }

    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the disk can not be relied on: the process ends");
        std::process::abort();
    }
}

impl StoredFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), offset, length) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

struct SledDatabase {
    database: sled::Db,
    file: PathBuf,
}

impl Database for SledDatabase {
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, DatabaseError> {
        Ok(Box::new(self.database.open_tree(name)?))
    }

    fn flush(&self) -> Result<(), DatabaseError> {
        self.database.flush()?;
        Ok(File::open(&self.file)?.sync_data()?)
    }
}

impl Tree for sled::Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        Ok(sled::Tree::get(self, key)?.map(Bytes::from_owner))
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes), DatabaseError>> + 'a> {
        Box::new(self.scan_prefix(prefix).map(|item| {
            let (key, value) = item?;
            Ok((Bytes::from_owner(key), Bytes::from_owner(value)))
        }))
    }

    fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        Ok(self.apply_batch(changes)?)
    }
}

/// Opens the database and reads it once through: `sled` finds some damage only when it reads, and then may panic.
fn open_sled(directory: &Path) -> sled::Result<sled::Db> {
    let open = || {
        let database = sled::Config::new()
            .path(directory)
            .flush_every_ms(None)
            .cache_capacity(64 << 20)
            .segment_size(8 << 20)
            .mode(sled::Mode::HighThroughput)
            .open()?;
        for tree in database.tree_names() {
            for item in &database.open_tree(tree)? {
                item?;
            }
        }
        Ok(database)
    };
    let panicked = |_panic| Err(sled::Error::ReportableBug("it panicked".to_owned()));
    std::panic::catch_unwind(open).unwrap_or_else(panicked)
}

impl From<sled::Error> for DatabaseError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::Io(error),
            // The bytes are at fault, and not the disk's state or another process.
            sled::Error::Corruption { .. } | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
                Self::Damaged(error.to_string())
            }
            sled::Error::CollectionNotFound(_) => Self::Io(io::Error::other(error)),
        }
    }
}
