//! Loopback ports of the nodes: chosen on the first start, the same ever after.
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use kvarter_cluster::Random;
use serde::{Deserialize, Serialize};

/// Below the ports that systems give to outgoing connections (from 32768 on Linux): a node that is down for a while would
/// lose one of those.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
const ATTEMPTS_MAX: u32 = 10_000;

/// Where one node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddresses {
    /// The public API.
    pub api: SocketAddr,
    /// The other nodes.
    pub peer: SocketAddr,
    /// Probes and metrics, plain HTTP.
    pub admin: SocketAddr,
}

impl NodeAddresses {
    pub(super) fn all(&self) -> [SocketAddr; 3] {
        [self.api, self.peer, self.admin]
    }
}

/// Draws free ports for `nodes` nodes.
pub(super) fn choose(nodes: usize, random: &dyn Random) -> io::Result<Vec<NodeAddresses>> {
    let mut taken = BTreeSet::new();
    let mut next = || free_address(random, &mut taken);
    (0..nodes).map(|_| Ok(NodeAddresses { api: next()?, peer: next()?, admin: next()? })).collect()
}

/// The first of `nodes`' addresses on which something else listens. Addresses that a launcher gives to the nodes alone are not
/// this program's to try.
pub(super) fn occupied(nodes: &[NodeAddresses]) -> Option<SocketAddr> {
    let is_taken = |address: &SocketAddr| match TcpListener::bind(address) {
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    };
    nodes.iter().flat_map(NodeAddresses::all).find(is_taken)
}

fn free_address(random: &dyn Random, taken: &mut BTreeSet<u16>) -> io::Result<SocketAddr> {
    let width = u64::from(PORTS.end - PORTS.start);
    for _ in 0..ATTEMPTS_MAX {
        let offset = u16::try_from(random.next_u64() % width).expect("the range has fewer ports than 2^16");
        let port = PORTS.start + offset;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if taken.insert(port) && TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port in {PORTS:?}")))
}

#[cfg(test)]
mod tests {
    use kvarter_cluster::Ports;

    use super::*;

    #[test]
    fn chosen_ports_are_free_and_differ() {
        let nodes = choose(3, &*Ports::system().random).unwrap();
        let ports: BTreeSet<_> = nodes.iter().flat_map(NodeAddresses::all).collect();
        assert_eq!(ports.len(), 9);
        assert!(ports.iter().all(|address| address.ip().is_loopback() && PORTS.contains(&address.port())));
    }

    #[test]
    fn a_listener_in_the_way_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let occupied_address = listener.local_addr().unwrap();
        let mut nodes = choose(2, &*Ports::system().random).unwrap();
        nodes[1].peer = occupied_address;
        assert_eq!(occupied(&nodes), Some(occupied_address));
    }
}
