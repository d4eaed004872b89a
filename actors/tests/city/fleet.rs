//! Cities in this process, on loopback: real clusters, real disks, real sockets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::message::{self, Failure, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{CallContext, City, CityConfig, Criticality, PeerDoor};
use kvarter_cluster::{Cluster, ClusterConfig, InitialNode, NodeId, Ports, ShardId, Storage, TlsIdentity};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Far above what any wait takes; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let waited = async {
        while !holds().await {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waited).await.is_ok(), "never: {what}");
}

pub(crate) struct Fleet {
    directories: BTreeMap<u64, TempDir>,
    addresses: BTreeMap<u64, SocketAddr>,
    tls: BTreeMap<u64, TlsIdentity>,
    running: BTreeMap<u64, City>,
    pub(crate) config: CityConfig,
    /// Never, for how full the machine's disk is is not the test's business.
    pub(crate) disk_free_min_percent: u8,
    pub(crate) storage: Arc<dyn Storage>,
}

impl Fleet {
    pub(crate) fn new(nodes: u64) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let identity = |node: u64| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, format!("node:{node}"));
            let certificate = params.signed_by(&key, &issuer).unwrap();
            TlsIdentity {
                ca_pem: ca_certificate.pem().into_bytes(),
                certificate_pem: certificate.pem().into_bytes(),
                key_pem: key.serialize_pem().into_bytes(),
            }
        };
        // All are held until all are drawn, so that no two are the same.
        let listeners: Vec<_> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap());
        Self {
            directories: (1..=nodes).map(|node| (node, tempfile::tempdir().unwrap())).collect(),
            addresses: (1..=nodes).zip(addresses).collect(),
            tls: (1..=nodes).map(|node| (node, identity(node))).collect(),
            running: BTreeMap::new(),
            config: CityConfig {
                linger_max: Duration::from_millis(2),
                district_devices_max: 20_000,
                device_actors_max: 1_000,
                inbox_requests_max: 256,
                stream_age_max: Duration::from_secs(3600),
                poison: None,
            },
            disk_free_min_percent: 0,
            storage: Ports::system().storage,
        }
    }

    /// Starts all at once, since forming waits for everybody.
    pub(crate) async fn start_all(&mut self) {
        let started = futures::future::join_all(self.directories.keys().map(|node| self.started(*node))).await;
        self.running.extend(started);
    }

    /// Starts one node of a cluster that is formed.
    pub(crate) async fn start(&mut self, node: u64) {
        let started = self.started(node).await;
        self.running.extend([started]);
    }

    async fn started(&self, node: u64) -> (u64, City) {
        let ports = Ports { storage: Arc::clone(&self.storage), ..Ports::system() };
        let door = PeerDoor::default();
        let cluster = Cluster::start(self.cluster_config(node), ports, Arc::new(door.clone())).await.unwrap();
        (node, City::start(cluster, door, self.config.clone()).await)
    }

    fn cluster_config(&self, node: u64) -> ClusterConfig {
        let address = self.addresses[&node];
        let initial = self.addresses.iter();
        let initial = initial.map(|(id, address)| InitialNode { id: NodeId(*id), peer_address: address.to_string() });
        ClusterConfig {
            node: NodeId(node),
            zone: format!("zone-{node}"),
            data_dir: self.directories[&node].path().join("data"),
            peer_listen: address,
            peer_address: address.to_string(),
            api_address: format!("localhost:{node}"),
            initial: initial.collect(),
            join: Vec::new(),
            shards: 2,
            replication_factor: 3,
            tls: self.tls[&node].clone(),
            heartbeat: Duration::from_millis(150),
            election_timeout_min: Duration::from_millis(500),
            election_timeout_max: Duration::from_millis(1000),
            retention_bytes: 1 << 30,
            retention_entries: 1_000_000,
            retention_age: Duration::from_secs(3600),
            disk_free_min_percent: self.disk_free_min_percent,
            ballast_bytes: 1 << 20,
            sync_timeout: Duration::from_secs(30),
        }
    }

    /// Where a node has its log.
    pub(crate) fn log_directory(&self, node: u64) -> PathBuf {
        self.directories[&node].path().join("data").join("log")
    }

    pub(crate) async fn stop(&mut self, node: u64) {
        let city = self.running.remove(&node).unwrap();
        city.shutdown().await;
        city.cluster().shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for node in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(node).await;
        }
    }

    pub(crate) fn city(&self, node: u64) -> &City {
        &self.running[&node]
    }

    /// A running node that does not lead `shard`, once its leader is known.
    pub(crate) async fn follower(&self, shard: ShardId) -> u64 {
        let leader = self.leader(shard).await;
        self.running.keys().copied().find(|node| *node != leader).unwrap()
    }

    pub(crate) async fn leader(&self, shard: ShardId) -> u64 {
        let leads =
            |city: &City| city.cluster().shard(shard).is_some_and(|handle| handle.leadership().borrow().is_ready);
        eventually("a leader", async || self.running.values().any(leads)).await;
        self.running.iter().find(|(_, city)| leads(city)).map(|(node, _)| *node).unwrap()
    }
}

/// Asks `city`; the deadline is far above what any answer takes.
pub(crate) async fn call(city: &City, shard: ShardId, request: Request) -> Result<Reply, Failure> {
    call_as(city, shard, request, None).await
}

/// The same, of a caller that says how critical its request is.
pub(crate) async fn call_as(
    city: &City,
    shard: ShardId,
    request: Request,
    criticality: Option<Criticality>,
) -> Result<Reply, Failure> {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    ask(
        city,
        shard,
        request,
        CallContext { deadline: Duration::from_secs(30), traceparent, criticality, ..CallContext::default() },
    )
    .await
}

/// The same, of a caller without a trace.
pub(crate) async fn call_untraced(city: &City, shard: ShardId, request: Request) -> Result<Reply, Failure> {
    let traceparent = String::new();
    ask(city, shard, request, CallContext { deadline: Duration::from_secs(30), traceparent, ..CallContext::default() })
        .await
}

/// The same, of a caller who waits for `deadline`.
pub(crate) async fn call_within(
    city: &City,
    shard: ShardId,
    request: Request,
    deadline: Duration,
) -> Result<Reply, Failure> {
    ask(city, shard, request, CallContext { deadline, ..CallContext::default() }).await
}

async fn ask(city: &City, shard: ShardId, request: Request, context: CallContext) -> Result<Reply, Failure> {
    city.call(message::ShardRequest { shard: shard.0, request: Some(request), ..Default::default() }, context).await
}

/// Asks again while it is unknown whether the request was applied: for requests that may be repeated.
pub(crate) async fn call_until_known(city: &City, shard: ShardId, request: Request) -> Result<Reply, Failure> {
    loop {
        match call(city, shard, request.clone()).await {
            Err(failure) if failure.reason() == message::FailureReason::Unknown => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}
