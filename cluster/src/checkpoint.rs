//! Checkpoints: the pages of every replica's state in one database (`sled`), with the index that they show.
//!
//! A page is stored in parts below 96 KiB, as the database wants it, with a checksum each. The header has a sum over all parts:
//! from a damaged file the database may take some pages in an older version, without an error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::raft::{self, LogId, StoredMembership};
use crate::{Batch, Database, DatabaseError, LogIndex, Page, PageId, ShardId, Storage, Tree, wire};

const PART_BYTES_MAX: usize = 90 << 10;
const HEADER_KEY: &[u8] = b"header";
/// Keys of pages begin with this and end with table, page and part number.
const PAGE_PREFIX: u8 = b'p';
const FORMAT: u32 = 1;

/// Why a checkpoint can not be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoints in {path} can not be used: {reason}")]
    Storage { path: String, reason: String },
    #[error("the checkpoint of {shard} is damaged: {reason}")]
    Damaged { shard: ShardId, reason: String },
}

/// The checkpoints of all replicas of a node.
#[derive(Clone)]
pub(crate) struct CheckpointStore {
    pub(crate) storage: Arc<dyn Storage>,
    database: Arc<dyn Database>,
    directory: PathBuf,
}

/// A state as it was stored.
pub(crate) struct Checkpoint {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) pages: Vec<(PageId, Bytes)>,
}

impl CheckpointStore {
    /// Opens or makes the database in `directory`. A damaged one is set aside, for the replicas to be rebuilt.
    pub(crate) fn open(storage: Arc<dyn Storage>, directory: &Path) -> Result<Self, CheckpointError> {
        let failed = |reason: String| CheckpointError::Storage { path: directory.display().to_string(), reason };
        let database = match storage.open_database(directory) {
            Err(DatabaseError::Damaged(reason)) => {
                let aside = set_aside(&*storage, directory).map_err(|error| failed(error.to_string()))?;
                tracing::error!(?directory, ?aside, reason, "the checkpoints are damaged: they are set aside");
                storage.open_database(directory)
            }
            opened => opened,
        };
        let database = database.map_err(|error| failed(error.to_string()))?;
        Ok(Self { storage, database, directory: directory.to_owned() })
    }

