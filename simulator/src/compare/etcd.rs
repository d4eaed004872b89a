//! Three etcd processes on loopback with etcd's own defaults, but for a database that may grow to 8 GiB.
//!
//! `writer` is its client.
mod writer;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::drive::{Group, Writer};
use super::process::Process;
use super::system::{Clients, System};
use super::{CompareError, START_MAX};
use writer::EtcdWriter;

/// The part of etcd's API that is called here, generated from `proto/etcd.proto`.
mod api {
    #![allow(
        dead_code,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    tonic::include_proto!("etcdserverpb");
}

pub(super) const HINT: &str = "install it, on Debian with `apt-get install etcd-server`, or name it with --etcd";
const MEMBERS: usize = 3;
/// The default of 2 GiB would end a long run with an alarm.
const DATABASE_BYTES_MAX: u64 = 8 << 30;
/// As etcd's own measurements: 100 connections for 1,000 clients.
const CLIENTS_PER_CONNECTION: usize = 10;
/// etcd is one Raft group.
const GROUP: Group = Group(0);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct EtcdCluster {
    program: PathBuf,
    dir: PathBuf,
    /// Directory with the certificates of a development cluster of Kvarter.
    certificates: Option<PathBuf>,
    members: Vec<Member>,
}

struct Member {
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl EtcdCluster {
    /// Starts a new cluster with its data below `dir`, and waits until it writes. With `certificates`, clients and members
    /// talk mutual TLS.
    pub(super) async fn start(program: &Path, dir: &Path, certificates: Option<&Path>) -> Result<Self, CompareError> {
        super::make_empty(dir)?;
        let member = |addresses: [SocketAddr; 2]| Member { client: addresses[0], peer: addresses[1], process: None };
        let members = free_addresses().map_err(|source| CompareError::Directory { dir: dir.to_owned(), source })?;
        let mut cluster = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            certificates: certificates.map(Path::to_owned),
            members: members.into_iter().map(member).collect(),
        };
        cluster.resume().await?;
        Ok(cluster)
    }

    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    fn arguments(&self, number: usize) -> Vec<String> {
        let scheme = self.scheme();
        let peer = |member: &Member| format!("{scheme}://{}", member.peer);
        let name = |number: usize| format!("member{number}");
        let all = (0..).zip(&self.members).map(|(number, member)| format!("{}={}", name(number), peer(member)));
        let member = &self.members[number];
        let client = format!("{scheme}://{}", member.client);
        let mut arguments: Vec<String> = [
            ("name", name(number)),
            ("data-dir", self.dir.join(name(number)).display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer(member)),
            ("initial-advertise-peer-urls", peer(member)),
            ("initial-cluster", all.collect::<Vec<_>>().join(",")),
            ("initial-cluster-state", "new".to_owned()),
            ("initial-cluster-token", "kvarter-compare".to_owned()),
            ("quota-backend-bytes", DATABASE_BYTES_MAX.to_string()),
            ("logger", "zap".to_owned()),
            ("log-level", "error".to_owned()),
        ]
        .map(|(key, value)| format!("--{key}={value}"))
        .to_vec();
        if let Some(dir) = &self.certificates {
            let file = |name: String| dir.join(name).display().to_string();
            let node = number + 1;
            for prefix in ["", "peer-"] {
                arguments.extend([
                    format!("--{prefix}trusted-ca-file={}", file("ca.pem".to_owned())),
                    format!("--{prefix}cert-file={}", file(format!("node{node}.pem"))),
                    format!("--{prefix}key-file={}", file(format!("node{node}.key"))),
                    format!("--{prefix}client-cert-auth"),
                ]);
            }
        }
        arguments
    }

    fn endpoint(&self, number: usize) -> Result<Endpoint, CompareError> {
        let address = format!("{}://{}", self.scheme(), self.members[number].client);
        let endpoint = Endpoint::from_shared(address).map_err(CompareError::Channel)?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(2));
        let Some(dir) = &self.certificates else { return Ok(endpoint) };
        let read = |name: &str| {
            let file = dir.join(name);
            std::fs::read(&file).map_err(|source| CompareError::Directory { dir: file, source })
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("client.pem")?, read("client.key")?))
            .domain_name("localhost");
        endpoint.tls_config(tls).map_err(CompareError::Channel)
    }

    /// One connection to each member, made on first use.
    fn channels(&self) -> Result<Vec<Channel>, CompareError> {
        (0..MEMBERS).map(|number| Ok(self.endpoint(number)?.connect_lazy())).collect()
    }

    /// The member that leads.
    async fn leader(&self) -> Result<usize, CompareError> {
        let give_up = Instant::now() + START_MAX;
        loop {
            for (number, channel) in (0..).zip(self.channels()?) {
                let mut maintenance = api::maintenance_client::MaintenanceClient::new(channel);
                let Ok(status) = maintenance.status(api::StatusRequest {}).await else { continue };
                let status = status.into_inner();
                if status.header.is_some_and(|header| header.member_id == status.leader) {
                    return Ok(number);
                }
            }
            if Instant::now() >= give_up {
                return Err(CompareError::NotReady { system: Self::NAME, log: self.dir.clone() });
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

impl System for EtcdCluster {
    type Writer = EtcdWriter;
    const NAME: &'static str = "etcd";

    fn pids(&self) -> Result<Vec<u32>, CompareError> {
        Ok(self.members.iter().filter_map(|member| member.process.as_ref()).map(Process::pid).collect())
    }

    async fn writers(&mut self, clients: &Clients) -> Result<Vec<EtcdWriter>, CompareError> {
        let leader = self.leader().await?;
        let mut writers = Vec::new();
        let mut channels = Vec::new();
        for number in 0..clients.count {
            if number.is_multiple_of(CLIENTS_PER_CONNECTION) {
                channels = self.channels()?;
            }
            let first = if clients.leader_only { leader } else { number / CLIENTS_PER_CONNECTION };
            writers.push(EtcdWriter::new(&channels, first % MEMBERS, clients, number));
        }
        Ok(writers)
    }

    async fn kill_leader(&mut self) -> Result<BTreeSet<Group>, CompareError> {
        let leader = self.leader().await?;
        if let Some(mut process) = self.members[leader].process.take() {
            process.kill().await?;
        }
        Ok(BTreeSet::from([GROUP]))
    }

    async fn pause(&mut self) -> Result<(), CompareError> {
        for member in &mut self.members {
            if let Some(process) = member.process.take() {
                process.stop(Signal::TERM).await?;
            }
        }
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), CompareError> {
        for number in 0..MEMBERS {
            let log = self.dir.join(format!("member{number}.log"));
            let process = Process::start(&self.program, self.arguments(number), log, HINT)?;
            self.members[number].process = Some(process);
        }
        let give_up = Instant::now() + START_MAX;
        for number in 0..MEMBERS {
            let channel = self.endpoint(number)?.connect_lazy();
            let mut writer = EtcdWriter::new(&[channel], 0, &Clients::probe(), 0);
            while writer.write(1).await.is_err() {
                for member in &mut self.members {
                    member.process.as_mut().map_or(Ok(()), Process::check)?;
                }
                if Instant::now() >= give_up {
                    return Err(CompareError::NotReady { system: Self::NAME, log: self.dir.clone() });
                }
                sleep(LOOK_PAUSE).await;
            }
        }
        Ok(())
    }
}

/// Free ports of this machine, two for each member.
fn free_addresses() -> std::io::Result<Vec<[SocketAddr; 2]>> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = (0..MEMBERS).map(|_| Ok([listen()?, listen()?])).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|[client, peer]| Ok([client.local_addr()?, peer.local_addr()?])).collect()
}
