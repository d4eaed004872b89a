//! A storage in memory that can lose its power: for simulations and tests. Start at [`MemoryStorage::new`].
//!
//! It holds no thread and reads no clock. What a disk may do to what was not synced is in `ports/memory/disk.rs`, what is
//! stored in `ports/memory/image.rs`. Faults are made by a hook that sees every operation before it takes place.

mod disk;
mod image;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::storage::{Batch, Database, DatabaseError, Listing, Space, Storage, StoredFile, Tree, read_to_end};
use disk::Disk;
use image::Node;
pub use image::Operation;

type Hook = Arc<dyn Fn(&Operation) -> io::Result<()> + Send + Sync>;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryStorage(Arc<Shared>);

struct Shared {
    blocks: bool,
    disk: Mutex<Disk>,
    settings: Mutex<Settings>,
}

#[derive(Clone, Default)]
struct Settings {
    capacity: Option<u64>,
    sync_time: Duration,
    hook: Option<Hook>,
    failed: Option<String>,
    is_dead: bool,
}

impl MemoryStorage {
    /// An empty disk without end whose calls return at once.
    pub fn new() -> Self {
        Self::of(false, Disk::default(), Settings::default())
    }

    /// An empty disk without end that is called as a real one is, from threads that may wait: a hook may block them.
    pub fn blocking() -> Self {
        Self::of(true, Disk::default(), Settings::default())
    }

    fn of(blocks: bool, disk: Disk, settings: Settings) -> Self {
        Self(Arc::new(Shared { blocks, disk: Mutex::new(disk), settings: Mutex::new(settings) }))
    }

