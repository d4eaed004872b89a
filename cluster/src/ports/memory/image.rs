//! What a disk has at one moment, and the operations that change it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::ports::storage::Batch;

/// One change to what is stored. Files and databases have numbers, drawn in the order in which they are made; `path` is where
/// they were when they were opened.
#[derive(Clone, Debug)]
pub enum Operation {
    MakeDirectory { path: PathBuf },
    CreateFile { path: PathBuf },
    CreateDatabase { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    SyncDirectory { path: PathBuf },
    Write { path: Arc<Path>, file: u64, offset: u64, bytes: Bytes },
    SetLength { path: Arc<Path>, file: u64, length: u64 },
    Sync { path: Arc<Path>, file: u64 },
    Apply { path: Arc<Path>, database: u64, tree: String, batch: Batch },
    Flush { path: Arc<Path>, database: u64 },
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
    Database(u64),
}

/// A change to the names in one directory.
#[derive(Clone, Debug)]
pub(super) enum Naming {
    Link { path: PathBuf, node: Node },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
}

/// All trees of a database.
#[derive(Clone, Debug, Default)]
pub(super) struct Trees {
    pub(super) entries: BTreeMap<(String, Bytes), Bytes>,
    pub(super) bytes: u64,
}

/// What a disk has.
#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<PathBuf, Node>,
    pub(super) files: BTreeMap<u64, Vec<u8>>,
    pub(super) databases: BTreeMap<u64, Trees>,
}

impl Image {
    /// What `path` stands for. The roots of paths are always there.
    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        if path.parent().is_none() { Some(Node::Directory) } else { self.names.get(path).copied() }
    }

    pub(super) fn name(&mut self, naming: &Naming) {
        match naming {
            Naming::Link { path, node } => {
                self.names.insert(path.clone(), *node);
                match node {
                    Node::Directory => {}
                    Node::File(file) => drop(self.files.entry(*file).or_default()),
                    Node::Database(database) => drop(self.databases.entry(*database).or_default()),
                }
            }
            Naming::Rename { from, to } => {
                if let Some(node) = self.names.remove(from) {
                    self.names.insert(to.clone(), node);
                }
            }
            Naming::Unlink { path } => drop(self.names.remove(path)),
        }
    }

    pub(super) fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let content = self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        let offset = position(offset)?;
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn set_length(&mut self, file: u64, length: u64) -> io::Result<()> {
        let content = self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        content.resize(position(length)?, 0);
        Ok(())
    }

    pub(super) fn apply(&mut self, database: u64, tree: &str, batch: &Batch) -> io::Result<()> {
        let trees = self.databases.get_mut(&database).ok_or(io::ErrorKind::NotFound)?;
        for (key, value) in batch {
            let key = (tree.to_owned(), Bytes::copy_from_slice(key));
            let length = key.1.len();
            let before = match value {
                Some(value) => {
                    trees.bytes += (length + value.len()) as u64;
                    trees.entries.insert(key, Bytes::copy_from_slice(value))
                }
                None => trees.entries.remove(&key),
            };
            trees.bytes -= before.map_or(0, |before| length + before.len()) as u64;
        }
        Ok(())
    }

    /// Drops what no name of this image leads to, unless `is_kept`.
    pub(super) fn forget(&mut self, is_kept: impl Fn(Node) -> bool) {
        let named: Vec<Node> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(&Node::File(*file)) || is_kept(Node::File(*file)));
        self.databases.retain(|number, _| named.contains(&Node::Database(*number)) || is_kept(Node::Database(*number)));
    }
}

pub(super) fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}
