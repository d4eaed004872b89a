//! The front door: [`Cluster::start`] opens the stores and joins or forms the cluster.
//!
//! Raft cores, their transport and the upkeep run on a runtime of their own, so that a busy application does not cost a
//! leader its place. Forming is in `cluster/formation.rs`, joining in `cluster/joining.rs`, opening a group in
//! `cluster/opening.rs` and which ones in `cluster/residence.rs`; changes of the groups' members are in `cluster/moves.rs`,
//! checkpoints, retention and leader spread in `cluster/upkeep.rs` (by age: `cluster/retention.rs`).

mod clocks;
mod disk;
mod formation;
mod identity;
mod joining;
mod moves;
mod opening;
mod residence;
mod retention;
mod upkeep;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::SnapshotPolicy;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::log::{Kept, LogError, LogStore};
use crate::meta::{MetaDoor, MetaError, MetaState, MetaView, VERSION_MAX};
use crate::peer::connection::Accepted;
use crate::peer::life::Life;
use crate::peer::server::{Groups, PeerHandler, PeerService};
use crate::peer::{Expulsion, MESSAGE_BYTES_MAX, Own, Peers, PortTls, TlsIdentity, TlsRefused, never_sent, probe};
use crate::ports::RaftRuntime;
use crate::ports::storage::in_place;
use crate::wire::meta_change::Change;
use crate::wire::{self, peer_server::PeerServer};
use crate::{LogIndex, NodeId, Ports, ShardHandle, ShardId, StateMachine, Term};
pub use disk::DiskState;
use opening::Opening;

/// A node that the cluster is first formed of.
#[derive(Clone, Debug)]
pub struct InitialNode {
    pub id: NodeId,
    /// `host:port`
    pub peer_address: String,
}

