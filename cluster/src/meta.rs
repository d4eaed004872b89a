//! The meta group: the one Raft group that holds the cluster itself.
//!
//! [`MetaView`] is its state; [`MetaDoor`] changes it: on the leader a change is decided on the applied state and
//! committed, elsewhere it is handed to the leader.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

use crate::page::PageContent;
use crate::peer::Peers;
use crate::{
    ClusterId, DamagedBytes, DiskId, LogIndex, NodeId, Page, PageId, PageTable, ProposeError, ShardHandle, ShardId,
    StateMachine, Term, wire,
};

/// Time that a change of the meta group may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

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
}

/// The cluster as the meta group has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaView {
    /// Absent until the cluster is formed.
    pub cluster: Option<ClusterId>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Replicas of each shard; the first is its preferred leader.
    pub shards: BTreeMap<ShardId, Vec<NodeId>>,
    pub districts: BTreeMap<String, ShardId>,
    /// Documents of the application by key.
    pub documents: BTreeMap<String, Bytes>,
    /// Rises with every change of `documents`.
    pub documents_version: u64,
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
}

fn id_from_bytes(bytes: &[u8]) -> Result<u128, DamagedBytes> {
    let bytes = <[u8; 16]>::try_from(bytes);
    bytes.map(u128::from_be_bytes).map_err(|_length| DamagedBytes { reason: "an id has 16 bytes".to_owned() })
}

pub(crate) fn node_from_wire(identity: wire::Identity) -> Result<NodeRecord, DamagedBytes> {
    Ok(NodeRecord {
        id: NodeId(identity.node),
        disk: DiskId(id_from_bytes(&identity.disk)?),
        zone: identity.zone,
        peer_address: identity.peer_address,
        api_address: identity.api_address,
    })
}

fn node_to_wire(node: &NodeRecord) -> wire::Identity {
    wire::Identity {
        node: node.id.0,
        disk: node.disk.0.to_be_bytes().to_vec().into(),
        zone: node.zone.clone(),
        peer_address: node.peer_address.clone(),
        api_address: node.api_address.clone(),
        cluster: Bytes::new(),
        clock_us: 0,
        unfit: false,
    }
}

impl PageContent for MetaView {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let state = wire::MetaState {
            cluster: self.cluster.map(|id| id.0.to_be_bytes().to_vec()).unwrap_or_default().into(),
            nodes: self.nodes.values().map(node_to_wire).collect(),
            shards: self
                .shards
                .iter()
                .map(|(shard, replicas)| wire::ShardPlaced {
                    shard: shard.0,
                    replicas: replicas.iter().map(|node| node.0).collect(),
                })
                .collect(),
            districts: self
                .districts
                .iter()
                .map(|(district, shard)| wire::DistrictAssigned { district: district.clone(), shard: shard.0 })
                .collect(),
            documents: self
                .documents
                .iter()
                .map(|(key, content)| wire::Document { key: key.clone(), content: Some(content.clone()) })
                .collect(),
            documents_version: self.documents_version,
        };
        buffer.extend_from_slice(&state.encode_to_vec());
    }
}

impl MetaView {
    fn decode(bytes: Bytes) -> Result<Self, DamagedBytes> {
        let state = wire::MetaState::decode(bytes).map_err(|error| DamagedBytes { reason: error.to_string() })?;
        let cluster = if state.cluster.is_empty() { None } else { Some(ClusterId(id_from_bytes(&state.cluster)?)) };
        let nodes = state.nodes.into_iter().map(node_from_wire).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            cluster,
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            shards: state.shards.into_iter().map(placed).collect(),
            districts: state.districts.into_iter().map(|each| (each.district, ShardId(each.shard))).collect(),
            documents: state
                .documents
                .into_iter()
                .filter_map(|document| document.content.map(|content| (document.key, content)))
                .collect(),
            documents_version: state.documents_version,
        })
    }

    fn apply(&mut self, change: &wire::MetaChange) {
        match &change.change {
            Some(wire::meta_change::Change::Formed(formed)) if self.cluster.is_none() => {
                let nodes = formed.nodes.iter().cloned().filter_map(|node| node_from_wire(node).ok());
                self.cluster = id_from_bytes(&formed.cluster).ok().map(ClusterId);
                self.nodes = nodes.map(|node| (node.id, node)).collect();
                self.shards = formed.shards.iter().cloned().map(placed).collect();
            }
            Some(wire::meta_change::Change::District(assigned)) => {
                self.districts.entry(assigned.district.clone()).or_insert(ShardId(assigned.shard));
            }
            Some(wire::meta_change::Change::Documents(put)) => {
                for document in &put.documents {
                    match &document.content {
                        Some(content) => self.documents.insert(document.key.clone(), content.clone()),
                        None => self.documents.remove(&document.key),
                    };
                }
                self.documents_version += 1;
            }
            // A second forming lost the race and changes nothing.
            Some(wire::meta_change::Change::Formed(_)) | None => {}
        }
    }

    /// The shard with the fewest districts, the lowest of those.
    fn least_loaded(&self) -> Option<ShardId> {
        let load = |shard: ShardId| self.districts.values().filter(|assigned| **assigned == shard).count();
        self.shards.keys().copied().min_by_key(|shard| (load(*shard), *shard))
    }
}