    fn tree(&self, shard: ShardId) -> Result<Box<dyn Tree>, CheckpointError> {
        self.database.tree(&format!("shard-{}", shard.0)).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> CheckpointError {
        CheckpointError::Storage { path: self.directory.display().to_string(), reason: error.to_string() }
    }

    /// Stores the pages that changed behind `since` (all when `None`, dropping what was there), and returns their bytes. Durable
    /// on return. Blocks.
    pub(crate) fn write(
        &self,
        shard: ShardId,
        last: Option<LogId>,
        membership: &StoredMembership,
        pages: &[Page],
        since: Option<LogIndex>,
    ) -> Result<u64, CheckpointError> {
        let tree = self.tree(shard)?;
        let get = |key: &[u8]| tree.get(key).map_err(|error| self.failed(&error));
        let stored = get(HEADER_KEY)?.and_then(|header| wire::CheckpointHeader::decode(header.as_ref()).ok());
        let stored_sum = stored.and_then(|header| header.sum);
        let since = since.filter(|_| stored_sum.is_some());
        let mut sum = stored_sum.unwrap_or(0);
        let mut batch = Batch::new();
        if since.is_none() {
            sum = 0;
            for item in tree.scan(&[]) {
                let (key, _) = item.map_err(|error| self.failed(&error))?;
                batch.push((key.to_vec(), None));
            }
        }
        let (mut buffer, mut bytes) = (Vec::new(), 0);
        for page in pages.iter().filter(|page| since.is_none_or(|since| page.changed > since)) {
            buffer.clear();
            page.encode(&mut buffer);
            bytes += buffer.len() as u64;
            let mut parts = 0u16;
            for part in buffer.chunks(PART_BYTES_MAX) {
                let key = page_key(page.id, parts);
                let mut value = xxh3_64(part).to_le_bytes().to_vec();
                value.extend_from_slice(part);
                if let Some(before) = get(&key)?.filter(|_| since.is_some()) {
                    sum = sum.wrapping_sub(part_sum(&key, &before));
                }
                sum = sum.wrapping_add(part_sum(&key, &value));
                batch.push((key.to_vec(), Some(value)));
                parts += 1;
            }
            // A page that shrank leaves no old part behind.
            while let Some(before) = get(&page_key(page.id, parts))?.filter(|_| since.is_some()) {
                let key = page_key(page.id, parts);
                sum = sum.wrapping_sub(part_sum(&key, &before));
                batch.push((key.to_vec(), None));
                parts += 1;
            }
        }
        let header = wire::CheckpointHeader {
            format: FORMAT,
            last: last.as_ref().map(raft::log_id_to_wire),
            membership: Some(raft::stored_membership_to_wire(membership)),
            pages: pages.len() as u64,
            sum: Some(sum),
        };
        batch.push((HEADER_KEY.to_vec(), Some(header.encode_to_vec())));
        tree.apply(batch).map_err(|error| self.failed(&error))?;
        self.database.flush().map_err(|error| self.failed(&error))?;
        if !self.storage.is_alive() {
            return Err(self.failed(&"its power is gone"));
        }
        Ok(bytes)
    }

    /// Drops the stored state of `shard`, if there is one. Durable on return. Blocks.
    pub(crate) fn forget(&self, shard: ShardId) -> Result<(), CheckpointError> {
        let tree = self.tree(shard)?;
        let keys = tree.scan(&[]).map(|item| item.map(|(key, _)| (key.to_vec(), None)));
        let batch: Batch = keys.collect::<Result<_, _>>().map_err(|error| self.failed(&error))?;
        if batch.is_empty() {
            return Ok(());
        }
        tree.apply(batch).map_err(|error| self.failed(&error))?;
        self.database.flush().map_err(|error| self.failed(&error))
    }

    /// The stored state of `shard`, if there is one. Blocks.
    pub(crate) fn read(&self, shard: ShardId) -> Result<Option<Checkpoint>, CheckpointError> {
        let damaged = |reason: String| CheckpointError::Damaged { shard, reason };
        let failed = |error: DatabaseError| match error {
            DatabaseError::Damaged(reason) => damaged(reason),
            error @ DatabaseError::Io(_) => self.failed(&error),
        };
        let tree = self.tree(shard)?;
        let Some(header) = tree.get(HEADER_KEY).map_err(failed)? else { return Ok(None) };
        let header = wire::CheckpointHeader::decode(header.as_ref()).map_err(|error| damaged(error.to_string()))?;
        if header.format != FORMAT {
            return Err(damaged(format!("format {} is not known", header.format)));
        }
        let mut pages: Vec<(PageId, Vec<u8>)> = Vec::new();
        let mut sum = 0u64;
        for item in tree.scan(&[PAGE_PREFIX]) {
            let (key, value) = item.map_err(failed)?;
            let (id, part) = parse_page_key(&key).ok_or_else(|| damaged("a key is malformed".to_owned()))?;
            let content = match value.split_first_chunk::<8>() {
                Some((sum, content)) if u64::from_le_bytes(*sum) == xxh3_64(content) => content,
                _ => return Err(damaged(format!("page {} of table {} fails its checksum", id.number, id.table))),
            };
            sum = sum.wrapping_add(part_sum(&key, &value));
            match (part, pages.last_mut()) {
                (0, _) => pages.push((id, content.to_vec())),
                (_, Some((last, bytes))) if *last == id => bytes.extend_from_slice(content),
                _ => return Err(damaged(format!("page {} of table {} lacks its start", id.number, id.table))),
            }
        }
        if pages.len() as u64 != header.pages {
            return Err(damaged(format!("{} of {} pages are there", pages.len(), header.pages)));
        }
        if header.sum.is_some_and(|expected| expected != sum) {
            return Err(damaged("pages of several checkpoints are mixed".to_owned()));
        }
        Ok(Some(Checkpoint {
            last: header.last.map(raft::log_id_from_wire),
            membership: raft::stored_membership_from_wire(header.membership)
                .map_err(|error| damaged(error.to_string()))?,
            pages: pages.into_iter().map(|(id, bytes)| (id, Bytes::from(bytes))).collect(),
        }))
    }
}

/// Renames `directory`, so that an empty one can take its place, and returns its new name.
fn set_aside(storage: &dyn Storage, directory: &Path) -> io::Result<PathBuf> {
    let mut numbers = 1u32..;
    let aside = loop {
        let number = numbers.next().expect("there are fewer directories than numbers");
        let aside = directory.with_extension(format!("damaged-{number}"));
        if !storage.exists(&aside)? {
            break aside;
        }
    };
    storage.rename(directory, &aside)?;
    Ok(aside)
}

/// What a part adds to the header's sum: its key and the checksum that its value begins with.
fn part_sum(key: &[u8], value: &[u8]) -> u64 {
    let checksum = value.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    xxh3_64_with_seed(key, checksum)
}

fn page_key(id: PageId, part: u16) -> [u8; 8] {
    let [a, b, c, d] = id.number.to_be_bytes();
    let [e, f] = part.to_be_bytes();
    [PAGE_PREFIX, id.table, a, b, c, d, e, f]
}

fn parse_page_key(key: &[u8]) -> Option<(PageId, u16)> {
    let [_, table, a, b, c, d, e, f] = *<&[u8; 8]>::try_from(key).ok()?;
    Some((PageId { table, number: u32::from_be_bytes([a, b, c, d]) }, u16::from_be_bytes([e, f])))
}

#[cfg(test)]
impl CheckpointStore {
    /// Damages the last byte of one page.
    pub(crate) fn flip_byte(&self, shard: ShardId) {
        let tree = self.tree(shard).unwrap();
        let (key, value) = tree.scan(&[PAGE_PREFIX]).next().unwrap().unwrap();
        let mut value = value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        tree.apply(vec![(key.to_vec(), Some(value))]).unwrap();
    }
}