/// How this node takes part.
#[derive(Clone)]
pub struct ClusterConfig {
    pub node: NodeId,
    pub zone: String,
    pub data_dir: PathBuf,
    pub peer_listen: SocketAddr,
    /// `host:port` under which peers reach this node.
    pub peer_address: String,
    /// `host:port` of the public API, told to everybody.
    pub api_address: String,
    /// The nodes that the cluster is first formed of, the same list on each.
    pub initial: Vec<InitialNode>,
    /// `host:port` of members that admit this node when it is not one of `initial`.
    pub join: Vec<String>,
    /// Shards when the cluster is first formed.
    pub shards: u32,
    pub replication_factor: usize,
    pub tls: TlsIdentity,
    pub heartbeat: Duration,
    pub election_timeout_min: Duration,
    /// Also the leader's lease.
    pub election_timeout_max: Duration,
    /// Bytes of log kept per node for the feed.
    pub retention_bytes: u64,
    /// Entries of log kept per node for the feed.
    pub retention_entries: u64,
    pub retention_age: Duration,
    /// Of the disk; a node with less free leads no shard and refuses to take anything in. 0: never.
    pub disk_free_min_percent: u8,
    /// Bytes that are kept free on the disk for a start once it is full. 0: none.
    pub ballast_bytes: u64,
    /// A sync of the log that takes longer ends the process.
    pub sync_timeout: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error("the disk of {path} can not be prepared: {source}", path = path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{address} can not be listened on: {reason}")]
    Listen { address: SocketAddr, reason: String },
    #[error("the TLS material can not be used: {0}")]
    Tls(#[from] TlsRefused),
    /// Its disk is not the one it had, another process runs from that, its certificate is another's, or it belongs to another cluster.
    #[error("the cluster refuses this node: {reason}")]
    Refused { reason: String },
    #[error("{node} was removed from its cluster, and its id is never used again")]
    Removed { node: NodeId },
    #[error("the cluster has version {cluster}, this program knows {VERSION_MAX}: start a newer one")]
    TooOld { cluster: u32 },
    #[error("the Raft settings are not valid: {reason}")]
    Raft { reason: String },
    #[error("the runtime can not be started: {reason}")]
    Runtime { reason: String },
}

impl StartError {
    fn of_expulsion(node: NodeId, expulsion: &Expulsion) -> Self {
        match expulsion {
            Expulsion::Removed => Self::Removed { node },
            Expulsion::Refused { reason } => Self::Refused { reason: reason.clone() },
        }
    }
}

/// Why a peer did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Certainly not delivered.
    #[error("{node} can not be reached: {reason}")]
    Unreachable { node: NodeId, reason: String },
    /// Perhaps delivered.
    #[error("no answer from {node} in time")]
    Unknown { node: NodeId },
}

type Shards<S> = BTreeMap<ShardId, ShardHandle<S>>;

/// The cluster's side of a running node.
pub struct Cluster<S: StateMachine> {
    core: Arc<Core<S>>,
    runtime: Mutex<Option<RaftRuntime>>,
}

/// What the cluster's own tasks share.
pub(crate) struct Core<S: StateMachine> {
    pub(crate) config: ClusterConfig,
    pub(crate) ports: Ports,
    pub(crate) peers: Arc<Peers>,
    peer_tls: Arc<PortTls>,
    pub(crate) groups: Groups,
    pub(crate) log: LogStore,
    checkpoints: CheckpointStore,
    raft_config: Arc<openraft::Config>,
    pub(crate) meta: ShardHandle<MetaState>,
    pub(crate) meta_door: Arc<MetaDoor>,
    pub(crate) meta_view: watch::Sender<Arc<MetaView>>,
    pub(crate) shards: watch::Sender<Shards<S>>,
    disk: watch::Sender<DiskState>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Set once the node gives its leaderships away: it takes none back.
    pub(crate) draining: CancellationToken,
    raft_runtime: Handle,
}

impl<S: StateMachine> Cluster<S> {
    /// Opens the stores, joins or forms the cluster, and returns when the meta group is known here. Forming waits for every
    /// node of `config.initial`, without limit. A shard whose state is lost here opens later, once a peer has given it.
    pub async fn start(
        config: ClusterConfig,
        ports: Ports,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<Arc<Self>, StartError> {
        let runtime =
            ports.execution.raft_runtime().map_err(|error| StartError::Runtime { reason: error.to_string() })?;
        let application = Handle::current();
        let failed = match runtime.run(Core::<S>::start(config, ports, handler, application)).await {
            Ok(Ok(core)) => return Ok(Arc::new(Self { core, runtime: Mutex::new(Some(runtime)) })),
            Ok(Err(error)) => error,
            Err(error) => StartError::Runtime { reason: error.to_string() },
        };
        runtime.end().await;
        Err(failed)
    }

    pub fn node(&self) -> NodeId {
        self.core.config.node
    }

    pub fn ports(&self) -> &Ports {
        &self.core.ports
    }

    /// The meta group's state as this node has applied it.
    pub fn meta(&self) -> Arc<MetaView> {
        Arc::clone(&self.core.meta_view.borrow())
    }

    /// Follows the meta group's state.
    pub fn meta_changes(&self) -> watch::Receiver<Arc<MetaView>> {
        self.core.meta_view.subscribe()
    }

    /// The shard of `district`, assigned to the shard with the fewest districts on first use.
    pub async fn assign_district(&self, district: &str) -> Result<ShardId, MetaError> {
        if let Some(shard) = self.meta().districts.get(district) {
            return Ok(*shard);
        }
        let assigned = wire::DistrictAssigned { district: district.to_owned(), shard: 0 };
        Ok(ShardId(self.core.meta_door.change(Change::District(assigned)).await?.shard))
    }

    /// Stores documents (`None` removes), all or none, and returns the new version; refused unless the version before is
    /// `expected_version`.
    pub async fn put_documents(
        &self,
        documents: Vec<(String, Option<Bytes>)>,
        expected_version: Option<u64>,
    ) -> Result<u64, MetaError> {
        let documents = documents.into_iter().map(|(key, content)| wire::Document { key, content }).collect();
        let put = wire::DocumentsPut { documents, expected_version };
        self.core.meta_door.change(Change::Documents(put)).await?.documents_version.ok_or(MetaError::Conflict)
    }

    /// Tells `node` to leave: its replicas move to other nodes, then it is removed, for ever. Returns when that is decided; how
    /// far it is stands in [`Cluster::meta`]. Harmless to repeat.
    ///
    /// `NotFound`: there never was such a node. `Refused`: too few nodes would be left for the replicas.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), MetaError> {
        let leaving = wire::NodeLeaving { node: node.0 };
        self.core.meta_door.change(Change::Leaving(leaving)).await.map(|_changed| ())
    }