fn placed(placed: wire::ShardPlaced) -> (ShardId, Vec<NodeId>) {
    (ShardId(placed.shard), placed.replicas.into_iter().map(NodeId).collect())
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

/// Changes the meta group, from any node.
pub(crate) struct MetaDoor {
    peers: Arc<Peers>,
    /// Set once the group is open.
    group: OnceLock<ShardHandle<MetaState>>,
    /// One change is decided at a time, on the state that has the one before. Tells whether it is unknown what became of
    /// that one.
    in_doubt: tokio::sync::Mutex<bool>,
}

impl MetaDoor {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, group: OnceLock::new(), in_doubt: tokio::sync::Mutex::new(false) }
    }

    pub(crate) fn open(&self, group: ShardHandle<MetaState>) {
        if self.group.set(group).is_err() {
            tracing::error!("the meta group was opened twice");
        }
    }

    /// Decides and commits `change` on this node, which must lead the meta group.
    pub(crate) async fn change_here(&self, change: wire::MetaChange) -> Result<wire::MetaChanged, Status> {
        let not_leader = || Status::unavailable("this node does not lead the meta group");
        let group = self.group.get().ok_or_else(not_leader)?;
        let mut in_doubt = self.in_doubt.lock().await;
        let leadership = *group.leadership().borrow();
        if !leadership.is_ready {
            return Err(not_leader());
        }
        if *in_doubt {
            // The change in doubt stands in the log before this empty one or nowhere.
            commit(group, leadership.term, &wire::MetaChange::default()).await?;
            *in_doubt = false;
        }
        let view = group.view().state.view();
        let decided = match decide(&view, change)? {
            Decision::Commit(change) => change,
            Decision::Answer(answer) => return Ok(answer),
        };
        // Before the wait: the caller may give up meanwhile.
        *in_doubt = true;
        commit(group, leadership.term, &decided).await?;
        *in_doubt = false;
        let shard = match &decided.change {
            Some(wire::meta_change::Change::District(assigned)) => assigned.shard,
            _ => 0,
        };
        let version = group.view().state.view().documents_version;
        Ok(wire::MetaChanged { documents_version: Some(version), shard })
    }

    /// Commits `change` through whoever leads; retries while it is certain that nothing was applied.
    pub(crate) async fn change(&self, change: wire::MetaChange) -> Result<wire::MetaChanged, MetaError> {
        let attempts = async {
            loop {
                let leader = self.group.get().and_then(|group| group.leadership().borrow().leader);
                let answer = match leader {
                    None => Err(Status::unavailable("no leader is known")),
                    Some(leader) if leader == self.peers.own.node => self.change_here(change.clone()).await,
                    Some(leader) => match self.peers.client(leader) {
                        Err(status) => Err(status),
                        Ok(mut client) => {
                            let request = self.peers.request(leader, None, change.clone());
                            client.change_meta(request).await.map(tonic::Response::into_inner)
                        }
                    },
                };
                match answer {
                    Ok(changed) => return Ok(changed),
                    Err(status) if status.code() == tonic::Code::Unavailable => {
                        tracing::debug!(%status, "the meta group is asked again");
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                    Err(status) if status.code() == tonic::Code::InvalidArgument => {
                        return Err(MetaError::Unavailable { reason: status.message().to_owned() });
                    }
                    Err(_unclear) => return Err(MetaError::Unknown),
                }
            }
        };
        tokio::time::timeout(CHANGE_TIMEOUT, attempts).await.unwrap_or(Err(MetaError::Unknown))
    }
}

/// Commits `change` in the leadership of `term`: `Unavailable` when it certainly is not, `Aborted` when that is unknown.
async fn commit(group: &ShardHandle<MetaState>, term: Term, change: &wire::MetaChange) -> Result<(), Status> {
    match group.propose(term, change.encode_to_vec().into()).await {
        Ok(_index) => Ok(()),
        Err(error @ ProposeError::NotLeader { .. }) => Err(Status::unavailable(error.to_string())),
        Err(error @ ProposeError::Unknown { .. }) => Err(Status::aborted(error.to_string())),
    }
}

enum Decision {
    Commit(wire::MetaChange),
    Answer(wire::MetaChanged),
}

fn decide(view: &MetaView, change: wire::MetaChange) -> Result<Decision, Status> {
    use wire::meta_change::Change;
    let version = Some(view.documents_version);
    Ok(match change.change {
        None => return Err(Status::invalid_argument("the change is empty")),
        Some(Change::Formed(_)) if view.cluster.is_some() => {
            Decision::Answer(wire::MetaChanged { documents_version: version, shard: 0 })
        }
        Some(Change::District(assigned)) => match view.districts.get(&assigned.district) {
            Some(shard) => Decision::Answer(wire::MetaChanged { documents_version: version, shard: shard.0 }),
            None => {
                let shard = view.least_loaded().ok_or_else(|| Status::unavailable("the cluster has no shards yet"))?;
                let change = Change::District(wire::DistrictAssigned { shard: shard.0, ..assigned });
                Decision::Commit(wire::MetaChange { change: Some(change) })
            }
        },
        Some(Change::Documents(put)) if put.expected_version.is_some_and(|expected| Some(expected) != version) => {
            Decision::Answer(wire::MetaChanged { documents_version: None, shard: 0 })
        }
        change @ Some(Change::Formed(_) | Change::Documents(_)) => Decision::Commit(wire::MetaChange { change }),
    })
}
