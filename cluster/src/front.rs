//! Skeleton of the front door.
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{ClusterId, DiskId, LogIndex, NodeId, Page, PageId, Ports, ShardId, Term};

/// The state that a shard replicates. `Clone` makes a view and must be cheap: keep everything in [`crate::PageTable`]s.
pub trait StateMachine: Clone + Default + Send + Sync + 'static {
    /// A decoded entry; decoded once per node, shared by `apply` and all readers of the feed.
    type Entry: Send + Sync + 'static;
    /// Decodes a committed payload. Only what this version of the program proposes or accepts reaches the log, so an
    /// error here stops the node.
    fn decode(payload: &Bytes) -> Result<Self::Entry, DamagedBytes>;
    /// Applies a committed entry: deterministic, reads no clock, no randomness, no hash order, and can not fail.
    fn apply(&mut self, index: LogIndex, entry: &Self::Entry);
    /// All non-empty pages, in the order of their ids.
    fn pages(&self) -> Vec<Page>;
    /// The state whose `pages` encode to these.
    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes>;
}

/// Bytes that do not decode.
#[derive(Debug, thiserror::Error)]
#[error("damaged bytes: {reason}")]
pub struct DamagedBytes {
    pub reason: String,
}

pub struct View<S> {
    pub applied: LogIndex,
    pub state: S,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The last known leader, of `term`.
    pub leader: Option<NodeId>,
    pub term: Term,
    /// This replica leads `term` and has applied everything committed before it: it may propose.
    pub is_ready: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied.
    #[error("{shard} is not led by this node in term {term}")]
    NotLeader { shard: ShardId, term: Term },
    /// Perhaps applied.
    #[error("{shard}: whether the entry commits is unknown")]
    Unknown { shard: ShardId },
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{shard} is not led by this node")]
    NotLeader { shard: ShardId },
    #[error("{shard} did not confirm its leadership in time")]
    TimedOut { shard: ShardId },
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("{shard}: entries up to {first} are gone from this replica")]
    Gone { shard: ShardId, first: LogIndex },
    #[error("{shard}: the reader is too slow, resume behind {last}")]
    TooSlow { shard: ShardId, last: LogIndex },
    #[error("{shard}: the log could not be read: {reason}")]
    Storage { shard: ShardId, reason: String },
    #[error("{shard}: the node is shutting down")]
    Stopped { shard: ShardId },
}

pub struct FeedEntry<S: StateMachine> {
    pub index: LogIndex,
    pub entry: Arc<S::Entry>,
}

/// Reads committed and applied entries in order. Blank and membership entries only skip indexes.
pub struct FeedReader<S: StateMachine> {
    _state: PhantomData<S>,
}

impl<S: StateMachine> FeedReader<S> {
    /// The next entries, at least one and at most `entries_max`; waits while there are none. Cancel safe.
    pub async fn next(&mut self, entries_max: usize) -> Result<Vec<FeedEntry<S>>, FeedError> {
        let _ = entries_max;
        todo!()
    }
    /// Index up to which everything was returned (moves over blank entries too).
    pub fn position(&self) -> LogIndex {
        todo!()
    }
}

/// A local replica of a shard.
pub struct ShardHandle<S: StateMachine> {
    _state: PhantomData<S>,
}

impl<S: StateMachine> Clone for ShardHandle<S> {
    fn clone(&self) -> Self {
        Self { _state: PhantomData }
    }
}

impl<S: StateMachine> ShardHandle<S> {
    pub fn id(&self) -> ShardId {
        todo!()
    }
    /// Who leads, and whether this replica may propose.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        todo!()
    }
    /// Commits `payload` as one entry in the leadership of `term`, and returns its index when it is applied here.
    /// Dropping the future does not withdraw it.
    pub async fn propose(&self, term: Term, payload: Bytes) -> Result<LogIndex, ProposeError> {
        let _ = (term, payload);
        todo!()
    }
    /// Confirms leadership (ReadIndex) and waits until everything committed before the call is applied here.
    pub async fn read_index(&self) -> Result<LogIndex, ReadError> {
        todo!()
    }
    /// The state at the last applied index; immutable. Hold it briefly: pages changed meanwhile are copied.
    pub fn view(&self) -> Arc<View<S>> {
        todo!()
    }
    /// How long ago this replica last knew that it was up to date with its leader.
    pub fn staleness(&self) -> Duration {
        todo!()
    }
    /// A reader of the entries behind `after` (0: from the first entry that is kept, error `Gone` otherwise when `after` is below).
    pub fn feed(&self, after: LogIndex) -> FeedReader<S> {
        let _ = after;
        todo!()
    }
    /// First index the feed can be read from on this replica.
    pub fn first_index(&self) -> LogIndex {
        todo!()
    }
    /// (applied index, XXH3-128 over all pages, as 32 hex digits)
    pub fn state_hash(&self) -> (LogIndex, String) {
        todo!()
    }
}

#[derive(Clone, Debug)]
pub struct NodeRecord {
    pub id: NodeId,
    pub disk: DiskId,
    pub zone: String,
    /// host:port for peers
    pub peer_address: String,
    /// host:port of the public API
    pub api_address: String,
}