    /// Waits until this node learns that it has no part in its cluster, and why: stop it.
    pub async fn expelled(&self) -> StartError {
        StartError::of_expulsion(self.node(), self.core.peers.standing.expelled().await)
    }

    /// Local replicas, without the meta group. Grows when shards are placed on this node, and shrinks when they leave it.
    pub fn shards(&self) -> watch::Receiver<BTreeMap<ShardId, ShardHandle<S>>> {
        self.core.shards.subscribe()
    }

    pub fn shard(&self, id: ShardId) -> Option<ShardHandle<S>> {
        self.core.shards.borrow().get(&id).cloned()
    }

    /// The leader of `shard`, or of the meta group, as far as the local replica knows; without one, as the others said within
    /// the last 2 s.
    pub fn leader(&self, shard: ShardId) -> Option<(NodeId, Term)> {
        let leadership = if shard == ShardId::META {
            *self.core.meta.leadership().borrow()
        } else {
            match self.shard(shard) {
                Some(replica) => *replica.leadership().borrow(),
                None => return self.core.peers.leader(shard),
            }
        };
        leadership.leader.map(|leader| (leader, leadership.term))
    }

    /// The node's disk, looked at once a second.
    pub fn disk(&self) -> watch::Receiver<DiskState> {
        self.core.disk.subscribe()
    }

    /// Tells `observer` how long each round of the log takes, from now on: what waited for all groups is written and synced once.
    /// There is one observer: later ones are ignored. It is called where the log is written, and must not wait.
    pub fn observe_syncs(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        if !self.core.log.observe_syncs(observer) {
            tracing::warn!("the syncs of the log were observed already");
        }
    }

    /// Whether `node` answered within the last 2 s.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        self.core.peers.is_reachable(node)
    }

    /// Shows peers this identity from now on, on connections that either side makes. What is refused changes nothing.
    pub fn renew_identity(&self, identity: TlsIdentity) -> Result<(), TlsRefused> {
        let _on_raft_runtime = self.core.raft_runtime.enter();
        let fresh = PortTls::new(&identity)?;
        self.core.peers.renew(identity)?;
        self.core.peer_tls.take_over(fresh);
        Ok(())
    }

