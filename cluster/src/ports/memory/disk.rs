//! A disk with a volatile part: what was synced stays, what was not may be lost or torn with the power.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::directory_of;
use super::image::{Image, Naming, Node, Operation, position};
use crate::ports::storage::Batch;

/// What a disk writes as a whole or not at all, bytes.
const SECTOR_BYTES: usize = 512;
/// Changes of one file, database or directory that are kept apart. Older ones are durable, as if written back in time.
const UNSYNCED_MAX: usize = 256;

/// A change of a file that is not synced.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Bytes },
    Length(u64),
}

/// What is there now, what is there for good, and the way from this to that.
#[derive(Clone, Default)]
pub(super) struct Disk {
    now: Image,
    durable: Image,
    names: BTreeMap<PathBuf, VecDeque<Naming>>,
    changes: BTreeMap<u64, VecDeque<Change>>,
    batches: BTreeMap<u64, VecDeque<(String, Batch)>>,
    /// How often each file is open.
    open: BTreeMap<u64, usize>,
    made: u64,
}

impl Disk {
    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        self.now.node(path)
    }

    pub(super) fn used(&self) -> u64 {
        let files: u64 = self.now.files.values().map(|content| content.len() as u64).sum();
        files + self.now.databases.values().map(|trees| trees.bytes).sum::<u64>()
    }

    /// The names of all files in `directory`.
    pub(super) fn files_in(&self, directory: &Path) -> Vec<std::ffi::OsString> {
        let files = self
            .now
            .names
            .iter()
            .filter(|(path, node)| matches!(node, Node::File(_)) && path.parent() == Some(directory));
        files.filter_map(|(path, _)| path.file_name()).map(ToOwned::to_owned).collect()
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<u64> {
        let Some(Node::File(file)) = self.node(path) else { return Err(io::ErrorKind::NotFound.into()) };
        *self.open.entry(file).or_default() += 1;
        Ok(file)
    }

    pub(super) fn close(&mut self, file: u64) {
        if let Some(times) = self.open.get_mut(&file) {
            *times -= 1;
            if *times == 0 {
                self.open.remove(&file);
                self.forget();
            }
        }
    }

    pub(super) fn read(&self, file: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content(file)?;
        let start = position(offset)?.min(content.len());
        let length = buffer.len().min(content.len() - start);
        buffer[..length].copy_from_slice(&content[start..start + length]);
        Ok(length)
    }

    pub(super) fn length(&self, file: u64) -> io::Result<u64> {
        Ok(self.content(file)?.len() as u64)
    }

    fn content(&self, file: u64) -> io::Result<&Vec<u8>> {
        self.now.files.get(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn get(&self, database: u64, tree: &str, key: &[u8]) -> Option<Bytes> {
        let key = (tree.to_owned(), Bytes::copy_from_slice(key));
        self.now.databases.get(&database)?.entries.get(&key).cloned()
    }

    pub(super) fn scan(&self, database: u64, tree: &str, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let Some(trees) = self.now.databases.get(&database) else { return Vec::new() };
        let from = (tree.to_owned(), Bytes::copy_from_slice(prefix));
        let entries = trees.entries.range(from..);
        let entries = entries.take_while(|((of, key), _)| of == tree && key.starts_with(prefix));
        entries.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    /// Makes `operation`, or as much of it as fits.
    pub(super) fn make(&mut self, operation: Operation, capacity: Option<u64>) -> io::Result<()> {
        match operation {
            Operation::MakeDirectory { path } => self.name(Naming::Link { path, node: Node::Directory }),
            Operation::CreateFile { path } => {
                self.made += 1;
                self.name(Naming::Link { path, node: Node::File(self.made) })
            }
            Operation::CreateDatabase { path } => {
                self.made += 1;
                self.name(Naming::Link { path, node: Node::Database(self.made) })
            }
            Operation::Rename { from, to } => self.name(Naming::Rename { from, to }),
            Operation::Remove { path } => self.name(Naming::Unlink { path }),
            Operation::SyncDirectory { path } => {
                if self.node(&path) != Some(Node::Directory) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                for naming in self.names.remove(&path).into_iter().flatten() {
                    self.durable.name(&naming);
                }
                self.forget();
                Ok(())
            }
            Operation::Write { file, offset, bytes, .. } => {
                let grows = (offset + bytes.len() as u64).saturating_sub(self.length(file)?);
                let lacking = capacity.map_or(0, |capacity| (self.used() + grows).saturating_sub(capacity));
                let fitting = bytes.len().saturating_sub(position(lacking)?);
                self.change(file, Change::Write { offset, bytes: bytes.slice(..fitting) })?;
                if lacking > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            }
            Operation::SetLength { file, length, .. } => {
                let grows = length.saturating_sub(self.length(file)?);
                if grows > 0 && capacity.is_some_and(|capacity| self.used() + grows > capacity) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.change(file, Change::Length(length))
            }
            Operation::Sync { file, .. } => {
                for change in self.changes.remove(&file).into_iter().flatten() {
                    change.make(file, &mut self.durable)?;
                }
                Ok(())
            }
            Operation::Apply { database, tree, batch, .. } => {
                let bytes = batch.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
                let bytes = bytes.sum::<usize>() as u64;
                if capacity.is_some_and(|capacity| self.used() + bytes > capacity) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.now.apply(database, &tree, &batch)?;
                let batches = self.batches.entry(database).or_default();
                batches.push_back((tree, batch));
                if batches.len() > UNSYNCED_MAX
                    && let Some((tree, batch)) = batches.pop_front()
                {
                    self.durable.databases.entry(database).or_default();
                    self.durable.apply(database, &tree, &batch)?;
                }
                Ok(())
            }
            Operation::Flush { database, .. } => {
                self.durable.databases.entry(database).or_default();
                for (tree, batch) in self.batches.remove(&database).into_iter().flatten() {
                    self.durable.apply(database, &tree, &batch)?;
                }
                Ok(())
            }
        }
    }

    fn name(&mut self, naming: Naming) -> io::Result<()> {
        let path = match &naming {
            Naming::Link { path, .. } => path,
            Naming::Unlink { path } | Naming::Rename { from: path, .. } if self.node(path).is_none() => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Naming::Unlink { path } => path,
            Naming::Rename { from, to } if directory_of(from) != directory_of(to) => {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            Naming::Rename { from, .. } => from,
        };
        let directory = directory_of(path);
        if self.node(&directory) != Some(Node::Directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.now.name(&naming);
        if let Naming::Link { node: Node::File(file), .. } = naming {
            self.durable.files.entry(file).or_default();
        }
        let names = self.names.entry(directory).or_default();
        names.push_back(naming);
        if names.len() > UNSYNCED_MAX
            && let Some(naming) = names.pop_front()
        {
            self.durable.name(&naming);
        }
        self.forget();
        Ok(())
    }

    fn change(&mut self, file: u64, change: Change) -> io::Result<()> {
        change.make(file, &mut self.now)?;
        let changes = self.changes.entry(file).or_default();
        changes.push_back(change);
        if changes.len() > UNSYNCED_MAX
            && let Some(change) = changes.pop_front()
        {
            change.make(file, &mut self.durable)?;
        }
        Ok(())
    }

    /// Drops what neither a name nor an open file leads to any more.
    fn forget(&mut self) {
        let is_open = |node: Node| matches!(node, Node::File(file) if self.open.contains_key(&file));
        self.now.forget(is_open);
        let now = &self.now;
        self.durable.forget(|node| match node {
            Node::Directory => false,
            Node::File(file) => now.files.contains_key(&file),
            Node::Database(database) => now.databases.contains_key(&database),
        });
        self.changes.retain(|file, _| now.files.contains_key(file) || self.durable.files.contains_key(file));
        self.batches.retain(|database, _| now.databases.contains_key(database));
    }

    /// What is found once the process is gone.
    pub(super) fn after_death(&self) -> Self {
        let mut disk = Self { open: BTreeMap::new(), ..self.clone() };
        disk.forget();
        disk
    }

    /// What is found once the power is back. Names come into being in the order in which they were made, as on a file system
    /// with a journal; so do the batches of a database. The rest of what was not synced, each sector for itself, is at the
    /// disk's mercy.
    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut found = self.durable.clone();
        for names in self.names.values() {
            let kept = random.random_range(0..=names.len());
            names.iter().take(kept).for_each(|naming| found.name(naming));
        }
        for (file, changes) in &self.changes {
            let fate = Fate::draw(changes.len(), &mut random);
            for (number, change) in changes.iter().enumerate() {
                fate.make(number, change, *file, &mut found, &mut random);
            }
        }
        for (database, batches) in &self.batches {
            let kept = random.random_range(0..=batches.len());
            for (tree, batch) in batches.iter().take(kept) {
                // A database whose name is lost has nothing to keep.
                if found.databases.contains_key(database) {
                    found.apply(*database, tree, batch).expect("the database is there");
                }
            }
        }
        found.forget(|_node| false);
        Self { now: found.clone(), durable: found, made: self.made, ..Self::default() }
    }
}

impl Change {
    fn make(&self, file: u64, image: &mut Image) -> io::Result<()> {
        match self {
            Self::Write { offset, bytes } => image.write(file, *offset, bytes),
            Self::Length(length) => image.set_length(file, *length),
        }
    }
}

/// What becomes of the unsynced changes of a file.
enum Fate {
    /// So many are there, and the first sectors of the next.
    Prefix(usize),
    /// Each sector was written or not.
    Sectors,
}

impl Fate {
    fn draw(changes: usize, random: &mut StdRng) -> Self {
        if random.random_bool(0.5) { Self::Prefix(random.random_range(0..=changes)) } else { Self::Sectors }
    }

    /// Makes as much of `change`, the file's unsynced one with this number, as is found.
    fn make(&self, number: usize, change: &Change, file: u64, found: &mut Image, random: &mut StdRng) {
        if !found.files.contains_key(&file) {
            return;
        }
        let made = match (self, change) {
            (Self::Prefix(whole), change) if number < *whole => change.make(file, found),
            (Self::Prefix(whole), Change::Write { offset, bytes }) if number == *whole => {
                let sectors = sectors(*offset, bytes);
                let kept = random.random_range(0..sectors.len().max(1));
                sectors.iter().take(kept).try_for_each(|(offset, sector)| found.write(file, *offset, sector))
            }
            (Self::Prefix(_), _) => Ok(()),
            (Self::Sectors, Change::Write { offset, bytes }) => sectors(*offset, bytes)
                .into_iter()
                .filter(|_| random.random_bool(0.5))
                .try_for_each(|(offset, sector)| found.write(file, offset, &sector)),
            (Self::Sectors, Change::Length(_)) if random.random_bool(0.5) => change.make(file, found),
            (Self::Sectors, Change::Length(_)) => Ok(()),
        };
        made.expect("the file is there");
    }
}

/// `bytes` at `offset`, cut where sectors begin.
fn sectors(offset: u64, bytes: &Bytes) -> Vec<(u64, Bytes)> {
    let mut pieces = Vec::new();
    let (mut offset, mut rest) = (offset, bytes.clone());
    while !rest.is_empty() {
        let into = usize::try_from(offset % SECTOR_BYTES as u64).expect("below a sector");
        let piece = rest.split_to(rest.len().min(SECTOR_BYTES - into));
        let length = piece.len() as u64;
        pieces.push((offset, piece));
        offset += length;
    }
    pieces
}