/// The cluster as the meta group has it.
#[derive(Clone, Debug, Default)]
pub struct MetaView {
    pub cluster: Option<ClusterId>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub shards: BTreeMap<ShardId, Vec<NodeId>>,
    pub districts: BTreeMap<String, ShardId>,
    /// Application documents by key (e.g. `kinds/luminaire`).
    pub documents: BTreeMap<String, Bytes>,
    /// Rises with every change of `documents`.
    pub documents_version: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Certainly not applied.
    #[error("the meta group has no leader that answers: {reason}")]
    Unavailable { reason: String },
    /// Perhaps applied.
    #[error("whether the change of the meta group commits is unknown")]
    Unknown,
    /// Certainly not applied: `expected_version` did not match.
    #[error("the documents changed meanwhile")]
    Conflict,
}

/// Answers calls from peers: the application's half of the node-to-node transport.
#[tonic::async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    async fn handle(&self, from: NodeId, request: Bytes) -> Bytes;
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Certainly not delivered.
    #[error("{node} can not be reached: {reason}")]
    Unreachable { node: NodeId, reason: String },
    /// Perhaps delivered.
    #[error("no answer from {node} in time")]
    Unknown { node: NodeId },
}

/// TLS material, PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    pub ca_pem: Vec<u8>,
    pub certificate_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

/// A node that the cluster is first formed of.
#[derive(Clone, Debug)]
pub struct InitialNode {
    pub id: NodeId,
    pub peer_address: String,
}

#[derive(Clone)]
pub struct ClusterConfig {
    pub node: NodeId,
    pub zone: String,
    pub data_dir: PathBuf,
    pub peer_listen: SocketAddr,
    /// host:port under which peers reach this node.
    pub peer_address: String,
    pub api_address: String,
    /// The nodes that the cluster is first formed of, the same list on each.
    pub initial: Vec<InitialNode>,
    /// Shards when the cluster is first formed (16).
    pub shards: u32,
    pub replication_factor: usize,
    pub tls: TlsIdentity,
    pub heartbeat: Duration,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// Bytes of log kept per node for the feed.
    pub retention_bytes: u64,
    pub retention_entries: u64,
    pub retention_age: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Failed(String),
}

/// The running cluster side of a node.
pub struct Cluster<S: StateMachine> {
    _state: PhantomData<S>,
}

impl<S: StateMachine> Cluster<S> {
    /// Opens the stores, joins or forms the cluster, and returns when the meta group is known.
    pub async fn start(config: ClusterConfig, ports: Ports, handler: Arc<dyn PeerHandler>) -> Result<Arc<Self>, StartError> {
        let _ = (config, ports, handler);
        todo!()
    }
    pub fn node(&self) -> NodeId {
        todo!()
    }
    pub fn ports(&self) -> &Ports {
        todo!()
    }
    /// The meta group's state as this node has applied it.
    pub fn meta(&self) -> Arc<MetaView> {
        todo!()
    }
    /// Changes with every applied meta entry.
    pub fn meta_changes(&self) -> watch::Receiver<Arc<MetaView>> {
        todo!()
    }
    /// The shard of `district`, assigned to the least loaded shard on first use. Routed to the meta leader. Idempotent.
    pub async fn assign_district(&self, district: &str) -> Result<ShardId, MetaError> {
        let _ = district;
        todo!()
    }
    /// Stores documents (value `None` removes), all or none; refuses with `Conflict` unless `documents_version` is as expected.
    pub async fn put_documents(&self, documents: Vec<(String, Option<Bytes>)>, expected_version: Option<u64>) -> Result<u64, MetaError> {
        let _ = (documents, expected_version);
        todo!()
    }
    /// Local replicas (without the meta group). Grows when shards are placed on this node.
    pub fn shards(&self) -> watch::Receiver<BTreeMap<ShardId, ShardHandle<S>>> {
        todo!()
    }
    pub fn shard(&self, id: ShardId) -> Option<ShardHandle<S>> {
        let _ = id;
        todo!()
    }
    /// The leader of any shard as far as this node knows: its own replica's word, else what peers said last.
    pub fn leader(&self, shard: ShardId) -> Option<(NodeId, Term)> {
        let _ = shard;
        todo!()
    }
    /// Whether `node` answered within the last 2 s.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        let _ = node;
        todo!()
    }
    /// Sends an application request to a peer (never to oneself) and waits for its answer.
    pub async fn call(&self, node: NodeId, request: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        let _ = (node, request, deadline);
        todo!()
    }
    /// Meta group's applied index, first index, hash: as for shards.
    pub fn meta_hash(&self) -> (LogIndex, String) {
        todo!()
    }
    /// Hands all leaderships to other replicas; returns when done or after `deadline`.
    pub async fn transfer_leaders(&self, deadline: Duration) {
        let _ = deadline;
        todo!()
    }
    /// Stops the groups, syncs and closes the stores.
    pub async fn shutdown(&self) {
        todo!()
    }
}