    /// Time between the last probe of a peer and its answer; `None` while it does not answer.
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.core.peers.round_trip(node)
    }

    /// Sends an application request to a peer, never to oneself, and waits for its answer.
    pub async fn call(&self, node: NodeId, request: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        let unreachable = |reason: &str| CallError::Unreachable { node, reason: reason.to_owned() };
        let mut client = self.core.peers.client(node).map_err(|status| unreachable(status.message()))?;
        let mut request = self.core.peers.request(node, None, wire::CallRequest { request });
        request.set_timeout(deadline);
        match tokio::time::timeout(deadline, client.call(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner().response),
            // Only a refused connection is certain: a broken one may have carried the request.
            Ok(Err(status)) if never_sent(&status) => Err(unreachable(status.message())),
            Ok(Err(_)) | Err(_) => Err(CallError::Unknown { node }),
        }
    }

    /// The meta group's applied index and the hash of its state.
    pub fn meta_hash(&self) -> (LogIndex, u128) {
        self.core.meta.state_hash()
    }

    /// Has this node give its leaderships away and take none, as long as somebody else can lead: until it is said otherwise, or the
    /// process ends. Replicas stay.
    pub fn set_drained(&self, is_drained: bool) {
        tracing::info!(is_drained, "whether this node is drained was changed");
        self.core.peers.set_drained(is_drained || self.core.draining.is_cancelled());
    }

    /// Whether this node's clock is far from those of most others, as far as theirs are known. Then it leads nothing, or not for
    /// long.
    pub fn is_clock_wrong(&self) -> bool {
        clocks::is_far(&self.core.peers, self.core.config.node)
    }

    /// Whether `node` is drained, as it said last.
    pub fn is_drained(&self, node: NodeId) -> bool {
        self.core.peers.is_drained(node)
    }

    /// Writes a checkpoint of the local replica of `shard`, or of the meta group, now, then drops its log up to `upto`, as far as the
    /// checkpoint goes. Retention does the same when it is due. `false`: there is no replica here.
    pub async fn compact(&self, shard: ShardId, upto: LogIndex) -> bool {
        if shard == ShardId::META {
            upkeep::compact(&self.core.meta, upto).await;
            return true;
        }
        let Some(group) = self.shard(shard) else { return false };
        upkeep::compact(&group, upto).await;
        true
    }

    /// Hands all leaderships to other replicas, and takes none back. Returns when done, and known to the others, or after
    /// `deadline`.
    pub async fn transfer_leaders(&self, deadline: Duration) {
        self.core.draining.cancel();
        self.core.peers.set_drained(true);
        self.core.peers.set_fit(false);
        if tokio::time::timeout(deadline, upkeep::give_up_leaders(&self.core)).await.is_err() {
            tracing::warn!("some leaderships could not be handed over in time");
        }
    }

    /// Stops the groups, syncs and closes the stores. Idempotent.
    pub async fn shutdown(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        let core = Arc::clone(&self.core);
        if let Err(error) = runtime.run(async move { core.shutdown().await }).await {
            tracing::error!(%error, "the cluster did not stop cleanly");
        }
        runtime.end().await;
    }
}

fn peer_router(service: PeerService) -> Router {
    let server = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(4)))
        .add_service(server)
}

