//! What the driver of a simulation and its hosts share: time, disks, the cities that run, and what outlives every node.
//!
//! All run on one thread; locks are held for a moment, never over an `await`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::{City, CityConfig};
use kvarter_cluster::{
    ClusterConfig, Execution, InitialNode, LogIndex, MemoryStorage, NodeId, Ports, ShardId, Storage, TlsIdentity,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::gateway::Gateway;
use super::history::History;
use super::ports::{SeededRandom, SimulatedNetwork, SkewedClock, Time};
use super::tls::Authority;
use super::trace::Trace;

pub(super) const NODES: u64 = 3;
pub(super) const SHARDS: u32 = 3;
/// One gateway each.
pub(super) const DISTRICTS: [&str; 3] = ["centrum", "havn", "vest"];
pub(super) const DISTRICT_DEVICES: u32 = 4;
const PEER_PORT: u16 = 7001;
/// How often a host looks whether something is its to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a node makes of its disk: a test may make one that lies.
pub(super) type Disk = fn(MemoryStorage) -> Arc<dyn Storage>;

/// What clients do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Gateways connect for the first time.
    Forming,
    /// Clients work, and faults are made.
    Load,
    /// Clients work, and nothing is broken any more: each shard must serve everybody.
    Healed,
    /// Clients end what they began.
    Quiet,
    /// Nothing new is said; feeds are read from their beginning.
    Reading,
}

/// A node as the stage has it, over all its lives.
pub(super) struct StagedNode {
    pub(super) clock: SkewedClock,
    pub(super) disk: MemoryStorage,
    tls: TlsIdentity,
    lives: u64,
    /// While it runs.
    pub(super) city: Option<City>,
}

pub(super) struct Stage {
    seed: u64,
    disk: Disk,
    pub(super) time: Time,
    phase: Mutex<Phase>,
    pub(super) nodes: Mutex<BTreeMap<u64, StagedNode>>,
    pub(super) gateways: Mutex<Vec<Gateway>>,
    /// The node that serves the subscriber of each shard.
    pub(super) subscriptions: Mutex<BTreeMap<u32, u64>>,
    pub(super) history: Mutex<History>,
    /// Node and shard of the writes that were served after all was healed.
    pub(super) served: Mutex<BTreeSet<(u64, u32)>>,
    trace: Mutex<Trace>,
    /// By node: what it is to compact, and up to where.
    compactions: Mutex<BTreeMap<u64, VecDeque<(ShardId, LogIndex)>>>,
    /// Snapshots that replicas installed in lives that are over.
    installed: Mutex<u64>,
    /// Values that clients write, each once.
    values: Mutex<u32>,
}

pub(super) fn host(node: u64) -> String {
    format!("node-{node}")
}

impl Stage {
    pub(super) fn new(seed: u64, disk: Disk) -> Arc<Self> {
        let (time, authority) = (Time::default(), Authority::new());
        let mut random = StdRng::seed_from_u64(seed);
        let node = |node: u64| StagedNode {
            clock: SkewedClock::new(time.clone()),
            disk: MemoryStorage::new(),
            tls: authority.identity(node),
            lives: 0,
            city: None,
        };
        let nodes = (1..=NODES).map(|id| (id, node(id))).collect();
        let gateways = DISTRICTS.iter().zip((1..=NODES).cycle());
        let gateways = gateways.map(|(district, home)| Gateway::new(district, random.random(), home)).collect();
        Arc::new(Self {
            seed,
            disk,
            time,
            phase: Mutex::new(Phase::Forming),
            nodes: Mutex::new(nodes),
            gateways: Mutex::new(gateways),
            subscriptions: Mutex::new((1..=SHARDS).zip((1..=NODES).cycle()).collect()),
            history: Mutex::default(),
            served: Mutex::default(),
            trace: Mutex::default(),
            compactions: Mutex::default(),
            installed: Mutex::default(),
            values: Mutex::new(0),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.note(&format!("{phase:?}"));
    }

    pub(super) fn note(&self, what: &str) {
        self.trace.lock().note(self.time.elapsed_us(), what);
    }

    pub(super) fn trace(&self) -> Trace {
        self.trace.lock().clone()
    }

    /// Something that is wrong whatever else is found.
    pub(super) fn accuse(&self, what: String) {
        self.note(&what);
        self.history.lock().broken.push(what);
    }

    /// Has `node` write a checkpoint of `shard` and drop its log, as far as the shard's subscriber was given it.
    pub(super) fn compact(&self, node: u64, shard: ShardId) {
        let history = self.history.lock();
        let given = history.subscribed.get(&shard.0).and_then(|feed| feed.last()).map_or(0, |last| last.0);
        let upto = if shard == ShardId::META { LogIndex(u64::MAX) } else { LogIndex(given) };
        self.compactions.lock().entry(node).or_default().push_back((shard, upto));
    }

    pub(super) fn has_compaction(&self, node: u64) -> bool {
        self.compactions.lock().get(&node).is_some_and(|waiting| !waiting.is_empty())
    }

    pub(super) fn next_compaction(&self, node: u64) -> Option<(ShardId, LogIndex)> {
        self.compactions.lock().get_mut(&node)?.pop_front()
    }

    /// The life of `node` is over, and `city` with it.
    pub(super) fn end_life(&self, node: u64, city: Option<&City>) {
        self.compactions.lock().remove(&node);
        *self.installed.lock() += city.map_or(0, installed);
    }

    /// Snapshots that replicas have installed.
    pub(super) fn snapshots_installed(&self) -> u64 {
        let alive: u64 = self.nodes.lock().values().filter_map(|node| node.city.as_ref()).map(installed).sum();
        *self.installed.lock() + alive
    }

    /// Random numbers of `purpose` that follow from the seed.
    pub(super) fn random(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose))
    }

