//! Three node processes that a test starts, kills and asks.
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use kvarter_api::v1::ClusterStatus;
use kvarter_api::{Client, ClientConfig, TlsIdentity};
use kvarter_cluster::{NodeId, Ports};
use kvarter_node::dev::{Home, HomeOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Few shards keep three unoptimised nodes fast on two processors.
pub(crate) const SHARDS: u32 = 4;
pub(crate) const NODES: [u64; 3] = [1, 2, 3];

/// Bound of every wait: far above what anything takes, so that only what never happens runs into it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Dropping it kills the processes and removes their data.
pub(crate) struct Fleet {
    processes: BTreeMap<u64, Child>,
    client: Client,
    home: Home,
    /// Addresses of the nodes that joined later.
    joined: BTreeMap<u64, String>,
    _dir: TempDir,
}

impl Fleet {
    /// Three nodes that have formed a cluster.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_settings| {}).await
    }

    /// The same, whose nodes keep so many entries of their logs.
    pub(crate) async fn start_keeping(entries: u32) -> Self {
        let retention = toml::Table::from_iter([("entries".to_owned(), i64::from(entries).into())]);
        Self::start_with(|settings| drop(settings.insert("retention".to_owned(), retention.clone().into()))).await
    }

    async fn start_with(change: impl Fn(&mut toml::Table)) -> Self {
        use_ring();
        let dir = tempfile::tempdir().unwrap();
        let options =
            HomeOptions { clean: false, nodes: NODES.len() as u64, shards: SHARDS, random: &*Ports::system().random };
        let home = Home::open(dir.path(), &options).unwrap();
        for node in NODES {
            let file = home.node_settings(NodeId(node));
            let mut settings: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            change(&mut settings);
            std::fs::write(file, toml::to_string(&settings).unwrap()).unwrap();
        }
        let mut processes = BTreeMap::new();
        for node in NODES {
            processes.insert(node, spawn(&home, node));
        }
        let client = connected(client_config(&home, &home.client_profile())).await;
        let fleet = Self { processes, client, home, joined: BTreeMap::new(), _dir: dir };
        fleet.formed().await;
        fleet
    }

    /// A client of all nodes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A client of one node.
    pub(crate) fn only(&self, node: u64) -> Client {
        let first = || self.home.addresses(NodeId(node)).api.to_string();
        self.client.only(&self.joined.get(&node).cloned().unwrap_or_else(first)).unwrap()
    }

    pub(crate) fn config(&self) -> ClientConfig {
        client_config(&self.home, &self.home.client_profile())
    }

    /// The client's profile, for programs.
    pub(crate) fn profile(&self) -> PathBuf {
        self.home.client_profile()
    }

    /// Where a node answers probes.
    pub(crate) fn admin(&self, node: u64) -> SocketAddr {
        self.home.addresses(NodeId(node)).admin
    }

    /// PEM files: `ca.pem`, which all nodes share, and `node{n}.pem` and `node{n}.key` of each.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.home.dir().join("tls")
    }

    /// Kills the process without a chance to react, and returns when it is gone.
    pub(crate) async fn kill(&mut self, node: u64) {
        let mut process = self.processes.remove(&node).expect("the node runs");
        process.kill().await.unwrap();
    }

    /// Asks the process to end, and returns how it ended.
    pub(crate) async fn terminate(&mut self, node: u64) -> ExitStatus {
        terminate(self.processes.remove(&node).expect("the node runs")).await
    }

    /// Starts a further node, which joins by the first ones.
    pub(crate) fn join(&mut self, node: u64) {
        let settings = std::fs::read_to_string(self.home.node_settings(NodeId(1))).unwrap();
        let mut settings: toml::Table = settings.parse().unwrap();
        // All are held until all are drawn, so that no two are the same.
        let listeners = ["peer", "api", "admin"].map(|port| (port, TcpListener::bind("127.0.0.1:0").unwrap()));
        for (port, listener) in &listeners {
            let address = listener.local_addr().unwrap().to_string();
            let port = settings[*port].as_table_mut().unwrap();
            port.insert("listen".to_owned(), address.clone().into());
            if port.contains_key("address") {
                port.insert("address".to_owned(), address.into());
            }
        }
        let members = NODES.map(|member| self.home.addresses(NodeId(member)).peer.to_string());
        settings.insert("id".to_owned(), i64::try_from(node).unwrap().into());
        settings.insert("zone".to_owned(), format!("zone-{node}").into());
        settings.insert("data_dir".to_owned(), self.home.node_data(NodeId(node)).display().to_string().into());
        let cluster = settings["cluster"].as_table_mut().unwrap();
        cluster.remove("initial");
        cluster.insert("join".to_owned(), members.to_vec().into());
        let certificates = settings["tls"].as_table_mut().unwrap();
        for key in ["certificate", "key"] {
            let file = certificates[key].as_str().unwrap().replace("node1", &format!("node{node}"));
            certificates.insert(key.to_owned(), file.into());
        }
        let api = settings["api"]["address"].as_str().unwrap().to_owned();
        std::fs::write(self.home.node_settings(NodeId(node)), toml::to_string(&settings).unwrap()).unwrap();
        drop(listeners);
        self.joined.insert(node, api);
        self.processes.insert(node, spawn(&self.home, node));
    }

    /// Runs a command of the program against the cluster, which must succeed.
    pub(crate) async fn command(&self, arguments: &[&str]) {
        let run = kvarter().args(arguments).arg("--profile").arg(self.home.client_profile()).output();
        let output = timeout(PATIENCE, run).await.expect("it ends").unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits for a process that ends by itself.
    pub(crate) async fn ended(&mut self, node: u64) -> ExitStatus {
        let mut process = self.processes.remove(&node).expect("the node runs");
        timeout(PATIENCE, process.wait()).await.expect("the node ends").unwrap()
    }

    /// Starts a node that was killed or has ended.
    pub(crate) fn restart(&mut self, node: u64) {
        let earlier = self.processes.insert(node, spawn(&self.home, node));
        assert!(earlier.is_none(), "the node runs already");
    }

    /// Waits until every running node reaches every running node and knows a leader of every shard.
    pub(crate) async fn formed(&self) {
        for node in self.processes.keys() {
            let client = self.only(*node);
            let is_formed = async || {
                let status = client.cluster_status().await.ok()?;
                (self.reachable(&status) && status.shards.iter().all(|shard| shard.leader.is_some())).then_some(())
            };
            self.eventually(&format!("node {node} sees the cluster"), is_formed).await;
        }
    }

    fn reachable(&self, status: &ClusterStatus) -> bool {
        let reachable = status.nodes.iter().filter(|node| node.reachable).map(|node| node.id);
        let shards = u32::try_from(status.shards.len()).unwrap();
        shards == SHARDS + 1 && self.processes.keys().all(|running| reachable.clone().any(|id| id == *running))
    }

    /// Looks until there is something to see; fails with the ends of the nodes' logs.
    pub(crate) async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match look().await {
                Some(seen) => return seen,
                None if Instant::now() < give_up => sleep(LOOK_PAUSE).await,
                None => panic!("not within {PATIENCE:?}: {what}\n{}", self.logs()),
            }
        }
    }

    fn logs(&self) -> String {
        let nodes = NODES.into_iter().chain(self.joined.keys().copied());
        nodes.map(|node| last_lines(node, &self.home.node_log(NodeId(node)))).collect::<Vec<_>>().join("\n")
    }
}