impl<S: StateMachine> Core<S> {
    async fn start(
        config: ClusterConfig,
        ports: Ports,
        handler: Arc<dyn PeerHandler>,
        application: Handle,
    ) -> Result<Arc<Self>, StartError> {
        let mut identity = identity::open(&config.data_dir, config.node, &ports)?;
        let disk = in_place(&*ports.storage, || disk::prepare(&*ports.storage, &config))
            .map_err(|source| StartError::Disk { path: config.data_dir.clone(), source })?;
        let kept = if disk.is_full { Kept::Half } else { Kept::Bytes(config.retention_bytes) };
        let log = in_place(&*ports.storage, || {
            LogStore::open(Arc::clone(&ports.storage), &config.data_dir.join("log"), kept)
        })?;
        if identity.cluster.is_some() && !log.has_vote(ShardId::META) {
            return Err(LogError::Gone { path: config.data_dir.join("log").display().to_string() }.into());
        }
        // Durable before anybody hears of this process. The log is locked now, and whatever could be freed on the disk is.
        identity.starts += 1;
        identity::write(&*ports.storage, &config.data_dir, config.node, &identity)?;
        let checkpoints = in_place(&*ports.storage, || {
            CheckpointStore::open(Arc::clone(&ports.storage), &config.data_dir.join("state"))
        })?;
        let own = Own {
            node: config.node,
            disk: identity.disk,
            life: Life { start: identity.starts, draw: ports.random.next_u64() },
            zone: config.zone.clone(),
            peer_address: config.peer_address.clone(),
            api_address: config.api_address.clone(),
        };
        let peers = Arc::new(Peers::new(own, config.tls.clone(), identity.cluster, &ports));
        for node in &config.initial {
            peers.learn(node.id, &node.peer_address, None).map_err(TlsRefused::from)?;
        }
        let peer_tls = Arc::new(PortTls::new(&config.tls)?);
        let listen = |reason: String| StartError::Listen { address: config.peer_listen, reason };
        let incoming = ports.transport.listen(config.peer_listen).await.map_err(|error| listen(error.to_string()))?;
        let incoming = Arc::clone(&peer_tls).accept_all(incoming.map(Accepted));
        let raft_config = Arc::new(raft_config(&config)?);
        let (groups, tasks, stop) = (Groups::default(), TaskTracker::new(), CancellationToken::new());
        let meta_door = Arc::new(MetaDoor::new(Arc::clone(&peers)));
        let service = PeerService {
            peers: Arc::clone(&peers),
            groups: Arc::clone(&groups),
            meta: Arc::clone(&meta_door),
            handler,
            application,
        };
        let router = peer_router(service);
        let stopped = stop.clone();
        tasks.spawn(async move {
            let serving = router.serve_with_incoming(incoming);
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::error!(%error, "peers are not served any more");
                },
                () = stopped.cancelled() => {}
            }
        });
        let opening = Opening {
            node: config.node,
            log: &log,
            checkpoints: &checkpoints,
            ports: &ports,
            raft_config: &raft_config,
            peers: &peers,
            groups: &groups,
            tasks: &tasks,
            stop: &stop,
        };
        let stored = opening.read::<MetaState>(ShardId::META).await?;
        if joining::is_due(&config, &stored) {
            joining::join(&peers, &config.join, &ports).await?;
        }
        opening.complete(&stored, &peers.nodes()).await;
        let meta = opening.start(stored).await?;
        meta_door.open(meta.clone());
        let core = Arc::new(Self {
            config,
            ports,
            peers: Arc::clone(&peers),
            peer_tls,
            groups,
            log,
            checkpoints,
            raft_config,
            meta_view: watch::Sender::new(Arc::new(meta.view().state.view())),
            meta,
            meta_door,
            shards: watch::Sender::new(BTreeMap::new()),
            disk: watch::Sender::new(disk),
            tasks,
            stop,
            draining: CancellationToken::new(),
            raft_runtime: Handle::current(),
        });
        core.spawn(probe(peers));
        core.spawn(disk::watch_room(Arc::clone(&core)));
        core.spawn(disk::watch_syncs(Arc::clone(&core)));
        if let Err(error) = formation::join_or_form(&core).await {
            core.shutdown().await;
            return Err(error);
        }
        upkeep::start(&core);
        Ok(core)
    }

    /// Runs `task` until the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let stop = self.stop.clone();
        let task = async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        };
        self.tasks.spawn_on(task, &self.raft_runtime)
    }

    fn opening(&self) -> Opening<'_> {
        Opening {
            node: self.config.node,
            log: &self.log,
            checkpoints: &self.checkpoints,
            ports: &self.ports,
            raft_config: &self.raft_config,
            peers: &self.peers,
            groups: &self.groups,
            tasks: &self.tasks,
            stop: &self.stop,
        }
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        self.groups.write().clear();
        let shards: Vec<_> = self.shards.borrow().values().cloned().collect();
        for shard in &shards {
            stop_raft(&shard.raft).await;
        }
        stop_raft(&self.meta.raft).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.log.close().await;
    }
}

pub(super) async fn stop_raft<S: StateMachine>(raft: &crate::shard::Raft<S>) {
    if let Err(error) = raft.shutdown().await {
        tracing::warn!(%error, "a Raft group did not stop cleanly");
    }
}

fn raft_config(config: &ClusterConfig) -> Result<openraft::Config, StartError> {
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "kvarter".to_owned(),
        heartbeat_interval: milliseconds(config.heartbeat),
        election_timeout_min: milliseconds(config.election_timeout_min),
        election_timeout_max: milliseconds(config.election_timeout_max),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Checkpoints and purges are decided by the upkeep alone.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 10_000,
        max_payload_entries: 64,
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Raft { reason: error.to_string() })
}
