//! ClusterAdmin: the cluster as its operators see it.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use kvarter_actors::{City, ShardCounters, ShardState};
use kvarter_api::v1::cluster_admin_server::ClusterAdmin;
use kvarter_api::v1::node_status::State;
use kvarter_api::v1::{
    ClusterStatus, DistrictStatus, DrainNodeRequest, DrainNodeResponse, GetClusterStatusRequest,
    ListLocalReplicasRequest, ListLocalReplicasResponse, NodeStatus, RemoveNodeRequest, RemoveNodeResponse,
    ReplicaStatus, ShardStatus,
};
use kvarter_cluster::{Cluster, MetaError, NodeId, Phase, ShardHandle, ShardId, ShardRecord};
use tonic::{Request, Response, Status};

use crate::api::{caller, name, status};

const QUARANTINED_SHOWN_MAX: usize = 100;

/// The service.
pub(crate) struct Admin {
    city: City,
}

impl Admin {
    pub(crate) fn new(city: City) -> Self {
        Self { city }
    }

    fn shard_status(&self, shard: ShardId, record: Option<&ShardRecord>, replicas: &[NodeId]) -> ShardStatus {
        let cluster = self.city.cluster();
        let leader = cluster.leader(shard);
        ShardStatus {
            shard: shard.0,
            leader: leader.map(|(node, _)| node.0),
            replicas: replicas.iter().map(|node| node.0).collect(),
            applied_index: match shard {
                ShardId::META => cluster.meta_hash().0.0,
                shard => cluster.shard(shard).map_or(0, |replica| replica.view().applied.0),
            },
            term: leader.map_or(0, |(_, term)| term.0),
            moving: record.is_some_and(|record| record.phase == Phase::Moving),
            leaving: record.map_or_else(Vec::new, |record| record.leaving.iter().map(|node| node.0).collect()),
        }
    }
}

