//! The file that tells which processes a development cluster has now, for programs that watch or disturb it.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use kvarter_cluster::NodeId;
use serde::Serialize;

use crate::dev::home::{Home, NodeAddresses, replace_file};

/// One element of the file's JSON array.
#[derive(Serialize)]
struct Entry {
    id: u64,
    /// The node's latest process; it has ended when the node is down.
    pid: u32,
    api_address: SocketAddr,
    admin_address: SocketAddr,
}

/// The latest process of each node; the file is rewritten with every start.
pub(super) struct Roster {
    file: PathBuf,
    addresses: BTreeMap<NodeId, NodeAddresses>,
    entries: BTreeMap<NodeId, Entry>,
    running: BTreeSet<NodeId>,
}

impl Roster {
    pub(super) fn new(home: &Home) -> Self {
        let addresses = home.nodes().map(|node| (node, *home.addresses(node))).collect();
        Self { file: home.fleet_file(), addresses, entries: BTreeMap::new(), running: BTreeSet::new() }
    }

    pub(super) fn started(&mut self, node: NodeId, pid: u32) -> io::Result<()> {
        self.running.insert(node);
        let addresses = &self.addresses[&node];
        let entry = Entry { id: node.0, pid, api_address: addresses.api, admin_address: addresses.admin };
        self.entries.insert(node, entry);
        let entries: Vec<&Entry> = self.entries.values().collect();
        replace_file(&self.file, &serde_json::to_vec_pretty(&entries)?)
    }

    pub(super) fn ended(&mut self, node: NodeId) {
        self.running.remove(&node);
    }

    pub(super) fn running(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.running.iter().copied()
    }

    /// Removes the file: there is no cluster any more.
    pub(super) fn close(self) -> io::Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
