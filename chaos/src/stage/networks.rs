//! Networks of the nodes' own: each node in a network namespace with two cables, one to the other nodes and one to its clients.
//!
//! A cable that is pulled loses every packet in both directions, and nobody is told: connections stay open and silent.
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::process::Command;

use super::{HostUnable, StageError, unable_as_root};
use crate::tool::{ToolFailed, run};

/// Bridge and first three numbers of the addresses of each network.
const PEERS: (&str, &str) = ("kvarter-peers", "10.77.1");
const CLIENTS: (&str, &str) = ("kvarter-api", "10.77.2");
const PEER_PORT: u16 = 7401;
const API_PORT: u16 = 7400;
const ADMIN_PORT: u16 = 7402;
/// Where a cluster of `kvarter dev` keeps where its nodes listen; kept when it is there already.
const ADDRESSES: &str = "addresses.json";

/// From whom a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// From the other nodes; clients still reach it.
    Peers,
    /// From everybody.
    Everybody,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peers => "the other nodes",
            Self::Everybody => "everybody",
        })
    }
}

/// Where one node listens, as in the file of `kvarter dev`.
#[derive(Debug, Serialize)]
struct NodeAddresses {
    api: String,
    peer: String,
    admin: String,
}

/// The networks of the nodes in one data directory. A host has one such stage at a time.
#[derive(Clone, Debug)]
pub struct Networks {
    data: PathBuf,
}

/// Says why this host can not give nodes networks of their own, if it can not. Tries it, since kernels differ.
pub(super) async fn host_unable() -> Option<HostUnable> {
    const TRIAL: &str = "kvarter-trial";
    if let Some(unable) = unable_as_root(&["ip", "nsenter"]) {
        return Some(unable);
    }
    let tried = async {
        ip("netns add", &[TRIAL]).await?;
        ip("link add kvtrial type veth peer name eth0 netns", &[TRIAL]).await
    };
    let tried = tried.await;
    // With the namespace the cable goes.
    let removed = ip("netns del", &[TRIAL]).await;
    tried.and(removed).err().map(|failed| HostUnable::Refused { reason: failed.to_string() })
}

impl Networks {
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Lays the cables of nodes 1 to `nodes`, and tells the cluster where its nodes will listen.
    pub(super) async fn make(&self, nodes: u64) -> Result<(), StageError> {
        let file = self.data.join(ADDRESSES);
        let addresses: Vec<NodeAddresses> = (1..=nodes).map(addresses).collect();
        let text = serde_json::to_string_pretty(&addresses).expect("addresses are plain text");
        match std::fs::read_to_string(&file) {
            Ok(there) if there == text => {}
            Ok(_) => return Err(StageError::AlreadyUsed { data: self.data.clone() }),
            Err(_absent) => {
                std::fs::write(&file, text).map_err(|source| StageError::Io { path: file.clone(), source })?;
            }
        }
        self.remove().await?;
        for (bridge, network) in [PEERS, CLIENTS] {
            ip("link add", &[bridge, "type", "bridge"]).await?;
            ip("addr add", &[&format!("{network}.254/24"), "dev", bridge]).await?;
            ip("link set", &[bridge, "up"]).await?;
        }
        for node in 1..=nodes {
            let namespace = namespace(node);
            ip("netns add", &[&namespace]).await?;
            ip("-n", &[&namespace, "link", "set", "lo", "up"]).await?;
            for ((bridge, network), inner) in [PEERS, CLIENTS].into_iter().zip(["peers", "api"]) {
                let cable = cable(bridge, node);
                ip("link add", &[&cable, "type", "veth", "peer", "name", inner, "netns", &namespace]).await?;
                ip("link set", &[&cable, "master", bridge, "up"]).await?;
                ip("-n", &[&namespace, "addr", "add", &format!("{network}.{node}/24"), "dev", inner]).await?;
                ip("-n", &[&namespace, "link", "set", inner, "up"]).await?;
            }
        }
        Ok(())
    }

