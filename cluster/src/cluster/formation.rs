//! How a cluster is formed: the first node calls the others together, all follow the meta group from then on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use prost::Message as _;

use super::{Core, StartError, identity, residence};
use crate::meta::{MetaView, VERSION_MAX};
use crate::peer::{Own, is_final};
use crate::shard::Raft;
use crate::wire::meta_change::Change;
use crate::{ClusterId, NodeId, ShardHandle, ShardId, StateMachine, wire};

const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How much later than the replica before it a replica initializes a group that nobody else did.
const INITIALIZE_STAGGER: Duration = Duration::from_secs(5);

/// Returns once the meta group's state is known here and this node's shards are open.
pub(super) async fn join_or_form<S: StateMachine>(core: &Arc<Core<S>>) -> Result<(), StartError> {
    core.spawn(form(Arc::clone(core)));
    core.spawn(publish_meta(Arc::clone(core)));
    let mut views = core.meta_view.subscribe();
    let view = tokio::select! {
        formed = views.wait_for(|view| view.cluster.is_some()) => {
            formed.map_err(|closed| StartError::Runtime { reason: closed.to_string() })?.clone()
        }
        reason = refusal(core) => return Err(match core.peers.standing.expulsion() {
            Some(expulsion) => StartError::of_expulsion(core.config.node, expulsion),
            None => StartError::Refused { reason },
        }),
    };
    if view.removed.contains_key(&core.config.node) {
        return Err(StartError::Removed { node: core.config.node });
    }
    if view.version() > VERSION_MAX {
        return Err(StartError::TooOld { cluster: view.version() });
    }
    adopt(core, &view)?;
    residence::settle(core, &view).await
}

/// Why a peer refuses this node; pending while none does.
async fn refusal<S: StateMachine>(core: &Core<S>) -> String {
    loop {
        for node in core.peers.nodes() {
            match core.peers.identify(node).await {
                Err(status) if is_final(&status) => return format!("{node}: {}", status.message()),
                Ok(_) | Err(_) => {}
            }
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Keeps `meta_view` at what this node has applied, and the peers' addresses and disks with it.
async fn publish_meta<S: StateMachine>(core: Arc<Core<S>>) {
    let mut applied = core.meta.replica.applied();
    loop {
        applied.borrow_and_update();
        let view = core.meta.view().state.view();
        for node in view.nodes.values() {
            if let Err(error) = core.peers.learn(node.id, &node.peer_address, Some(node.disk)) {
                tracing::error!(node = %node.id, %error, "a node's address can not be used");
            }
        }
        core.peers.forget(view.removed.keys().copied());
        core.meta_view.send_if_modified(|known| {
            let changed = **known != view;
            if changed {
                *known = Arc::new(view);
            }
            changed
        });
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Makes this node a member of the cluster that the meta group names.
fn adopt<S: StateMachine>(core: &Core<S>, view: &MetaView) -> Result<(), StartError> {
    let Some(cluster) = view.cluster else { return Ok(()) };
    if core.peers.cluster() != Some(cluster) {
        let Own { disk, life, .. } = core.peers.own;
        let own = identity::DirectoryIdentity { disk, cluster: Some(cluster), starts: life.start };
        identity::write(&*core.ports.storage, &core.config.data_dir, core.config.node, &own)?;
        core.peers.join(cluster);
    }
    Ok(())
}

/// Gives a new group its members. Every replica names the same ones, so it does no harm when two do it.
pub(super) async fn initialize<S: StateMachine>(raft: Raft<S>, shard: ShardId, members: Vec<NodeId>, rank: usize) {
    tokio::time::sleep(INITIALIZE_STAGGER * u32::try_from(rank).unwrap_or(u32::MAX)).await;
    let members: BTreeSet<u64> = members.iter().map(|node| node.0).collect();
    match raft.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_)) | RaftError::Fatal(_)) => {}
        Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
            tracing::error!(%shard, %error, "the group can not be initialized");
        }
    }
}

/// Initializes the meta group and names the cluster, if that is still to be done.
async fn form<S: StateMachine>(core: Arc<Core<S>>) {
    let mut members: Vec<NodeId> = core.config.initial.iter().map(|node| node.id).collect();
    members.sort_unstable();
    let first = members.first() == Some(&core.config.node);
    if first && core.peers.cluster().is_none() && !matches!(core.meta.raft.is_initialized().await, Ok(true)) {
        if identities(&core).await.iter().any(|node| !node.cluster.is_empty()) {
            tracing::error!("the others belong to a cluster already: this node must join under a new id");
            return;
        }
        initialize(core.meta.raft.clone(), ShardId::META, members, 0).await;
    }
    name_cluster(&core, core.meta.clone()).await;
}

/// Whoever leads a meta group without a cluster commits what it is made of.
async fn name_cluster<S: StateMachine>(core: &Core<S>, meta: ShardHandle<crate::meta::MetaState>) {
    let mut leadership = meta.leadership();
    while core.meta_view.borrow().cluster.is_none() {
        if leadership.borrow_and_update().is_ready {
            let nodes = identities(core).await;
            let formed = formed(&core.config, ClusterId(core.ports.random.next_u128()), nodes);
            tracing::info!(bytes = formed.encoded_len(), "the cluster is formed");
            if let Err(error) = core.meta_door.change(Change::Formed(formed)).await {
                tracing::warn!(%error, "forming is tried again");
            }
        }
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
}

/// The identities of all initial nodes, once all of them answer.
async fn identities<S: StateMachine>(core: &Core<S>) -> Vec<wire::Identity> {
    let mut answers = Vec::new();
    for node in core.config.initial.iter().map(|node| node.id) {
        if node == core.config.node {
            answers.push(core.peers.identity());
            continue;
        }
        loop {
            match core.peers.identify(node).await {
                Ok(identity) => {
                    answers.push(identity);
                    break;
                }
                Err(status) => {
                    tracing::info!(%node, %status, "waiting for a node that the cluster is formed of");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
    answers
}

/// Spreads the shards: each begins with another node, so that every node is preferred leader of as many.
fn formed(config: &super::ClusterConfig, cluster: ClusterId, nodes: Vec<wire::Identity>) -> wire::ClusterFormed {
    let mut ids: Vec<u64> = nodes.iter().map(|node| node.node).collect();
    ids.sort_unstable();
    let replicas = config.replication_factor.clamp(1, ids.len());
    let shards = (1..=config.shards)
        .map(|shard| wire::ShardPlaced {
            shard,
            replicas: ids.iter().cycle().skip(shard as usize % ids.len()).take(replicas).copied().collect(),
            phase: wire::shard_placed::Phase::Founding.into(),
            ..wire::ShardPlaced::default()
        })
        .collect();
    let replication_factor = u32::try_from(config.replication_factor).unwrap_or(u32::MAX);
    let cluster = cluster.0.to_be_bytes().to_vec().into();
    wire::ClusterFormed { cluster, nodes, shards, replication_factor }
}
