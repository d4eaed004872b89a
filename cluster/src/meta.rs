//! The meta group: the one Raft group that holds the cluster itself.
//!
//! [`MetaView`] is its state and applies changes; `meta/decide.rs` says which changes are made, `meta/door.rs` makes them from
//! any node, `meta/encoding.rs` is the form on the wire and on disk. Where replicas belong is decided in `placement.rs`.

mod decide;
mod door;
mod encoding;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use crate::wire::meta_change::Change;
use crate::{ClusterId, DamagedBytes, DiskId, LogIndex, NodeId, Page, PageId, PageTable, ShardId, StateMachine, wire};

pub(crate) use door::MetaDoor;
pub(crate) use encoding::{node_from_wire, node_to_wire};

/// The highest cluster version that this program knows. Raise it with whatever programs before could not read, and write that
/// only where [`MetaView::version`] allows it: the cluster's version rises once every member knows the new one.
pub(crate) const VERSION_MAX: u32 = 4;

/// A node as the meta group has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    pub id: NodeId,
    pub disk: DiskId,
    pub zone: String,
    /// `host:port` for peers.
    pub peer_address: String,
    /// `host:port` of the public API.
    pub api_address: String,
    /// It is to be removed: its replicas move to other nodes, and it gets none.
    pub is_leaving: bool,
}

/// How far a shard's group is in having the replicas that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The group is still to be given its first replicas.
    Founding,
    /// The group is on its way from other replicas to these.
    Moving,
    /// The group has exactly these replicas.
    Settled,
}

/// Where a shard's replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// The first is the preferred leader.
    pub replicas: Vec<NodeId>,
    /// Nodes that may have a replica still, and are to lose it.
    pub leaving: Vec<NodeId>,
    pub phase: Phase,
    /// Rises with every placement.
    pub version: u64,
}

impl ShardRecord {
    /// Whether `node` may have a replica.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.replicas.contains(&node) || self.leaving.contains(&node)
    }

    fn place(&mut self, replicas: Vec<NodeId>) {
        let before = std::mem::replace(&mut self.replicas, replicas);
        self.leaving.extend(before.iter().copied());
        self.leaving.retain(|node| !self.replicas.contains(node));
        self.leaving.sort_unstable();
        self.leaving.dedup();
        let is_same_set = before.len() == self.replicas.len() && before.iter().all(|node| self.replicas.contains(node));
        if !is_same_set {
            self.phase = Phase::Moving;
        }
        self.version += 1;
    }
}

/// The cluster as the meta group has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaView {
    /// Absent until the cluster is formed.
    pub cluster: Option<ClusterId>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Nodes that were removed, with their disks: neither is used again.
    pub removed: BTreeMap<NodeId, DiskId>,
    pub shards: BTreeMap<ShardId, ShardRecord>,
    pub districts: BTreeMap<String, ShardId>,
    /// Documents of the application by key.
    pub documents: BTreeMap<String, Bytes>,
    /// Rises with every change of `documents`.
    pub documents_version: u64,
    /// As it was said when the cluster was formed; zero: not known.
    replication_factor: u32,
    /// Zero: never raised.
    version: u32,
}

/// Why the meta group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Certainly not applied.
    #[error("the meta group has no leader that answers: {reason}")]
    Unavailable { reason: String },
    /// Perhaps applied.
    #[error("whether the change of the meta group commits is unknown")]
    Unknown,
    /// Certainly not applied.
    #[error("the documents changed meanwhile")]
    Conflict,
    /// Certainly not applied: there is nothing of that name.
    #[error("{reason}")]
    NotFound { reason: String },
    /// Certainly not applied, nor will it be when it is repeated.
    #[error("{reason}")]
    Refused { reason: String },
}

impl MetaView {
    /// Replicas that a shard is to have, as far as there are nodes for them.
    pub fn replication_factor(&self) -> usize {
        // Clusters of the first versions do not say; their shards have had that many since they were formed.
        let most = || self.shards.values().map(|shard| shard.replicas.len()).max().unwrap_or(1);
        if self.replication_factor > 0 { self.replication_factor as usize } else { most() }
    }

    /// What may be written: every member's program can read it.
    pub fn version(&self) -> u32 {
        self.version.max(1)
    }

