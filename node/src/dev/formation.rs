//! Waits until the nodes have become a cluster: all of them answer, see each other, and every shard has a leader.
use std::fmt;
use std::time::Duration;

use kvarter_api::v1::ClusterStatus;
use kvarter_api::{Client, ClientConfig, ConnectError};
use tokio::time::{Instant, sleep};

use super::figures::{ClusterFigures, Observer};

/// Time for a cluster to form, or to read its log again after it was stopped.
const FORMATION_MAX: Duration = Duration::from_secs(120);
/// Time for shards to find a leader again.
const SETTLE_MAX: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What is still missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Missing {
    Answers { nodes: u64, of: u64 },
    Connections { node: u64 },
    Leaders { node: u64, shards: usize },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers { nodes, of } => write!(f, "{nodes} of {of} nodes answer"),
            Self::Connections { node } => write!(f, "node-{node} does not reach all other nodes"),
            Self::Leaders { node, shards } => write!(f, "node-{node} sees {shards} shards without a leader"),
        }
    }
}

/// A client of the cluster, once a node listens.
pub(super) async fn connected(config: ClientConfig) -> Result<Client, ConnectError> {
    let patient = ClientConfig { deadline: FORMATION_MAX, ..config.clone() };
    Client::connect(patient).await?;
    Client::connect(config).await
}

/// Returns when the cluster has formed; fails after two minutes with what was missing last.
pub(super) async fn formed(observer: &Observer) -> anyhow::Result<()> {
    let give_up = Instant::now() + FORMATION_MAX;
    loop {
        match missing(observer.node_count(), &observer.statuses().await) {
            None => return Ok(()),
            Some(missing) if Instant::now() >= give_up => {
                anyhow::bail!("the cluster has not formed within {} s: {missing}", FORMATION_MAX.as_secs())
            }
            Some(_) => sleep(LOOK_PAUSE).await,
        }
    }
}

/// The figures once every shard has a leader again, since a node may have died just before; after a while those there are.
pub(super) async fn settled(observer: &Observer) -> Option<ClusterFigures> {
    let give_up = Instant::now() + SETTLE_MAX;
    loop {
        match observer.look().await {
            Some(figures) if figures.shards_with_leader == figures.shards => return Some(figures),
            unsettled if Instant::now() >= give_up => return unsettled,
            Some(_) | None => sleep(LOOK_PAUSE).await,
        }
    }
}

fn missing(of: u64, statuses: &[ClusterStatus]) -> Option<Missing> {
    let nodes = statuses.len() as u64;
    if nodes < of {
        return Some(Missing::Answers { nodes, of });
    }
    statuses.iter().find_map(|status| {
        let node = status.answered_by;
        let reachable = status.nodes.iter().filter(|node| node.reachable).count() as u64;
        let without_leader = status.shards.iter().filter(|shard| shard.leader.is_none()).count();
        if reachable < of {
            Some(Missing::Connections { node })
        } else if without_leader > 0 || status.shards.is_empty() {
            Some(Missing::Leaders { node, shards: without_leader })
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::{NodeStatus, ShardStatus};

    use super::*;

    fn status(answered_by: u64, leader: Option<u64>) -> ClusterStatus {
        let node = |id| NodeStatus { id, reachable: true, ..NodeStatus::default() };
        ClusterStatus {
            nodes: (1..=3).map(node).collect(),
            shards: vec![ShardStatus { shard: 1, leader, ..ShardStatus::default() }],
            answered_by,
            ..ClusterStatus::default()
        }
    }

    #[test]
    fn a_cluster_has_formed_when_every_node_sees_every_leader() {
        let all = [status(1, Some(2)), status(2, Some(2)), status(3, Some(2))];
        assert_eq!(missing(3, &all), None);
        assert_eq!(missing(3, &all[..2]), Some(Missing::Answers { nodes: 2, of: 3 }));
        let behind = [status(1, Some(2)), status(2, Some(2)), status(3, None)];
        assert_eq!(missing(3, &behind), Some(Missing::Leaders { node: 3, shards: 1 }));
        let mut cut_off = all.clone();
        cut_off[1].nodes[0].reachable = false;
        assert_eq!(missing(3, &cut_off), Some(Missing::Connections { node: 2 }));
    }
}