    /// The disk as it is found if the power goes now: what was synced is there; of the rest some or nothing, whole or torn, as
    /// `seed` has it. This one goes on, for a process that does not know yet that it is dead, but nothing counts there any more
    /// ([`Storage::is_alive`]). The new one has the capacity and the sync time of this one, and no hook.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        // First, so that whoever still finds it alive after a sync has synced what is found.
        self.0.settings.lock().is_dead = true;
        self.again(self.0.disk.lock().after_power_cut(seed))
    }

    /// The disk as it is found if the process alone dies now: everything that was written is there, synced or not.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.0.settings.lock().is_dead = true;
        self.again(self.0.disk.lock().after_death())
    }

    /// A copy of the disk as it is now; this one goes on.
    #[must_use]
    pub fn copy(&self) -> Self {
        self.again(self.0.disk.lock().after_death())
    }

    fn again(&self, disk: Disk) -> Self {
        let settings = self.0.settings.lock();
        let (capacity, sync_time) = (settings.capacity, settings.sync_time);
        Self::of(self.0.blocks, disk, Settings { capacity, sync_time, ..Settings::default() })
    }

    /// Bytes that fit on the disk in all; `None`: without end.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.settings.lock().capacity = bytes;
    }

    /// Bytes that the disk has.
    pub fn used(&self) -> u64 {
        self.0.disk.lock().used()
    }

    /// What each sync of the log takes from now on. Without effect on a blocking one, where the hook can wait.
    pub fn set_sync_time(&self, time: Duration) {
        self.0.settings.lock().sync_time = time;
    }

    /// Has `hook` see every operation before it takes place, on the thread that makes it. An error of the hook's is what the
    /// operation ends with instead. Once the process must end ([`MemoryStorage::failure`]), the hook sees nothing any more.
    pub fn set_hook(&self, hook: impl Fn(&Operation) -> io::Result<()> + Send + Sync + 'static) {
        self.0.settings.lock().hook = Some(Arc::new(hook));
    }

    pub fn remove_hook(&self) {
        self.0.settings.lock().hook = None;
    }

    /// Why the process must end, once it must: whoever runs it drops it then.
    pub fn failure(&self) -> Option<String> {
        self.0.settings.lock().failed.clone()
    }

    /// Makes `operation`, as one that a hook has seen on another disk.
    pub fn make(&self, operation: Operation) -> io::Result<()> {
        let (hook, capacity) = {
            let settings = self.0.settings.lock();
            // A process that must end is as good as dead, and so are the faults that it met.
            (settings.hook.clone().filter(|_| settings.failed.is_none()), settings.capacity)
        };
        if let Some(hook) = hook {
            hook(&operation)?;
        }
        self.0.disk.lock().make(operation, capacity)
    }

    /// Flips a bit of each place in the files of `directory` that has `needle`, as a disk that ages may, and returns how many
    /// there were. Takes no notice of what is synced.
    pub fn damage(&self, directory: &Path, needle: &[u8]) -> io::Result<usize> {
        let files = self.0.disk.lock().files_in(directory);
        let mut found = 0;
        for name in files {
            let file = Storage::open(self, &directory.join(name))?;
            let bytes = read_to_end(&*file)?;
            for (offset, _) in bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle) {
                file.write_at(&[bytes[offset] ^ 1], offset as u64)?;
                found += 1;
            }
        }
        Ok(found)
    }

    fn open_node(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let file = self.0.disk.lock().open(path)?;
        Ok(Box::new(MemoryFile { storage: self.clone(), file, path: path.into() }))
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for MemoryStorage {
    fn blocks(&self) -> bool {
        self.0.blocks
    }

    fn sync_time(&self) -> Duration {
        self.0.settings.lock().sync_time
    }

    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = {
            let disk = self.0.disk.lock();
            directory.ancestors().take_while(|above| disk.node(above).is_none()).collect()
        };
        for path in missing.into_iter().rev() {
            self.make(Operation::MakeDirectory { path: path.to_owned() })?;
            if let Some(above) = path.parent() {
                self.make(Operation::SyncDirectory { path: above.to_owned() })?;
            }
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.disk.lock().node(path).is_some())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open_node(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        if !self.exists(path)? {
            self.make(Operation::CreateFile { path: path.to_owned() })?;
        }
        self.open_node(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make(Operation::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.make(Operation::Remove { path: path.to_owned() })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.make(Operation::SyncDirectory { path: directory.to_owned() })
    }

    /// Empty files in a directory of the machine.
    fn listing(&self, directory: &Path) -> io::Result<Listing> {
        let scratch = tempfile::tempdir()?;
        for name in self.0.disk.lock().files_in(directory) {
            std::fs::File::create(scratch.path().join(name))?;
        }
        Ok(Listing { directory: scratch.path().to_owned(), held: Some(Box::new(scratch)) })
    }

    fn open_database(&self, directory: &Path) -> Result<Arc<dyn Database>, DatabaseError> {
        if !self.exists(directory)? {
            self.make(Operation::CreateDatabase { path: directory.to_owned() })?;
        }
        if let Some(above) = directory.parent() {
            self.sync_directory(above)?;
        }
        match self.0.disk.lock().node(directory) {
            Some(Node::Database(database)) => {
                Ok(Arc::new(MemoryDatabase { storage: self.clone(), database, path: directory.into() }))
            }
            _ => Err(DatabaseError::Damaged(format!("{} is no database", directory.display()))),
        }
    }

    fn space(&self, _directory: &Path) -> io::Result<Space> {
        let total = self.0.settings.lock().capacity.unwrap_or(u64::MAX);
        Ok(Space { free: total.saturating_sub(self.used()), total })
    }

    fn is_alive(&self) -> bool {
        !self.0.settings.lock().is_dead
    }

    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the simulated disk can not be relied on: its process must end");
        let mut settings = self.0.settings.lock();
        settings.is_dead = true;
        settings.failed.get_or_insert_with(|| reason.to_owned());
    }
}

struct MemoryFile {
    storage: MemoryStorage,
    file: u64,
    /// Under which it was opened.
    path: Arc<Path>,
}

impl StoredFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.storage.0.disk.lock().read(self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (path, bytes) = (Arc::clone(&self.path), Bytes::copy_from_slice(bytes));
        self.storage.make(Operation::Write { path, file: self.file, offset, bytes })
    }

    fn length(&self) -> io::Result<u64> {
        self.storage.0.disk.lock().length(self.file)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.storage.make(Operation::SetLength { path: Arc::clone(&self.path), file: self.file, length })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        if self.length()? < end { self.set_length(end) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.storage.make(Operation::Sync { path: Arc::clone(&self.path), file: self.file })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.storage.0.disk.lock().close(self.file);
    }
}

struct MemoryDatabase {
    storage: MemoryStorage,
    database: u64,
    path: Arc<Path>,
}

impl Database for MemoryDatabase {
    fn tree(&self, name: &str) -> Result<Box<dyn Tree>, DatabaseError> {
        let (storage, path) = (self.storage.clone(), Arc::clone(&self.path));
        Ok(Box::new(MemoryTree { storage, database: self.database, path, name: name.to_owned() }))
    }

    fn flush(&self) -> Result<(), DatabaseError> {
        Ok(self.storage.make(Operation::Flush { path: Arc::clone(&self.path), database: self.database })?)
    }
}

struct MemoryTree {
    storage: MemoryStorage,
    database: u64,
    path: Arc<Path>,
    name: String,
}

impl Tree for MemoryTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        Ok(self.storage.0.disk.lock().get(self.database, &self.name, key))
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes), DatabaseError>> + 'a> {
        Box::new(self.storage.0.disk.lock().scan(self.database, &self.name, prefix).into_iter().map(Ok))
    }

    fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        let (path, tree) = (Arc::clone(&self.path), self.name.clone());
        Ok(self.storage.make(Operation::Apply { path, database: self.database, tree, batch })?)
    }
}

/// The directory that `path` is a name in.
fn directory_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests;
