//! Nodes of Kvarter on loopback, started by its own development cluster with nothing played into it.
//!
//! `writer` is its client: a gateway stream.
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_api::{Client, ClientConfig};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::drive::{Group, Writer};
use super::process::{Process, signal_process};
use super::system::{Clients, System};
use super::{CompareError, START_MAX};
use crate::enroll::{register, register_each};
use crate::profile::Profile;
use crate::resources::{NodeProcess, NodeProcesses};
use writer::GatewayWriter;

pub(super) const HINT: &str = "build it with `cargo build --release`, or name it with --kvarter";
/// Devices are registered before anything is measured: that may take long on a machine that has much to do.
const REGISTER_DEADLINE: Duration = Duration::from_secs(120);
const REGISTER_ATTEMPT_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Nodes and shards of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterSize {
    pub(crate) nodes: u32,
    pub(crate) shards: u32,
}

pub(crate) struct KvarterCluster {
    program: PathBuf,
    dir: PathBuf,
    size: ClusterSize,
    process: Option<Process>,
    clients: Option<ClusterClients>,
}

/// As an integrator's, and one that waits longer.
#[derive(Clone)]
struct ClusterClients {
    usual: Client,
    patient: Client,
}

impl KvarterCluster {
    /// Starts a new cluster with its data below `dir`, and waits until it writes.
    pub(crate) async fn start(program: &Path, dir: &Path, size: ClusterSize) -> Result<Self, CompareError> {
        super::make_empty(dir)?;
        let (program, dir) = (program.to_owned(), dir.to_owned());
        let mut cluster = Self { program, dir, size, process: None, clients: None };
        cluster.resume().await?;
        Ok(cluster)
    }

    /// Certificates of this cluster, which outlive its processes.
    pub(crate) fn certificates(dir: &Path) -> PathBuf {
        dir.join("tls")
    }

    fn clients(&self) -> &ClusterClients {
        self.clients.as_ref().expect("a cluster that was started has clients")
    }

    fn client(&self) -> &Client {
        &self.clients().usual
    }

    fn nodes(&self) -> Result<Vec<NodeProcess>, CompareError> {
        Ok(NodeProcesses::open(&self.dir.join("fleet.json"))?.current()?)
    }

    /// Clients, once every node answers, reaches the others, and sees a leader for every shard.
    async fn formed(&self) -> Option<ClusterClients> {
        let config = Profile::load(&self.dir.join("client.toml")).ok()?.client_config().ok()?;
        // Without pauses between attempts: they would count as time of the start.
        Client::connect(ClientConfig { deadline: Duration::ZERO, ..config.clone() }).await.ok()?;
        let patient =
            ClientConfig { deadline: REGISTER_DEADLINE, attempt_deadline: REGISTER_ATTEMPT_DEADLINE, ..config.clone() };
        let patient = Client::connect(patient).await.ok()?;
        let client = Client::connect(config).await.ok()?;
        let nodes = self.size.nodes as usize;
        let addresses: Vec<String> =
            client.cluster_status().await.ok()?.nodes.into_iter().map(|node| node.api_address).collect();
        for address in &addresses {
            let status = client.only(address).ok()?.cluster_status().await.ok()?;
            let reachable = status.nodes.iter().filter(|node| node.reachable).count();
            let led = status.shards.iter().filter(|shard| shard.leader.is_some()).count();
            if reachable < nodes || led == 0 || led < status.shards.len() {
                return None;
            }
        }
        (addresses.len() == nodes).then_some(ClusterClients { usual: client, patient })
    }

    /// Writes, through each node, one reading in each of so many districts that every shard has some.
    async fn probe(&self) -> Result<(), CompareError> {
        let districts = 4 * self.size.shards;
        let mut probes = JoinSet::new();
        for node in self.client().cluster_status().await?.nodes {
            let name = |number| format!("districts/probe-{number}/devices/d-{}", node.id);
            let devices: Vec<String> = (0..districts).map(name).collect();
            let probe = Clients::probe();
            let registrations = devices.iter().map(|name| probe.payload.registration(name.clone())).collect();
            let client = self.clients().patient.only(&node.api_address)?;
            probes.spawn(async move {
                register(&client, registrations).await?;
                let kinds = client.kinds().await?;
                let mut writer = GatewayWriter::open(client, devices, probe, kinds).await?;
                writer.write(districts).await?;
                Ok::<_, CompareError>(())
            });
        }
        probes.join_all().await.into_iter().collect()
    }
}

impl System for KvarterCluster {
    type Writer = GatewayWriter;
    const NAME: &'static str = "kvarter";

    fn pids(&self) -> Result<Vec<u32>, CompareError> {
        Ok(self.nodes()?.into_iter().map(|node| node.pid).collect())
    }

    async fn writers(&mut self, clients: &Clients) -> Result<Vec<GatewayWriter>, CompareError> {
        let ClusterClients { usual: client, patient } = self.clients();
        let all = (0..clients.count).flat_map(|number| clients.devices_of(number));
        register_each(patient, all.map(|name| clients.payload.registration(name))).await?;
        let kinds = client.kinds().await?;
        let mut opening = JoinSet::new();
        for number in 0..clients.count {
            let devices: Vec<String> = clients.devices_of(number).collect();
            opening.spawn(GatewayWriter::open(client.clone(), devices, clients.clone(), kinds.clone()));
        }
        opening.join_all().await.into_iter().collect()
    }

    async fn kill_leader(&mut self) -> Result<BTreeSet<Group>, CompareError> {
        let mut led: BTreeMap<u64, BTreeSet<Group>> = BTreeMap::new();
        for shard in self.client().cluster_status().await?.shards {
            if let Some(leader) = shard.leader {
                led.entry(leader).or_default().insert(Group(shard.shard));
            }
        }
        let not_ready = || CompareError::NotReady { system: Self::NAME, log: self.dir.clone() };
        let (leader, groups) = led.into_iter().max_by_key(|(_, groups)| groups.len()).ok_or_else(not_ready)?;
        let node = self.nodes()?.into_iter().find(|node| node.id == leader).ok_or_else(not_ready)?;
        signal_process(node.pid, Signal::KILL).map_err(|source| CompareError::NotKilled { pid: node.pid, source })?;
        Ok(groups)
    }

    async fn pause(&mut self) -> Result<(), CompareError> {
        self.clients = None;
        match self.process.take() {
            Some(process) => process.stop(Signal::INT).await,
            None => Ok(()),
        }
    }

    async fn resume(&mut self) -> Result<(), CompareError> {
        let ClusterSize { nodes, shards } = self.size;
        let arguments: [OsString; 8] = [
            "dev".into(),
            "--idle".into(),
            "--nodes".into(),
            nodes.to_string().into(),
            "--shards".into(),
            shards.to_string().into(),
            "--data".into(),
            self.dir.clone().into(),
        ];
        let mut process = Process::start(&self.program, arguments, self.dir.join("dev.log"), HINT)?;
        let give_up = Instant::now() + START_MAX;
        let clients = loop {
            if let Some(clients) = self.formed().await {
                break clients;
            }
            process.check()?;
            if Instant::now() >= give_up {
                return Err(CompareError::NotReady { system: Self::NAME, log: self.dir.clone() });
            }
            sleep(LOOK_PAUSE).await;
        };
        (self.process, self.clients) = (Some(process), Some(clients));
        self.probe().await?;
        Ok(())
    }
}
