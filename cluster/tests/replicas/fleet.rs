//! Nodes of a cluster in this process, on loopback, each with its own directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvarter_cluster::{
    Clock, Cluster, ClusterConfig, DamagedBytes, InitialNode, LogIndex, MemoryStorage, NodeId, Page, PageContent,
    PageId, PageTable, PeerHandler, Ports, ProposeError, ShardHandle, ShardId, StartError, StateMachine, Timestamp,
    TlsIdentity,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::links::Links;

/// Far above what any wait takes; only a hang reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const BALLAST_BYTES: u64 = 1 << 20;

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let waited = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waited).await.is_ok(), "never: {what}");
}

/// Keeps every note that was proposed.
#[derive(Clone, Default)]
pub(crate) struct Notebook(PageTable<Notes>);

#[derive(Clone, Default)]
struct Notes(Vec<String>);

impl PageContent for Notes {
    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.0.join("\n").as_bytes());
    }
}

impl StateMachine for Notebook {
    type Entry = String;

    fn decode(payload: &Bytes) -> Result<String, DamagedBytes> {
        String::from_utf8(payload.to_vec()).map_err(|error| DamagedBytes { reason: error.to_string() })
    }

    fn apply(&mut self, index: LogIndex, note: &String) {
        self.0.page_mut(0, index).0.push(note.clone());
    }

    fn pages(&self) -> Vec<Page> {
        self.0.pages(0).collect()
    }

    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes> {
        let mut state = Self::default();
        for (id, bytes) in pages {
            let notes = Self::decode(&bytes)?;
            state.0.page_mut(id.number, LogIndex(0)).0 = notes.lines().map(ToOwned::to_owned).collect();
        }
        Ok(state)
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate_pem }
    }

    fn identity(&self, node: u64) -> TlsIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("node:{node}"));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        TlsIdentity {
            ca_pem: self.certificate_pem.clone().into_bytes(),
            certificate_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
        }
    }
}

struct Echo;

#[tonic::async_trait]
impl PeerHandler for Echo {
    async fn handle(&self, from: NodeId, request: Bytes) -> Bytes {
        format!("{from} said {}", String::from_utf8_lossy(&request)).into()
    }
}

pub(crate) struct Fleet {
    authority: Authority,
    /// Nodes that are not among the first ones.
    joining: BTreeSet<u64>,
    directories: BTreeMap<u64, TempDir>,
    addresses: BTreeMap<u64, SocketAddr>,
    tls: BTreeMap<u64, TlsIdentity>,
    running: BTreeMap<u64, Arc<Cluster<Notebook>>>,
    shards: u32,
    replication_factor: usize,
    retention_entries: u64,
    links: Option<Links>,
    /// The disks of a fleet in memory.
    disks: BTreeMap<u64, MemoryStorage>,
    /// How far each node's clock is ahead, microseconds; may be set at any time.
    clocks: BTreeMap<u64, Arc<AtomicI64>>,
}

/// The machine's clock, set wrong.
struct WrongClock {
    right: Arc<dyn Clock>,
    ahead_us: Arc<AtomicI64>,
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.right.now().0 + self.ahead_us.load(Ordering::Relaxed))
    }
}