#[tonic::async_trait]
impl ClusterAdmin for Admin {
    async fn get_cluster_status(&self, _: Request<GetClusterStatusRequest>) -> Result<Response<ClusterStatus>, Status> {
        let cluster = self.city.cluster();
        let meta = cluster.meta();
        let shards = meta.shards.iter().filter(|(shard, _)| **shard != ShardId::META);
        let mut statuses: Vec<_> =
            shards.map(|(shard, record)| self.shard_status(*shard, Some(record), &record.replicas)).collect();
        let mut led: BTreeMap<u64, u32> = BTreeMap::new();
        for leader in statuses.iter().filter_map(|status| status.leader) {
            *led.entry(leader).or_default() += 1;
        }
        // The meta group stands first; every node has a replica of it.
        let everywhere: Vec<_> = meta.nodes.keys().copied().collect();
        statuses.insert(0, self.shard_status(ShardId::META, None, &everywhere));
        let nodes = meta.nodes.values().map(|node| NodeStatus {
            id: node.id.0,
            zone: node.zone.clone(),
            api_address: node.api_address.clone(),
            peer_address: node.peer_address.clone(),
            reachable: node.id == cluster.node() || cluster.is_reachable(node.id),
            shards_led: led.get(&node.id.0).copied().unwrap_or_default(),
            state: if node.is_leaving { State::Leaving } else { State::Member }.into(),
            replicas: u32::try_from(meta.replicas_on(node.id)).unwrap_or(u32::MAX),
            drained: cluster.is_drained(node.id),
        });
        let districts = meta.districts.iter();
        Ok(Response::new(ClusterStatus {
            nodes: nodes.collect(),
            shards: statuses,
            districts: districts
                .map(|(name, shard)| DistrictStatus { name: format!("districts/{name}"), shard: shard.0 })
                .collect(),
            answered_by: cluster.node().0,
            removed_nodes: meta.removed.keys().map(|node| node.0).collect(),
        }))
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeResponse>, Status> {
        let node = request.into_inner().node;
        if node == 0 {
            return Err(status::invalid("node", "ids begin with 1"));
        }
        self.city.cluster().remove_node(NodeId(node)).await.map_err(|error| match error {
            MetaError::NotFound { reason } => status::not_found(reason),
            MetaError::Refused { reason } => status::limit(reason),
            MetaError::Unavailable { .. } => status::not_leader(error.to_string()),
            MetaError::Unknown | MetaError::Conflict => status::unknown(error.to_string()),
        })?;
        tracing::info!(node, "the node is to leave the cluster");
        Ok(Response::new(RemoveNodeResponse {}))
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Result<Response<DrainNodeResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let DrainNodeRequest { node, undo } = request.into_inner();
        if node == 0 {
            return Err(status::invalid("node", "ids begin with 1"));
        }
        if !self.city.cluster().meta().nodes.contains_key(&NodeId(node)) {
            return Err(status::not_found(format!("there is no node {node}")));
        }
        let drained = self.city.drain(NodeId(node), !undo, context.deadline).await;
        drained.map_err(|failure| status::of_failure(&failure))?;
        Ok(Response::new(DrainNodeResponse {}))
    }

    async fn list_local_replicas(
        &self,
        request: Request<ListLocalReplicasRequest>,
    ) -> Result<Response<ListLocalReplicasResponse>, Status> {
        let with_hash = request.into_inner().with_hash;
        let node = self.city.cluster().node().0;
        let (cluster, city) = (Arc::clone(self.city.cluster()), self.city.clone());
        let replicas = cluster.shards().borrow().clone();
        let read = move || {
            let meta = meta_status(&cluster, with_hash);
            let of_city = replicas.into_values().map(|replica| ReplicaStatus {
                quarantined_devices: quarantined(&city, replica.id()),
                ..replica_status(&replica, with_hash)
            });
            iter::once(meta).chain(of_city).collect()
        };
        // A hash reads the whole state.
        let replicas = tokio::task::spawn_blocking(read).await;
        let replicas = replicas.map_err(|error| status::broken_contract(format!("a state hash failed: {error}")))?;
        Ok(Response::new(ListLocalReplicasResponse { node, replicas }))
    }
}

/// The meta group has no city, so only index and hash.
fn meta_status(cluster: &Cluster<ShardState>, with_hash: bool) -> ReplicaStatus {
    let (applied, hash) = cluster.meta_hash();
    let state_hash = if with_hash { format!("{hash:032x}") } else { String::new() };
    ReplicaStatus { shard: ShardId::META.0, applied_index: applied.0, state_hash, ..ReplicaStatus::default() }
}

/// Index and hash belong together; the counters may be an entry newer.
fn replica_status(replica: &ShardHandle<ShardState>, with_hash: bool) -> ReplicaStatus {
    let (applied, state_hash) = if with_hash {
        let (applied, hash) = replica.state_hash();
        (applied, format!("{hash:032x}"))
    } else {
        (replica.view().applied, String::new())
    };
    let ShardCounters {
        devices,
        readings_stored,
        readings_late,
        readings_duplicate,
        readings_rejected,
        commands_issued,
        commands_succeeded,
        commands_open,
    } = replica.view().state.counters();
    ReplicaStatus {
        shard: replica.id().0,
        applied_index: applied.0,
        first_index: replica.first_index().0,
        devices,
        state_hash,
        readings_stored,
        readings_late,
        readings_duplicate,
        readings_rejected,
        commands_issued,
        commands_succeeded,
        commands_open,
        quarantined_devices: Vec::new(),
    }
}

/// Names of the shard's devices that are in quarantine on this node.
fn quarantined(city: &City, shard: ShardId) -> Vec<String> {
    let devices = city.quarantined(shard).into_iter().take(QUARANTINED_SHOWN_MAX);
    let names = devices.filter_map(|device| city.device_identity(shard, device));
    names.map(|(inner, _kind)| name::device(&inner)).collect()
}