    /// A dimming level below 100 that no client has written.
    pub(super) fn fresh_value(&self) -> f64 {
        let mut values = self.values.lock();
        *values += 1;
        f64::from(*values) / 1_000.0
    }

    /// Waits until `holds`, on the time of the host that asks.
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// A new life of `node`: what it is told and the ports that it runs on, with a number of this life.
    pub(super) fn begin_life(&self, node: u64) -> (ClusterConfig, Ports, u64) {
        let mut nodes = self.nodes.lock();
        let staged = nodes.get_mut(&node).expect("only nodes of this stage run");
        staged.lives += 1;
        let life = node * 1_000 + staged.lives;
        let storage = (self.disk)(staged.disk.clone());
        let ports = Ports {
            clock: Arc::new(staged.clock.clone()),
            random: Arc::new(SeededRandom::new(self.random(life).random())),
            transport: Arc::new(SimulatedNetwork),
            storage,
            execution: Execution::CallersRuntime,
        };
        let address = |node: u64| format!("{}:{PEER_PORT}", host(node));
        let initial = (1..=NODES).map(|id| InitialNode { id: NodeId(id), peer_address: address(id) }).collect();
        let config = ClusterConfig {
            node: NodeId(node),
            zone: format!("zone-{node}"),
            data_dir: PathBuf::from("/data"),
            peer_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PEER_PORT),
            peer_address: address(node),
            api_address: format!("{}:7000", host(node)),
            initial,
            join: Vec::new(),
            shards: SHARDS,
            replication_factor: 3,
            tls: staged.tls.clone(),
            heartbeat: Duration::from_millis(150),
            election_timeout_min: Duration::from_millis(500),
            election_timeout_max: Duration::from_millis(1000),
            retention_bytes: 1 << 30,
            retention_entries: 1_000_000,
            retention_age: Duration::from_secs(3600),
            disk_free_min_percent: 0,
            ballast_bytes: 0,
            sync_timeout: Duration::from_secs(30),
        };
        (config, ports, life)
    }

    /// The devices of all gateways' districts, with the shard of each, as far as this city knows.
    pub(super) fn devices(city: &City) -> Vec<(ShardId, String)> {
        let placed = DISTRICTS.iter().filter_map(|district| Some((city.shard_of(district)?, district)));
        placed.flat_map(|(shard, district)| device_names(district).map(move |name| (shard, name))).collect()
    }
}

/// Snapshots that the replicas of a life have installed so far.
fn installed(city: &City) -> u64 {
    city.cluster().shards().borrow().values().map(kvarter_cluster::ShardHandle::snapshots_installed).sum()
}

pub(super) fn device_names(district: &str) -> impl Iterator<Item = String> {
    (0..DISTRICT_DEVICES).map(move |device| format!("{district}/lamp-{device}"))
}

pub(super) fn city_config() -> CityConfig {
    CityConfig {
        linger_max: Duration::from_millis(2),
        district_devices_max: 20_000,
        device_actors_max: 1_000,
        inbox_requests_max: 256,
        stream_age_max: Duration::from_secs(3600),
        poison: None,
    }
}
