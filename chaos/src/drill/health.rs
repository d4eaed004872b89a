//! Whether the cluster is whole, so that the next fault hits one node of three and not two; and who leads.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvarter_api::v1::ClusterStatus;
use kvarter_api::{ApiError, Client};
use tokio::time::{Instant, sleep};

use super::DrillError;
use crate::check::ReplicaHash;
use crate::fleet::Fleet;

/// Between two looks at a condition.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The cluster as seen through its administration.
pub(super) struct Health<'a> {
    client: &'a Client,
    /// One client for each node.
    nodes: Vec<Client>,
    fleet: &'a Fleet,
}

impl<'a> Health<'a> {
    pub(super) fn new(client: &'a Client, fleet: &'a Fleet) -> Result<Self, DrillError> {
        let nodes = fleet.nodes()?.iter().map(|node| client.only(&node.api_address)).collect::<Result<_, _>>()?;
        Ok(Self { client, nodes, fleet })
    }

    /// A client for each node.
    pub(super) fn clients(&self) -> &[Client] {
        &self.nodes
    }

    /// Number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Waits until every process runs, every node answers the others and its clients, and every shard has a leader; returns the
    /// shards.
    pub(super) async fn wait_until_whole(&self, patience: Duration) -> Result<BTreeSet<u32>, DrillError> {
        let give_up = Instant::now() + patience;
        loop {
            let missing = match self.look().await {
                Ok(shards) => return Ok(shards),
                Err(missing) => missing,
            };
            if Instant::now() >= give_up {
                return Err(DrillError::NotWhole { waited: patience, missing });
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The shards of a whole cluster, or what is missing.
    async fn look(&self) -> Result<BTreeSet<u32>, String> {
        let processes = self.fleet.nodes().map_err(|error| error.to_string())?;
        if let Some(node) = processes.iter().find(|node| !node.exists()) {
            return Err(format!("the process of node {} does not run", node.id));
        }
        // Peers hear of a node that starts before its clients do.
        for node in &self.nodes {
            node.cluster_status().await.map_err(|error| format!("{:?}: {error}", node.config().endpoints))?;
        }
        let status = self.client.cluster_status().await.map_err(|error| error.to_string())?;
        if let Some(node) = status.nodes.iter().find(|node| !node.reachable) {
            return Err(format!("node {} is not reachable", node.id));
        }
        if let Some(shard) = status.shards.iter().find(|shard| shard.leader.is_none()) {
            return Err(format!("shard {} has no leader", shard.shard));
        }
        let shards: BTreeSet<u32> = status.shards.iter().map(|shard| shard.shard).filter(|shard| *shard != 0).collect();
        if shards.is_empty() { Err("there are no shards".to_owned()) } else { Ok(shards) }
    }

    /// Waits until every node has applied, in every shard, what any of them has applied now.
    pub(super) async fn wait_until_in_step(&self, patience: Duration) -> Result<(), DrillError> {
        let give_up = Instant::now() + patience;
        let mut goal: Option<BTreeMap<u32, u64>> = None;
        loop {
            let missing = match (self.replicas(false).await, &goal) {
                (Err(error), _) => error.to_string(),
                (Ok(replicas), None) => {
                    let mut furthest = BTreeMap::new();
                    for replica in replicas {
                        let applied: &mut u64 = furthest.entry(replica.shard).or_default();
                        *applied = replica.applied_index.max(*applied);
                    }
                    goal = Some(furthest);
                    continue;
                }
                (Ok(replicas), Some(goal)) => {
                    match replicas.iter().find(|replica| replica.applied_index < goal[&replica.shard]) {
                        None => return Ok(()),
                        Some(behind) => format!("node {} is behind in shard {}", behind.node, behind.shard),
                    }
                }
            };
            if Instant::now() >= give_up {
                return Err(DrillError::NotWhole { waited: patience, missing });
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Who leads each shard, the meta group not counted; shards without a known leader are left out.
    pub(super) async fn leaders(&self) -> Result<Vec<u64>, ApiError> {
        let status = self.client.cluster_status().await?;
        Ok(status.shards.iter().filter(|shard| shard.shard != 0).filter_map(|shard| shard.leader).collect())
    }

    /// Leader and term of each shard, the meta group not counted.
    pub(super) async fn leaderships(&self) -> Result<BTreeMap<u32, (Option<u64>, u64)>, ApiError> {
        let status = self.client.cluster_status().await?;
        let shards = status.shards.iter().filter(|shard| shard.shard != 0);
        Ok(shards.map(|shard| (shard.shard, (shard.leader, shard.term))).collect())
    }

    /// The nodes that are to have a replica of each shard.
    pub(super) async fn placed(&self) -> Result<BTreeMap<u32, BTreeSet<u64>>, ApiError> {
        let status = self.client.cluster_status().await?;
        Ok(status.shards.into_iter().map(|shard| (shard.shard, shard.replicas.into_iter().collect())).collect())
    }

    /// Whether any of the other nodes than `node` reaches it.
    pub(super) async fn is_reached(&self, node: u64) -> Result<bool, DrillError> {
        let reaches = |status: ClusterStatus| status.nodes.into_iter().find(|seen| seen.id == node && seen.reachable);
        Ok(self.seen_by_others(node, reaches).await?.is_some())
    }

    /// A shard that the other nodes than `node` see led by `node` or by nobody, if there is one.
    pub(super) async fn not_taken_over(&self, node: u64) -> Result<Option<u32>, DrillError> {
        let is_left = |leader: Option<u64>| leader.is_none_or(|leader| leader == node);
        let left = |status: ClusterStatus| status.shards.into_iter().find(|shard| is_left(shard.leader));
        Ok(self.seen_by_others(node, left).await?.map(|shard| shard.shard))
    }

    /// What `find` finds first in how the other nodes than `node` see the cluster, one after the other.
    async fn seen_by_others<T>(
        &self,
        node: u64,
        find: impl Fn(ClusterStatus) -> Option<T>,
    ) -> Result<Option<T>, DrillError> {
        for (process, client) in self.fleet.nodes()?.iter().zip(&self.nodes) {
            if process.id == node {
                continue;
            }
            if let Some(found) = find(client.cluster_status().await?) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Every node's word on its replicas, asked at the same time. The meta group counts as shard 0 where it is listed.
    pub(super) async fn replicas(&self, with_hash: bool) -> Result<Vec<ReplicaHash>, ApiError> {
        let mut asking = tokio::task::JoinSet::new();
        for node in &self.nodes {
            let node = node.clone();
            asking.spawn(async move { node.local_replicas(with_hash).await });
        }
        let mut replicas = Vec::new();
        for answer in asking.join_all().await {
            let answer = answer?;
            replicas.extend(answer.replicas.into_iter().map(|replica| ReplicaHash {
                shard: replica.shard,
                node: answer.node,
                applied_index: replica.applied_index,
                hash: replica.state_hash,
            }));
        }
        Ok(replicas)
    }
}
