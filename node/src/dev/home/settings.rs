//! Settings of the nodes and the profile of their client, written from what the data directory has.
use std::path::PathBuf;

use kvarter_cluster::NodeId;
use serde::Serialize;

use super::{Home, replace_file};
use crate::config::{Admin, Endpoint, Initial, TlsFiles};

/// What a development node does not leave at its default.
#[derive(Serialize)]
struct NodeSettings {
    id: u64,
    zone: String,
    data_dir: PathBuf,
    peer: Endpoint,
    api: Endpoint,
    admin: Admin,
    tls: TlsFiles,
    cluster: Formation,
}

#[derive(Serialize)]
struct Formation {
    shards: u32,
    replication_factor: u64,
    initial: Vec<Initial>,
}

/// Replicas of a shard, where there are so many nodes.
const REPLICATION_FACTOR: u64 = 3;

#[derive(Serialize)]
struct ClientProfile {
    endpoints: Vec<String>,
    #[serde(flatten)]
    tls: TlsFiles,
}

/// Writes the settings of each node and the client's profile.
pub(super) fn write(home: &Home, shards: u32) -> anyhow::Result<()> {
    for node in home.nodes() {
        let settings = toml::to_string(&node_settings(home, node, shards))?;
        replace_file(&home.node_settings(node), settings.as_bytes())?;
    }
    let endpoints = home.nodes().map(|node| home.addresses(node).api.to_string()).collect();
    let profile = ClientProfile { endpoints, tls: tls_files(home, "client") };
    replace_file(&home.client_profile(), toml::to_string(&profile)?.as_bytes())?;
    Ok(())
}

fn node_settings(home: &Home, node: NodeId, shards: u32) -> NodeSettings {
    let addresses = home.addresses(node);
    let endpoint = |listen: std::net::SocketAddr| Endpoint { listen, address: listen.to_string() };
    let initial = |node: NodeId| Initial { id: node.0, peer_address: home.addresses(node).peer.to_string() };
    NodeSettings {
        id: node.0,
        zone: format!("zone-{}", node.0),
        data_dir: home.node_data(node),
        peer: endpoint(addresses.peer),
        api: endpoint(addresses.api),
        admin: Admin { listen: addresses.admin },
        tls: tls_files(home, &format!("node{}", node.0)),
        cluster: Formation {
            shards,
            replication_factor: REPLICATION_FACTOR.min(home.node_count()),
            initial: home.nodes().map(initial).collect(),
        },
    }
}

fn tls_files(home: &Home, name: &str) -> TlsFiles {
    let dir = home.certificates();
    TlsFiles {
        ca: dir.join("ca.pem"),
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    }
}

#[cfg(test)]
mod tests {
    use kvarter_cluster::Ports;

    use super::super::{Home, HomeOptions};
    use crate::config::Config;

    #[test]
    fn a_node_accepts_its_settings() {
        let dir = tempfile::tempdir().unwrap();
        for (nodes, replicas) in [(1, 1), (3, 3), (5, 3)] {
            let options = HomeOptions { clean: true, nodes, shards: 4, random: &*Ports::system().random };
            let home = Home::open(dir.path(), &options).unwrap();
            for node in home.nodes() {
                let config = Config::load(&home.node_settings(node), std::iter::empty()).unwrap();
                let cluster = &config.cluster;
                assert_eq!((config.id, cluster.shards, cluster.initial.len() as u64), (node.0, 4, nodes));
                assert_eq!(cluster.replication_factor, replicas);
                assert_eq!(config.api.address, home.addresses(node).api.to_string());
                assert!(config.tls.key.exists() && config.tls.certificate.exists() && config.tls.ca.exists());
            }
        }
    }
}
