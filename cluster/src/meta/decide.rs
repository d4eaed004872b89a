//! What becomes of a change that somebody asks for: decided by the meta group's leader on the applied state. Pure.

use tonic::Status;

use super::{MetaView, NodeRecord, Phase, encoding};
use crate::peer::removed_status;
use crate::wire::meta_change::Change;
use crate::{DiskId, NodeId, ShardId, wire};

/// Nodes of a cluster.
const NODES_MAX: usize = 256;
/// Longest zone or address, bytes.
const TEXT_BYTES_MAX: usize = 255;

pub(super) enum Decision {
    Commit(Change),
    /// Nothing is to be changed, or nothing any more.
    Answer(wire::MetaChanged),
}

/// `InvalidArgument`, `FailedPrecondition`, `NotFound` and `PermissionDenied` refuse for good, `Unavailable` for now.
pub(super) fn decide(view: &MetaView, change: Change) -> Result<Decision, Status> {
    let unchanged = Decision::Answer(wire::MetaChanged { documents_version: Some(view.documents_version), shard: 0 });
    Ok(match change {
        Change::Formed(_) if view.cluster.is_some() => unchanged,
        Change::Formed(_) => Decision::Commit(change),
        _ if view.cluster.is_none() => return Err(Status::unavailable("the cluster is not formed yet")),
        Change::District(assigned) => match view.districts.get(&assigned.district) {
            Some(shard) => {
                Decision::Answer(wire::MetaChanged { documents_version: Some(view.documents_version), shard: shard.0 })
            }
            None => {
                let shard = view.least_loaded().ok_or_else(|| Status::unavailable("the cluster has no shards yet"))?;
                Decision::Commit(Change::District(wire::DistrictAssigned { shard: shard.0, ..assigned }))
            }
        },
        Change::Documents(put) => {
            if put.expected_version.is_some_and(|expected| expected != view.documents_version) {
                Decision::Answer(wire::MetaChanged { documents_version: None, shard: 0 })
            } else {
                Decision::Commit(Change::Documents(put))
            }
        }
        Change::Admitted(admitted) => admit(view, admitted, unchanged)?,
        Change::Leaving(leaving) => {
            if may_leave(view, NodeId(leaving.node))? {
                Decision::Commit(Change::Leaving(leaving))
            } else {
                unchanged
            }
        }
        Change::Removed(removed) if is_empty(view, NodeId(removed.node)) => Decision::Commit(Change::Removed(removed)),
        Change::Placed(placed) if is_placeable(view, &placed) => Decision::Commit(Change::Placed(placed)),
        Change::Settled(settled) if is_unsettled(view, &settled) => Decision::Commit(Change::Settled(settled)),
        Change::VersionRaised(raised)
            if raised.version > view.version()
                && view.nodes.keys().map(|node| node.0).eq(raised.nodes.iter().copied()) =>
        {
            Decision::Commit(Change::VersionRaised(raised))
        }
        // Decided by somebody on a state that is not this one any more.
        Change::Removed(_) | Change::Placed(_) | Change::Settled(_) | Change::VersionRaised(_) => unchanged,
    })
}

/// Admits a node once: an id or a disk that any node ever had under another pairing is refused.
fn admit(view: &MetaView, admitted: wire::NodeAdmitted, unchanged: Decision) -> Result<Decision, Status> {
    let identity = admitted.node.ok_or_else(|| Status::invalid_argument("a node without identity"))?;
    let known = identity.version.max(1);
    let node = encoding::node_from_wire(identity).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if view.removed.contains_key(&node.id) {
        return Err(removed_status(node.id));
    }
    match view.nodes.get(&node.id) {
        Some(known) if known.disk == node.disk => return Ok(unchanged),
        Some(_) => {
            let reason = format!("{} came back with another disk: it must join under a new id", node.id);
            return Err(Status::failed_precondition(reason));
        }
        None => {}
    }
    if known < view.version() {
        let reason =
            format!("{} knows cluster version {known}, the cluster has {}: upgrade it", node.id, view.version());
        return Err(Status::failed_precondition(reason));
    }
    if let Some(owner) = owner(view, node.disk) {
        let reason = format!("the data directory of {} is {owner}'s: give it an empty one", node.id);
        return Err(Status::failed_precondition(reason));
    }
    if view.nodes.len() >= NODES_MAX {
        return Err(Status::failed_precondition(format!("the cluster has {NODES_MAX} nodes, no more are admitted")));
    }
    for (name, text) in [("zone", &node.zone), ("peer address", &node.peer_address), ("api address", &node.api_address)]
    {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("the {name} must have 1 to {TEXT_BYTES_MAX} bytes")));
        }
    }
    let node = NodeRecord { is_leaving: false, ..node };
    Ok(Decision::Commit(Change::Admitted(wire::NodeAdmitted { node: Some(encoding::node_to_wire(&node)) })))
}

fn owner(view: &MetaView, disk: DiskId) -> Option<NodeId> {
    let members = view.nodes.values().map(|node| (node.id, node.disk));
    let removed = view.removed.iter().map(|(node, disk)| (*node, *disk));
    members.chain(removed).find(|(_, known)| *known == disk).map(|(node, _)| node)
}

/// Whether `node` is to be told to leave; `false` when it is leaving or gone.
fn may_leave(view: &MetaView, node: NodeId) -> Result<bool, Status> {
    if view.removed.contains_key(&node) {
        return Ok(false);
    }
    let Some(record) = view.nodes.get(&node) else {
        return Err(Status::not_found(format!("there is no {node}")));
    };
    if record.is_leaving {
        return Ok(false);
    }
    let now = view.staying().count();
    let needed = view.replication_factor().min(now);
    if now - 1 < needed {
        return Err(Status::failed_precondition(format!(
            "without {node} the replicas of each shard have {} nodes, but need {needed}: let another node join first",
            now - 1
        )));
    }
    Ok(true)
}

/// Whether `node` is leaving and has no replica any more.
fn is_empty(view: &MetaView, node: NodeId) -> bool {
    view.nodes.get(&node).is_some_and(|node| node.is_leaving) && view.replicas_on(node) == 0
}

fn is_placeable(view: &MetaView, placed: &wire::ReplicasPlaced) -> bool {
    let is_once = |(place, node): (usize, &u64)| !placed.replicas[..place].contains(node);
    view.shards
        .get(&ShardId(placed.shard))
        .is_some_and(|shard| shard.version == placed.replaces && shard.phase != Phase::Founding)
        && !placed.replicas.is_empty()
        && placed.replicas.iter().all(|node| view.nodes.contains_key(&NodeId(*node)))
        && placed.replicas.iter().enumerate().all(is_once)
}

fn is_unsettled(view: &MetaView, settled: &wire::ReplicasSettled) -> bool {
    view.shards
        .get(&ShardId(settled.shard))
        .is_some_and(|shard| shard.version == settled.version && shard.phase != Phase::Settled)
}
