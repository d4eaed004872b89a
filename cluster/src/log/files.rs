//! The storage port as `raft-engine`'s file system. The benchmark includes this file.
//!
//! The engine lists, makes, locks and syncs its directory by itself, on the machine. So it is given a directory of the
//! machine with the same names, and the names are synced here too, with the first file that is synced after they changed.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

use crate::{Listing, Storage, StoredFile};

/// How the engine knows a full disk: it looks for this word, and goes on in a file that it has from before.
const FULL: &str = "nospace";

/// The files of one log.
pub(super) struct Files {
    directory: Arc<Directory>,
    listing: Listing,
}

struct Directory {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    has_new_names: AtomicBool,
}

impl Files {
    pub(super) fn open(storage: Arc<dyn Storage>, path: &Path) -> io::Result<Self> {
        storage.create_directory(path)?;
        let listing = storage.listing(path)?;
        let directory = Directory { storage, path: path.to_owned(), has_new_names: AtomicBool::new(false) };
        Ok(Self { directory: Arc::new(directory), listing })
    }

    /// The directory that the engine is opened in.
    pub(super) fn listing(&self) -> &Path {
        &self.listing.directory
    }
}

impl Directory {
    /// The path of what the engine calls `path`.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.path.join(name))
    }
}

impl FileSystem for Files {
    type Handle = LogFile;
    type Reader = Cursor;
    type Writer = Cursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<LogFile> {
        let file = self.directory.storage.create_for_appending(&self.directory.resolve(path.as_ref())?)?;
        self.directory.has_new_names.store(true, Ordering::Release);
        Ok(LogFile { file, directory: Arc::clone(&self.directory) })
    }

    fn open<P: AsRef<Path>>(&self, path: P, _permission: Permission) -> io::Result<LogFile> {
        let file = self.directory.storage.open(&self.directory.resolve(path.as_ref())?)?;
        Ok(LogFile { file, directory: Arc::clone(&self.directory) })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.directory.storage.remove(&self.directory.resolve(path.as_ref())?)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        let (from, to) = (self.directory.resolve(from.as_ref())?, self.directory.resolve(to.as_ref())?);
        self.directory.storage.rename(&from, &to)?;
        self.directory.has_new_names.store(true, Ordering::Release);
        Ok(())
    }

    fn new_reader(&self, file: Arc<LogFile>) -> io::Result<Cursor> {
        Ok(Cursor { file, offset: 0 })
    }

    fn new_writer(&self, file: Arc<LogFile>) -> io::Result<Cursor> {
        Ok(Cursor { file, offset: 0 })
    }
}

pub(super) struct LogFile {
    file: Box<dyn StoredFile>,
    directory: Arc<Directory>,
}

impl Handle for LogFile {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.file.set_length(offset as u64)
    }

    fn file_size(&self) -> io::Result<usize> {
        usize::try_from(self.file.length()?).map_err(io::Error::other)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        if self.directory.has_new_names.swap(false, Ordering::AcqRel) {
            self.directory.storage.sync_directory(&self.directory.path)?;
        }
        Ok(())
    }
}

/// A place in a file.
pub(super) struct Cursor {
    file: Arc<LogFile>,
    offset: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.file.write_at(bytes, self.offset).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => io::Error::new(io::ErrorKind::StorageFull, FULL),
            _ => error,
        })?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.file.length()?.checked_add_signed(by),
        };
        self.offset = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

impl WriteExt for Cursor {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.file.file.set_length(offset as u64)?;
        self.offset = offset as u64;
        Ok(())
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.file.file.allocate(offset as u64, size as u64)
    }
}
