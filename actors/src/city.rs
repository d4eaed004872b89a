//! The front door: the city on this node, and the way to any shard from here.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{Cluster, LogIndex, NodeId, ShardId};
use tokio::sync::{mpsc, watch};

// `message` is the module of generated kvarter.city.v1 types; `Facts` the decoded entry; `Catalog` the compiled kinds.
use crate::{Catalog, ShardCounters, ShardState, message};

/// What a caller brings along.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Time until the caller gives up.
    pub deadline: Duration,
    /// W3C trace context, empty when there is none.
    pub traceparent: String,
}

#[derive(Clone, Debug)]
pub struct CityConfig {
    pub linger_max: Duration,
    pub district_devices_max: usize,
    pub device_actors_max: usize,
    pub inbox_requests_max: usize,
    pub stream_age_max: Duration,
}

/// Deliveries for one stream, read by the gateway that holds it.
pub struct StreamMailbox {
    pub deliveries: mpsc::Receiver<StreamDelivery>,
}

pub struct StreamDelivery {
    pub shard: ShardId,
    pub epoch: u64,
    pub delivery: message::Delivery,
}

/// Facts of one entry as readers see them.
pub struct FeedEntry {
    pub index: LogIndex,
    pub facts: Arc<message::Facts>,
}

/// The city on this node.
#[derive(Clone)]
pub struct City {}

impl City {
    /// Starts the actors of every shard that this node leads, now and later; loads the built-in kinds into the meta group.
    /// The peer handler must be given to `Cluster::start` before: see [`PeerDoor`].
    pub async fn start(cluster: Arc<Cluster<ShardState>>, door: PeerDoor, config: CityConfig) -> City {
        let _ = (cluster, door, config);
        todo!()
    }
    pub fn cluster(&self) -> &Arc<Cluster<ShardState>> {
        todo!()
    }
    /// The compiled catalog; follows the meta group.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        todo!()
    }
    /// Adds or extends a kind; the error is for the caller.
    pub async fn put_kind(&self, kind: crate::Kind) -> Result<crate::Kind, message::Failure> {
        let _ = kind;
        todo!()
    }
    /// The shard of a district that exists.
    pub fn shard_of(&self, district: &str) -> Option<ShardId> {
        let _ = district;
        todo!()
    }
    /// The shard of `district`, created on first use.
    pub async fn assign_district(&self, district: &str) -> Result<ShardId, message::Failure> {
        let _ = district;
        todo!()
    }
    /// Answers `request` at the shard's leader, here or one hop away. Retries `NOT_LEADER` with backoff and jitter until the
    /// deadline, never `UNKNOWN`. Bounded-staleness reads and `ReadFeed` are answered by any replica that can.
    pub async fn call(&self, request: message::ShardRequest, context: CallContext) -> Result<message::shard_reply::Reply, message::Failure> {
        let _ = (request, context);
        todo!()
    }
    /// Makes this node the place where deliveries for `stream` arrive, until the mailbox is dropped.
    pub fn open_mailbox(&self, stream: u128) -> StreamMailbox {
        let _ = stream;
        todo!()
    }
    /// Entries of `shard` behind `after`, from the local replica if it has one and keeps them, else from another.
    /// `Err(GONE)` when no replica keeps them; the message's `totals` are unused.
    pub fn feed(&self, shard: ShardId, after: LogIndex) -> CityFeed {
        let _ = (shard, after);
        todo!()
    }
    /// A fresh view of the shard's counters on the local replica.
    pub fn counters(&self, shard: ShardId) -> Option<ShardCounters> {
        let _ = shard;
        todo!()
    }
    /// Stops the actors of all shards, waits for their end.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// Answers peers: give it to `Cluster::start`, then to `City::start`. Requests before that are answered `NOT_LEADER`.
#[derive(Clone, Default)]
pub struct PeerDoor {}

pub struct CityFeed {}

impl CityFeed {
    /// The next entries, at least one unless the failure says why not. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<FeedEntry>, message::Failure> {
        todo!()
    }
    pub fn position(&self) -> LogIndex {
        todo!()
    }
}

#[allow(dead_code)]
type Unused = (BTreeMap<NodeId, ()>, LogIndex);