    /// Takes down what is there.
    pub(super) async fn remove(&self) -> Result<(), ToolFailed> {
        if !crate::tool::is_installed("ip") {
            return Ok(());
        }
        let namespaces = run(Command::new("ip").args(["netns", "list"])).await?;
        for namespace in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
            if namespace.starts_with("kvarter-") {
                ip("netns del", &[namespace]).await?;
            }
        }
        for (bridge, _) in [PEERS, CLIENTS] {
            if link(bridge).exists() {
                ip("link del", &[bridge]).await?;
            }
        }
        Ok(())
    }

    /// Refuses when the process `pid` of `node` is not in its own network.
    pub fn check(&self, node: u64, pid: i32) -> Result<(), HostUnable> {
        let lives_in = std::fs::metadata(format!("/proc/{pid}/ns/net"));
        let own = std::fs::metadata(Self::namespace_file(&node.to_string()));
        let inode = |metadata: std::io::Result<std::fs::Metadata>| {
            metadata.ok().map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
        };
        let (lives_in, own) = (inode(lives_in), inode(own));
        if own.is_some() && lives_in == own { Ok(()) } else { Err(HostUnable::NotStaged { node, what: "network" }) }
    }

    /// By which a node's namespace is entered; `node` is a number, or what a script has for one.
    pub(super) fn namespace_file(node: &str) -> String {
        format!("/run/netns/kvarter-{node}")
    }

    /// The cables that cut `node` off when they are pulled.
    pub fn cables(node: u64, from: CutOff) -> Vec<String> {
        let networks: &[_] = match from {
            CutOff::Peers => &[PEERS],
            CutOff::Everybody => &[PEERS, CLIENTS],
        };
        networks.iter().map(|(bridge, _)| cable(bridge, node)).collect()
    }

    pub async fn pull(cable: &str) -> Result<(), ToolFailed> {
        ip("link set", &[cable, "down"]).await
    }

    pub async fn plug(cable: &str) -> Result<(), ToolFailed> {
        ip("link set", &[cable, "up"]).await
    }

    /// Whether the system says that nothing goes through.
    pub fn is_pulled(cable: &str) -> bool {
        std::fs::read_to_string(link(cable).join("operstate")).is_ok_and(|state| state.trim() == "down")
    }
}

fn addresses(node: u64) -> NodeAddresses {
    let (peers, clients) = (PEERS.1, CLIENTS.1);
    NodeAddresses {
        api: format!("{clients}.{node}:{API_PORT}"),
        peer: format!("{peers}.{node}:{PEER_PORT}"),
        admin: format!("{clients}.{node}:{ADMIN_PORT}"),
    }
}

fn namespace(node: u64) -> String {
    format!("kvarter-{node}")
}

/// The end of the cable at the bridge; names of links have 15 letters at most.
fn cable(bridge: &str, node: u64) -> String {
    format!("{}{node}", bridge.replace("kvarter-", "kv-"))
}

fn link(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

async fn ip(words: &str, names: &[&str]) -> Result<(), ToolFailed> {
    run(Command::new("ip").args(words.split(' ')).args(names)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_names_that_systems_take_and_nodes_addresses_of_their_own() {
        for node in [1, 9] {
            let cables = Networks::cables(node, CutOff::Everybody);
            assert!(cables.iter().all(|cable| cable.len() <= 15), "{cables:?}");
            assert_eq!(Networks::cables(node, CutOff::Peers), cables[..1]);
        }
        assert_eq!(addresses(2).peer, "10.77.1.2:7401");
        assert_ne!(cable(PEERS.0, 1), cable(CLIENTS.0, 1));
    }

    #[test]
    fn a_process_in_the_hosts_network_is_not_staged() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let unstaged = HostUnable::NotStaged { node: 77, what: "network" };
        assert_eq!(Networks::of(Path::new("/d")).check(77, pid), Err(unstaged));
    }
}
