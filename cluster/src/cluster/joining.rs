//! How a node comes into a cluster that is formed: it asks any member to be admitted.
//!
//! From then on the meta group's leader makes it a member, and it is given replicas as `placement.rs` says. A join that was cut
//! off is asked for again; who was admitted once is told so.

use std::time::Duration;

use tonic::Code;

use super::opening::Stored;
use super::{ClusterConfig, StartError};
use crate::meta::{MetaState, node_from_wire};
use crate::peer::{Peers, TlsRefused};
use crate::{Ports, wire};

const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Whether this node has to ask: it is none of the first ones, and has nothing yet to learn the others from.
///
/// A member whose log has anything of the meta group never asks: the others might need its vote before they can answer.
pub(super) fn is_due(config: &ClusterConfig, stored: &Stored<MetaState>) -> bool {
    let is_first = config.initial.iter().any(|node| node.id == config.node);
    !is_first && !config.join.is_empty() && (stored.is_new() || !stored.is_whole())
}

/// Asks the members at `addresses`, one after the other, until one admits this node, without limit: the cluster may still be
/// starting. A refusal is final.
pub(super) async fn join(peers: &Peers, addresses: &[String], ports: &Ports) -> Result<(), StartError> {
    loop {
        for address in addresses {
            let answer = peers.ask_to_join(address).await;
            if let Some(expulsion) = peers.standing.expulsion() {
                return Err(StartError::of_expulsion(peers.own.node, expulsion));
            }
            match answer {
                Ok(nodes) => {
                    tracing::info!(address, members = nodes.len(), "admitted to the cluster");
                    return learn(peers, nodes);
                }
                Err(status) if status.code() == Code::PermissionDenied => {
                    return Err(StartError::Refused { reason: status.message().to_owned() });
                }
                Err(status) => tracing::warn!(address, %status, "not admitted yet, asking again"),
            }
        }
        tokio::time::sleep(RETRY_INTERVAL + RETRY_INTERVAL.mul_f64(fraction(ports.random.next_u64()))).await;
    }
}

/// Makes the members known, so that their calls are checked and their states can be fetched.
fn learn(peers: &Peers, nodes: Vec<wire::Identity>) -> Result<(), StartError> {
    for node in nodes {
        let node = node_from_wire(node).map_err(|error| StartError::Refused { reason: error.to_string() })?;
        peers.learn(node.id, &node.peer_address, Some(node.disk)).map_err(TlsRefused::from)?;
    }
    Ok(())
}

/// A random number from zero to one.
fn fraction(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).expect("half of it")) / f64::from(u32::MAX)
}
