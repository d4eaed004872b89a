//! What the cluster says about itself, gathered from all of its nodes.
use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_api::v1::{ClusterStatus, ReplicaStatus};
use kvarter_api::{ApiError, Client, ConnectError};
use kvarter_cluster::{NodeId, ShardId};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::home::Home;

/// Time between two looks at the cluster.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for one question to one node: a look at a cluster with a dead node is not held up by it.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The figure of the lighting services.
const ENERGY_SAVED: &str = "energy_saved_kwh";

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClusterFigures {
    /// Nodes that answered.
    pub(super) nodes: u64,
    /// Without the meta group.
    pub(super) shards: u64,
    pub(super) shards_with_leader: u64,
    /// Shards led, by node.
    pub(super) leaders: BTreeMap<NodeId, u64>,
    pub(super) devices: u64,
    pub(super) commands_issued: u64,
    pub(super) commands_succeeded: u64,
    pub(super) commands_open: u64,
    pub(super) energy_saved_kwh: f64,
}

/// Asks the nodes of a development cluster.
#[derive(Clone)]
pub(super) struct Observer {
    cluster: Client,
    nodes: Vec<Client>,
}

impl Observer {
    pub(super) fn new(cluster: &Client, home: &Home) -> Result<Self, ConnectError> {
        let nodes = home.nodes().map(|node| cluster.only(&home.addresses(node).api.to_string()));
        Ok(Self { cluster: cluster.clone(), nodes: nodes.collect::<Result<_, _>>()? })
    }

    pub(super) fn node_count(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Looks at the cluster again and again, until it is dropped.
    pub(super) async fn watch(self, figures: watch::Sender<ClusterFigures>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // When no node answers the last figures stand; that the nodes are down is told by the fleet.
            if let Some(fresh) = self.look().await {
                figures.send_replace(fresh);
            }
        }
    }

    /// The cluster now; `None` when no node answers.
    pub(super) async fn look(&self) -> Option<ClusterFigures> {
        let statuses = self.ask_nodes(async |node| node.cluster_status().await);
        let replicas = self.ask_nodes(async |node| node.local_replicas(false).await);
        let services = timeout(ANSWER_MAX, self.cluster.services(None));
        let (statuses, replicas, services) = tokio::join!(statuses, replicas, services);
        let mut figures = ClusterFigures { nodes: statuses.len() as u64, ..ClusterFigures::default() };
        figures.add_status(statuses.first()?);
        figures.add_replicas(replicas.into_iter().flat_map(|answer| answer.replicas));
        for service in services.into_iter().flatten().flatten() {
            figures.energy_saved_kwh += service.figures.get(ENERGY_SAVED).copied().unwrap_or_default();
        }
        Some(figures)
    }

    /// What each node says of the cluster; nodes that do not answer are left out.
    pub(super) async fn statuses(&self) -> Vec<ClusterStatus> {
        self.ask_nodes(async |node| node.cluster_status().await).await
    }

    async fn ask_nodes<T>(&self, question: impl AsyncFn(&Client) -> Result<T, ApiError>) -> Vec<T> {
        let answers = self.nodes.iter().map(|node| timeout(ANSWER_MAX, question(node)));
        futures::future::join_all(answers).await.into_iter().flatten().flatten().collect()
    }
}

impl ClusterFigures {
    fn add_status(&mut self, status: &ClusterStatus) {
        for shard in status.shards.iter().filter(|shard| shard.shard != ShardId::META.0) {
            self.shards += 1;
            if let Some(leader) = shard.leader {
                self.shards_with_leader += 1;
                *self.leaders.entry(NodeId(leader)).or_default() += 1;
            }
        }
    }

    /// Counts each shard once: by the replica that is ahead.
    fn add_replicas(&mut self, replicas: impl Iterator<Item = ReplicaStatus>) {
        let mut ahead: BTreeMap<u32, ReplicaStatus> = BTreeMap::new();
        for replica in replicas {
            let is_ahead = ahead.get(&replica.shard).is_none_or(|other| other.applied_index < replica.applied_index);
            if is_ahead {
                ahead.insert(replica.shard, replica);
            }
        }
        for replica in ahead.into_values() {
            self.devices += replica.devices;
            self.commands_issued += replica.commands_issued;
            self.commands_succeeded += replica.commands_succeeded;
            self.commands_open += replica.commands_open;
        }
    }
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::ShardStatus;

    use super::*;

    #[test]
    fn the_meta_group_is_no_shard() {
        let shard = |shard, leader| ShardStatus { shard, leader, ..ShardStatus::default() };
        let shards = vec![shard(0, Some(1)), shard(1, Some(2)), shard(2, None), shard(3, Some(2))];
        let mut figures = ClusterFigures::default();
        figures.add_status(&ClusterStatus { shards, ..ClusterStatus::default() });
        assert_eq!((figures.shards, figures.shards_with_leader), (3, 2));
        assert_eq!(figures.leaders, [(NodeId(2), 2)].into());
    }

    #[test]
    fn a_shard_counts_once_by_its_newest_replica() {
        let replica =
            |shard, applied_index, devices| ReplicaStatus { shard, applied_index, devices, ..ReplicaStatus::default() };
        let mut figures = ClusterFigures::default();
        figures.add_replicas([replica(1, 5, 10), replica(1, 9, 20), replica(1, 8, 15), replica(2, 1, 3)].into_iter());
        assert_eq!(figures.devices, 23);
    }
}