/// The program under test.
pub(crate) fn kvarter() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvarter"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Asks a process to end, and returns how it ended.
pub(crate) async fn terminate(mut process: Child) -> ExitStatus {
    let pid = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())).expect("it was not waited for");
    kill_process(pid, Signal::TERM).unwrap();
    timeout(PATIENCE, process.wait()).await.expect("the process ends").unwrap()
}

/// As the program does it for itself.
pub(crate) fn use_ring() {
    // Fails when another test of this process was first.
    rustls::crypto::ring::default_provider().install_default().ok();
}

fn spawn(home: &Home, node: u64) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(home.node_log(NodeId(node))).unwrap();
    let settings = home.node_settings(NodeId(node));
    kvarter().args(["node", "--config"]).arg(settings).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

async fn connected(config: ClientConfig) -> Client {
    Client::connect(ClientConfig { deadline: PATIENCE, ..config.clone() }).await.expect("a node answers");
    Client::connect(config).await.expect("a node still answers")
}

/// A client as the profile `file` says.
fn client_config(home: &Home, file: &Path) -> ClientConfig {
    let profile: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let read = |key: &str| std::fs::read(profile[key].as_str().unwrap()).unwrap();
    let endpoints = NODES.map(|node| home.addresses(NodeId(node)).api.to_string()).to_vec();
    let tls = TlsIdentity {
        ca_pem: read("ca"),
        certificate_pem: read("certificate"),
        key_pem: read("key"),
        domain: "localhost".to_owned(),
    };
    ClientConfig::new(endpoints, tls)
}

fn last_lines(node: u64, log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(20)..];
    format!("--- node {node}\n{}", end.join("\n"))
}