impl Fleet {
    pub(crate) fn new(nodes: u64, shards: u32) -> Self {
        let authority = Authority::new();
        // All are held until all are drawn, so that no two are the same.
        let listeners: Vec<_> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap());
        Self {
            directories: (1..=nodes).map(|node| (node, tempfile::tempdir().unwrap())).collect(),
            addresses: (1..=nodes).zip(addresses).collect(),
            tls: (1..=nodes).map(|node| (node, authority.identity(node))).collect(),
            authority,
            joining: BTreeSet::new(),
            running: BTreeMap::new(),
            shards,
            replication_factor: 3,
            retention_entries: 1_000_000,
            links: None,
            disks: BTreeMap::new(),
            clocks: (1..=nodes).map(|node| (node, Arc::default())).collect(),
        }
    }

    /// A node that is to join by the others.
    pub(crate) fn add(&mut self, node: u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.directories.insert(node, tempfile::tempdir().unwrap());
        self.addresses.insert(node, listener.local_addr().unwrap());
        self.tls.insert(node, self.authority.identity(node));
        self.clocks.insert(node, Arc::default());
        self.joins(node);
    }

    /// `node` is not to be among the first ones any more.
    pub(crate) fn joins(&mut self, node: u64) {
        self.joining.insert(node);
    }

    pub(crate) fn set_clock_ahead(&self, node: u64, ahead: i64) {
        self.clocks[&node].store(ahead, Ordering::Relaxed);
    }

    /// A fleet whose links have switches, with a replica of each shard on each node.
    pub(crate) fn linked(nodes: u64, shards: u32) -> (Self, Links) {
        let mut fleet = Self::new(nodes, shards);
        fleet.replication_factor = usize::try_from(nodes).unwrap();
        let links = Links::new(&fleet.addresses);
        fleet.links = Some(links.clone());
        (fleet, links)
    }

    /// A fleet on disks in memory, of a capacity in bytes.
    pub(crate) fn in_memory(nodes: u64, shards: u32, capacity: u64) -> Self {
        let mut fleet = Self::new(nodes, shards);
        for node in 1..=nodes {
            let disk = MemoryStorage::blocking();
            disk.set_capacity(Some(capacity));
            fleet.disks.insert(node, disk);
        }
        fleet
    }

    pub(crate) fn disk(&self, node: u64) -> &MemoryStorage {
        &self.disks[&node]
    }

    /// Cuts the power of the disks of `nodes`, and ends the nodes, which write to what is no more.
    pub(crate) async fn crash(&mut self, nodes: impl IntoIterator<Item = u64> + Clone, seed: u64) {
        for node in nodes.clone() {
            let found = self.disks[&node].crash(seed ^ node);
            self.disks.insert(node, found);
        }
        for node in nodes {
            self.stop(node).await;
        }
    }

    fn ports(&self, node: u64) -> Ports {
        let mut ports = self.links.as_ref().map_or_else(Ports::system, |links| links.ports(node));
        if let Some(disk) = self.disks.get(&node) {
            ports.storage = Arc::new(disk.clone());
        }
        let clock = WrongClock { right: Arc::clone(&ports.clock), ahead_us: Arc::clone(&self.clocks[&node]) };
        Ports { clock: Arc::new(clock), ..ports }
    }

    pub(crate) fn with_retention_entries(mut self, entries: u64) -> Self {
        self.retention_entries = entries;
        self
    }

    pub(crate) fn address(&self, node: u64) -> SocketAddr {
        self.addresses[&node]
    }

    fn firsts(&self) -> impl Iterator<Item = (&u64, &SocketAddr)> {
        self.addresses.iter().filter(|(node, _)| !self.joining.contains(node))
    }

    fn config(&self, node: u64) -> ClusterConfig {
        let address = self.addresses[&node];
        ClusterConfig {
            node: NodeId(node),
            zone: format!("zone-{node}"),
            data_dir: self.data_directory(node),
            peer_listen: address,
            peer_address: address.to_string(),
            api_address: format!("localhost:{node}"),
            initial: self
                .firsts()
                .map(|(id, address)| InitialNode { id: NodeId(*id), peer_address: address.to_string() })
                .collect(),
            join: self.firsts().map(|(_, address)| address.to_string()).collect(),
            shards: self.shards,
            replication_factor: self.replication_factor,
            tls: self.tls[&node].clone(),
            heartbeat: Duration::from_millis(150),
            election_timeout_min: Duration::from_millis(500),
            election_timeout_max: Duration::from_millis(1000),
            retention_bytes: 1 << 30,
            retention_entries: self.retention_entries,
            retention_age: Duration::from_secs(3600),
            // Where the disk is the machine's, how full it is is not the test's business.
            disk_free_min_percent: if self.disks.is_empty() { 0 } else { 5 },
            ballast_bytes: BALLAST_BYTES,
            sync_timeout: Duration::from_secs(3),
        }
    }

    pub(crate) async fn try_start(&mut self, node: u64) -> Result<(), StartError> {
        let started = Cluster::start(self.config(node), self.ports(node), Arc::new(Echo)).await?;
        self.running.insert(node, started);
        Ok(())
    }

    pub(crate) async fn start(&mut self, node: u64) {
        self.try_start(node).await.unwrap();
    }

    /// Starts all at once, since forming waits for everybody.
    pub(crate) async fn start_all(&mut self) {
        let starting = self.directories.keys().map(|node| {
            let (config, ports) = (self.config(*node), self.ports(*node));
            async move { (*node, Cluster::start(config, ports, Arc::new(Echo)).await.unwrap()) }
        });
        let started = futures::future::join_all(starting.collect::<Vec<_>>()).await;
        self.running.extend(started);
    }

    /// Starts a second process of `node`, on `disk` and at an address of its own.
    pub(crate) async fn start_second(
        &self,
        node: u64,
        disk: MemoryStorage,
    ) -> Result<Arc<Cluster<Notebook>>, StartError> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = ClusterConfig { peer_listen: address, peer_address: address.to_string(), ..self.config(node) };
        let ports = Ports { storage: Arc::new(disk), ..self.ports(node) };
        Cluster::start(config, ports, Arc::new(Echo)).await
    }

    /// Starts `node`, and lets go of it once it was admitted; `false`: it was not.
    pub(crate) async fn is_given_up_at_once(&self, node: u64) -> bool {
        let start = Cluster::<Notebook>::start(self.config(node), self.ports(node), Arc::new(Echo));
        let admitted = async {
            let is_known = || self.running.values().any(|member| member.meta().nodes.contains_key(&NodeId(node)));
            eventually("it is admitted", is_known).await;
        };
        tokio::select! {
            biased;
            () = admitted => true,
            _ = start => self.running.values().any(|member| member.meta().nodes.contains_key(&NodeId(node))),
        }
    }

    /// Ends `node` where it is, as a crash would.
    pub(crate) fn kill(&mut self, node: u64) {
        drop(self.running.remove(&node).unwrap());
    }

    /// Starts `node` once what was killed or given up of it has ended.
    pub(crate) async fn start_again(&mut self, node: u64) {
        while let Err(error) = self.try_start(node).await {
            let error = error.to_string();
            assert!(error.contains("lock") || error.contains("can not be listened on"), "{error}");
        }
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = u64> {
        self.running.keys().copied()
    }

    pub(crate) async fn stop(&mut self, node: u64) {
        self.running.remove(&node).unwrap().shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(node).await;
        }
    }

    pub(crate) fn swap_directories(&mut self, one: u64, other: u64) {
        let directory = self.directories.remove(&one).unwrap();
        let replaced = self.directories.insert(other, directory).unwrap();
        self.directories.insert(one, replaced);
    }

    pub(crate) fn wipe(&mut self, node: u64) {
        self.directories.insert(node, tempfile::tempdir().unwrap());
    }

    /// Puts a disk of another cluster, which is gone, into a stopped node.
    pub(crate) fn take_disk_of(&mut self, node: u64, mut other: Self) {
        self.directories.insert(node, other.directories.remove(&node).unwrap());
    }

    /// Takes the log away, on a stopped node, and leaves its identity and its checkpoints.
    pub(crate) fn remove_log(&self, node: u64) {
        let data = self.data_directory(node);
        std::fs::remove_dir_all(data.join("log")).unwrap();
        std::fs::remove_file(data.join("log.round")).unwrap();
    }

    /// Puts another disk into a stopped node.
    pub(crate) fn swap_disk(&mut self, node: u64, disk: MemoryStorage) {
        self.disks.insert(node, disk);
    }

    pub(crate) fn data_directory(&self, node: u64) -> PathBuf {
        self.directories[&node].path().join("data")
    }

    /// Damages a byte of a stored page, on a stopped node.
    pub(crate) fn flip_checkpoint_byte(&self, node: u64, shard: ShardId) {
        let directory = self.data_directory(node).join("state");
        let database = sled::Config::new().path(directory).segment_size(8 << 20).open().unwrap();
        let tree = database.open_tree(format!("shard-{}", shard.0)).unwrap();
        let (key, value) = tree.scan_prefix(b"p").next().unwrap().unwrap();
        let mut value = value.to_vec();
        *value.last_mut().unwrap() ^= 1;
        tree.insert(key, value).unwrap();
        database.flush().unwrap();
    }

    /// Overwrites every file of the checkpoints, on a stopped node.
    pub(crate) fn garble_checkpoints(&self, node: u64) {
        for file in std::fs::read_dir(self.data_directory(node).join("state")).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
                std::fs::write(file.path(), vec![0xa5; length]).unwrap();
            }
        }
    }

    pub(crate) fn node(&self, node: u64) -> &Cluster<Notebook> {
        &self.running[&node]
    }

    pub(crate) fn shard(&self, node: u64, shard: ShardId) -> ShardHandle<Notebook> {
        self.node(node).shard(shard).unwrap()
    }

    pub(crate) fn notes(&self, node: u64, shard: ShardId) -> Vec<String> {
        self.shard(node, shard).view().state.0.page(0).map(|notes| notes.0.clone()).unwrap_or_default()
    }

    pub(crate) fn leads(&self, node: u64, shard: ShardId) -> bool {
        self.running
            .get(&node)
            .is_some_and(|node| node.shard(shard).is_some_and(|replica| replica.leadership().borrow().is_ready))
    }

    pub(crate) async fn leader(&self, shard: ShardId) -> u64 {
        self.leader_among(&self.running.keys().copied().collect::<Vec<_>>(), shard).await
    }

    /// Who of `nodes` leads; a node that is cut off may believe that it leads as well.
    async fn leader_among(&self, nodes: &[u64], shard: ShardId) -> u64 {
        let leader = || nodes.iter().copied().find(|node| self.leads(*node, shard));
        loop {
            eventually("a leader", || leader().is_some()).await;
            if let Some(leader) = leader() {
                return leader;
            }
        }
    }

    /// Waits until all replicas have the same state at the same index.
    pub(crate) async fn agrees(&self, shard: ShardId) {
        eventually("equal hashes at the same index", || {
            let mut hashes = self.running.keys().map(|node| self.shard(*node, shard).state_hash());
            let first = hashes.next();
            hashes.all(|hash| Some(hash) == first)
        })
        .await;
    }

    /// Commits `count` notes, each its own entry, many under way at once.
    pub(crate) async fn propose_many(&self, shard: ShardId, count: usize, note: &str) {
        let notes: Vec<_> = (0..count).map(|number| format!("{note}-{number}")).collect();
        futures::future::join_all(notes.iter().map(|note| self.propose(shard, note))).await;
    }

    /// Commits `note` through whoever leads; asks again while it is certain that nothing was applied.
    pub(crate) async fn propose(&self, shard: ShardId, note: &str) -> LogIndex {
        self.propose_among(&self.running.keys().copied().collect::<Vec<_>>(), shard, note).await
    }

    /// Commits `note` through whoever of `nodes` leads.
    pub(crate) async fn propose_among(&self, nodes: &[u64], shard: ShardId, note: &str) -> LogIndex {
        self.try_propose_among(nodes, shard, note).await.unwrap()
    }

    /// As `propose_among`, for leaders that may go meanwhile: then nobody knows.
    pub(crate) async fn try_propose_among(
        &self,
        nodes: &[u64],
        shard: ShardId,
        note: &str,
    ) -> Result<LogIndex, ProposeError> {
        loop {
            let Some(leader) = self.node(self.leader_among(nodes, shard).await).shard(shard) else { continue };
            let term = leader.leadership().borrow().term;
            match leader.propose(term, Bytes::from(note.to_owned())).await {
                Err(ProposeError::NotLeader { .. }) => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    }
}
