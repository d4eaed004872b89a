//! How a group is opened: its log, its state from the checkpoint or else from a peer, then its Raft core.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal;
use openraft::storage::RaftLogStorage as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::clocks;
use crate::checkpoint::CheckpointStore;
use crate::log::{GroupLog, LogStore};
use crate::peer::Peers;
use crate::peer::freshness::{Stamper, Teller};
use crate::peer::network::Network;
use crate::peer::promise::Promises;
use crate::peer::server::{Door, Groups};
use crate::peer::snapshot;
use crate::ports::storage::off_threads;
use crate::raft;
use crate::replica::{Replica, ReplicaStore};
use crate::shard::{Leadership, failure, follow_leadership};
use crate::{LogIndex, NodeId, Ports, ShardHandle, ShardId, StateMachine};

const FETCH_PAUSE: Duration = Duration::from_secs(1);
/// Leases after which a leader gives up waiting for the others. They elect another one within two.
const OUTCOME_LEASES: u32 = 5;

/// What opening a group needs.
pub(super) struct Opening<'a> {
    pub(super) node: NodeId,
    pub(super) log: &'a LogStore,
    pub(super) checkpoints: &'a CheckpointStore,
    pub(super) ports: &'a Ports,
    pub(super) raft_config: &'a Arc<openraft::Config>,
    pub(super) peers: &'a Arc<Peers>,
    pub(super) groups: &'a Groups,
    pub(super) tasks: &'a TaskTracker,
    pub(super) stop: &'a CancellationToken,
}

/// A group as this node's disk has it, before its Raft core starts.
pub(super) struct Stored<M: StateMachine> {
    shard: ShardId,
    log: GroupLog,
    replica: Arc<Replica<M>>,
}

impl<M: StateMachine> Stored<M> {
    /// Whether there is nothing of the group here, and never was.
    pub(super) fn is_new(&self) -> bool {
        self.log.last().is_none() && self.replica.last().is_none()
    }

    /// Whether the log leads on from the state. It does not when the checkpoint is lost or damaged and the log is purged.
    pub(super) fn is_whole(&self) -> bool {
        self.replica.last().map(|last| last.index()) >= self.log.purged().map(|purged| purged.index())
    }
}

impl Opening<'_> {
    /// Reads what the disk has of `shard`.
    pub(super) async fn read<M: StateMachine>(&self, shard: ShardId) -> Result<Stored<M>, StartError> {
        let log = self.log.group(shard)?;
        let checkpoints = self.checkpoints.clone();
        let storage = Arc::clone(&checkpoints.storage);
        let replica = off_threads(&*storage, move || Replica::<M>::open(shard, checkpoints))
            .await
            .map_err(|error| StartError::Runtime { reason: error.to_string() })??;
        Ok(Stored { shard, log, replica })
    }

    /// Makes `stored` whole with the state of another of its `replicas`. Asks them until one gives it, without limit: what a
    /// replica can not know it does not guess. Log and vote stay.
    pub(super) async fn complete<M: StateMachine>(&self, stored: &Stored<M>, replicas: &[NodeId]) {
        let shard = stored.shard;
        let applied_min = LogIndex(stored.log.purged().map_or(0, |purged| purged.index()));
        while !stored.is_whole() {
            for node in replicas.iter().copied().filter(|node| *node != self.node) {
                match snapshot::fetch::<M>(self.peers, &*self.ports.storage, node, shard, applied_min).await {
                    Ok(snapshot) => match stored.replica.install(snapshot).await {
                        Ok(()) => {
                            tracing::info!(%shard, %node, "the state that was lost here is fetched");
                            return;
                        }
                        Err(error) => tracing::warn!(%shard, %error, "a fetched state can not be stored"),
                    },
                    Err(status) => tracing::warn!(%shard, %node, %status, "a replica does not give its state"),
                }
            }
            tracing::warn!(%shard, "the state is lost here and no other replica gives it: the shard does not start");
            tokio::time::sleep(FETCH_PAUSE).await;
        }
    }

    /// Starts the Raft core on `stored`, which must be whole.
    pub(super) async fn start<M: StateMachine>(&self, stored: Stored<M>) -> Result<ShardHandle<M>, StartError> {
        let Stored { shard, mut log, replica } = stored;
        let raft_error = |reason: String| StartError::Raft { reason };
        if let Some(last) = replica.last().filter(|_| log.last() < replica.last()) {
            // The state is ahead of the log, since it came from a peer: what the log has is in it, or never committed. The
            // Raft core would do the same for a log that is shorter, and would refuse one with another entry in that place.
            log.purge(last).await.map_err(|error| raft_error(error.to_string()))?;
        }
        let teller = Teller::default();
        let network = Network {
            shard,
            peers: Arc::clone(self.peers),
            promises: Promises::default(),
            teller: teller.clone(),
            state: PhantomData,
        };
        let store = ReplicaStore(Arc::clone(&replica));
        let raft = openraft::Raft::new(self.node.0, Arc::clone(self.raft_config), network, log.clone(), store);
        let raft =
            raft::seeded(self.ports.random.next_u64(), raft).await.map_err(|fatal| raft_error(fatal.to_string()))?;
        teller.follow(raft.metrics());
        let stamper = Stamper::new(self.ports.random.next_u64());
        let door = Door { shard, raft: raft.clone(), replica: Arc::clone(&replica), stamper };
        self.groups.write().insert(shard, Arc::new(door));
        let (published, leadership) = tokio::sync::watch::channel(Leadership::default());
        let (node, peers) = (self.node, Arc::clone(self.peers));
        let is_clock_wrong = move || clocks::is_far(&peers, node);
        let (core, stop, storage) = (raft.clone(), self.stop.clone(), Arc::clone(&self.ports.storage));
        self.tasks.spawn(async move {
            follow_leadership(core.clone(), node, published, is_clock_wrong, stop.clone()).await;
            match failure(&core).filter(|_| !stop.is_cancelled()) {
                None => {}
                Some(Fatal::Panicked) => storage.fail(&format!("the Raft core of {shard} panicked")),
                // What an entry does to this replica it does to each, and at each start: the other shards go on.
                Some(fatal) => tracing::error!(%shard, %fatal, "the replica is dead until the node is started again"),
            }
        });
        let outcome_timeout = Duration::from_millis(self.raft_config.election_timeout_max) * OUTCOME_LEASES;
        Ok(ShardHandle::new(shard, self.node, raft, replica, log, leadership, outcome_timeout))
    }
}