    /// The version to raise the cluster's to, given what each member's program knows; `None` while one has not told, and when
    /// one knows no higher version.
    pub(crate) fn next_version(&self, known: impl Fn(NodeId) -> Option<u32>) -> Option<u32> {
        let lowest = self.nodes.keys().map(|node| known(*node).unwrap_or(0)).min()?;
        (lowest > self.version()).then_some(lowest)
    }

    /// Shards of which `node` may have a replica.
    pub fn replicas_on(&self, node: NodeId) -> usize {
        self.shards.values().filter(|shard| shard.is_on(node)).count()
    }

    /// Nodes that keep their replicas and may get more.
    pub(crate) fn staying(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().filter(|node| !node.is_leaving)
    }

    fn apply(&mut self, change: &wire::MetaChange) {
        match &change.change {
            Some(Change::Formed(formed)) if self.cluster.is_none() => self.form(formed),
            Some(Change::District(assigned)) => {
                self.districts.entry(assigned.district.clone()).or_insert(ShardId(assigned.shard));
            }
            Some(Change::Documents(put)) => {
                for document in &put.documents {
                    match &document.content {
                        Some(content) => self.documents.insert(document.key.clone(), content.clone()),
                        None => self.documents.remove(&document.key),
                    };
                }
                self.documents_version += 1;
            }
            Some(Change::Admitted(admitted)) => {
                let node = admitted.node.clone().and_then(|node| node_from_wire(node).ok());
                if let Some(node) = node.filter(|node| !self.removed.contains_key(&node.id)) {
                    self.nodes.entry(node.id).or_insert(node);
                }
            }
            Some(Change::Leaving(leaving)) => {
                if let Some(node) = self.nodes.get_mut(&NodeId(leaving.node)) {
                    node.is_leaving = true;
                }
            }
            Some(Change::Removed(removed)) => {
                if let Some(node) = self.nodes.remove(&NodeId(removed.node)) {
                    self.removed.insert(node.id, node.disk);
                }
            }
            Some(Change::Placed(placed)) => {
                if let Some(shard) = self.shards.get_mut(&ShardId(placed.shard)) {
                    shard.place(placed.replicas.iter().copied().map(NodeId).collect());
                }
            }
            Some(Change::Settled(settled)) => {
                let shard = self.shards.get_mut(&ShardId(settled.shard));
                if let Some(shard) = shard.filter(|shard| shard.version == settled.version) {
                    shard.phase = Phase::Settled;
                    shard.leaving.clear();
                }
            }
            Some(Change::VersionRaised(raised)) => self.version = self.version().max(raised.version),
            // A second forming lost the race and changes nothing.
            Some(Change::Formed(_)) | None => {}
        }
    }

    fn form(&mut self, formed: &wire::ClusterFormed) {
        let nodes = formed.nodes.iter().cloned().filter_map(|node| node_from_wire(node).ok());
        self.cluster = encoding::id_from_bytes(&formed.cluster).ok().map(ClusterId);
        self.nodes = nodes.map(|node| (node.id, node)).collect();
        self.shards = formed.shards.iter().cloned().map(encoding::shard_from_wire).collect();
        self.replication_factor = formed.replication_factor;
    }

    /// The shard with the fewest districts, the lowest of those.
    fn least_loaded(&self) -> Option<ShardId> {
        let load = |shard: ShardId| self.districts.values().filter(|assigned| **assigned == shard).count();
        self.shards.keys().copied().min_by_key(|shard| (load(*shard), *shard))
    }
}

/// The meta group's state machine: one page.
#[derive(Clone, Default)]
pub(crate) struct MetaState {
    page: PageTable<MetaView>,
}

impl MetaState {
    pub(crate) fn view(&self) -> MetaView {
        self.page.page(0).cloned().unwrap_or_default()
    }
}

impl StateMachine for MetaState {
    type Entry = wire::MetaChange;

    fn decode(payload: &Bytes) -> Result<wire::MetaChange, DamagedBytes> {
        wire::MetaChange::decode(payload.clone()).map_err(|error| DamagedBytes { reason: error.to_string() })
    }

    fn apply(&mut self, index: LogIndex, change: &wire::MetaChange) {
        self.page.page_mut(0, index).apply(change);
    }

    fn pages(&self) -> Vec<Page> {
        self.page.pages(0).collect()
    }

    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes> {
        let mut state = Self::default();
        for (id, bytes) in pages {
            *state.page.page_mut(id.number, LogIndex(0)) = MetaView::decode(bytes)?;
        }
        Ok(state)
    }
}
