//! The front door: the city on this node, and the way to any shard from here.
//!
//! [`City::start`] keeps an actor for each shard that this node leads (`keeper`), [`City::call`] brings a request to
//! whoever can answer it (`call`, `answer`), [`PeerDoor`] answers other nodes, [`City::feed`] reads what was committed,
//! [`City::open_mailbox`] receives what is delivered. Deliberately not here: what requests come to, which is
//! [`crate::Decider`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvarter_cluster::{Cluster, LogIndex, NodeId, Ports, ShardId, View};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::message::{self, Failure, FailureReason};
use crate::shard::{DeviceCounters, ProposalEnd, Proposals, Refusals};
use crate::steady_clock::SteadyClock;
use crate::{
    Catalog, ConnectionNumber, Criticality, DeviceNumber, DistrictName, Kind, Limits, ShardCounters, ShardState,
    StreamId,
};

mod answer;
mod call;
mod door;
mod feed;
mod forwarding;
mod keeper;
mod kinds;
mod mailbox;

pub use door::PeerDoor;
pub use feed::{CityFeed, FeedBounds, FeedEntry};
pub use forwarding::Forwarding;
pub(crate) use mailbox::Mailboxes;
pub use mailbox::{StreamDelivery, StreamMailbox};

use keeper::{Keeper, LedShards};

/// The cluster version since which every program keeps the number of a stream's connection: with others, states would differ.
const CONNECTIONS_VERSION: u32 = 3;

/// What a caller brings along.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// Time until the caller gives up.
    pub deadline: Duration,
    /// W3C trace context, empty when there is none.
    pub traceparent: String,
    /// What the caller says of the request; `None`: as it is by itself. See [`Criticality`].
    pub criticality: Option<Criticality>,
    /// Tells the caller which other node answered.
    pub forwarding: Forwarding,
}

#[derive(Clone, Debug)]
pub struct CityConfig {
    /// How long a shard's batch waits for company while others are in use; zero: not at all.
    pub linger_max: Duration,
    /// Devices of a district that are not retired.
    pub district_devices_max: usize,
    /// Device actors of this node, all shards together.
    pub device_actors_max: usize,
    /// Requests that wait at one shard.
    pub inbox_requests_max: usize,
    /// A stream that was not used for so long expires.
    pub stream_age_max: Duration,
    /// Code for a device panics while its twin has reported this number, whatever the attribute. For drills alone.
    pub poison: Option<f64>,
}

/// How this node's device actors fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceActorCounters {
    /// Actors that are there now.
    pub active: u64,
    /// Actors that panicked or gave up since the node started.
    pub failed: u64,
    /// Devices whose actor failed too often to be started again while this node leads their shard.
    pub quarantined: u64,
}

pub(crate) struct Inner {
    cluster: Arc<Cluster<ShardState>>,
    config: CityConfig,
    catalog: watch::Receiver<Arc<Catalog>>,
    mailboxes: Arc<Mailboxes>,
    led: Arc<LedShards>,
    room: Arc<Semaphore>,
    counters: Arc<DeviceCounters>,
    proposals: Arc<Proposals>,
    defects: Arc<AtomicU64>,
    refused: Refusals,
    forwarded: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The city on this node. Clones are the same city.
#[derive(Clone)]
pub struct City {
    inner: Arc<Inner>,
}

impl City {
    /// Starts the actors of every shard that this node leads, now and later; loads the built-in kinds into the meta group.
    /// The peer handler must be given to `Cluster::start` before: see [`PeerDoor`].
    pub async fn start(cluster: Arc<Cluster<ShardState>>, door: PeerDoor, config: CityConfig) -> City {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (published, catalog) = watch::channel(kinds::compile(&cluster.meta()).unwrap_or_default());
        tasks.spawn(kinds::follow(cluster.meta_changes(), published, stop.clone()));
        tasks.spawn(kinds::load_built_in(Arc::clone(&cluster), stop.clone()));
        let room = config.device_actors_max.min(Semaphore::MAX_PERMITS);
        let inner = Arc::new(Inner {
            cluster,
            config,
            catalog,
            mailboxes: Arc::default(),
            led: Arc::default(),
            room: Arc::new(Semaphore::new(room)),
            counters: Arc::default(),
            proposals: Arc::default(),
            defects: Arc::default(),
            refused: Refusals::default(),
            forwarded: AtomicU64::new(0),
            tasks,
            stop,
        });
        door.open(&inner);
        inner.tasks.spawn(Arc::new(inner.keeper()).keep_all());
        City { inner }
    }

    /// A stream that was not used for so long expires.
    pub fn stream_age_max(&self) -> Duration {
        self.inner.config.stream_age_max
    }

    pub fn cluster(&self) -> &Arc<Cluster<ShardState>> {
        &self.inner.cluster
    }

    /// The compiled catalog; follows the meta group.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.inner.catalog.clone()
    }

    /// Adds a kind, or extends the one of its name. `INVALID`: it breaks a rule, or changes what must stay.
    pub async fn put_kind(&self, kind: Kind) -> Result<Kind, Failure> {
        kinds::put(&self.inner.cluster, self.catalog(), kind).await
    }

    /// Removes a kind that no device is of from the catalog; [`Self::put_kind`] brings it back. Safe to repeat. While its devices are
    /// counted, none is registered of it.
    ///
    /// `IN_USE`: devices are of it, so many as the text says, and the kind is as it was. `UNKNOWN`: it is perhaps removed, also
    /// though devices are of it, until that is repeated or the kind is put.
    ///
    /// Dropping the future does not withdraw the removal.
    pub async fn delete_kind(&self, name: &str, context: CallContext) -> Result<(), Failure> {
        if !Kind::is_name(name) {
            return Err(Failure::invalid("name", format!("`{name}` is no name of a kind")));
        }
        let (inner, kind) = (Arc::clone(&self.inner), name.to_owned());
        // A caller who gives up must not leave a kind retired that devices are of.
        let removal = self.inner.tasks.spawn(async move { inner.delete_kind(&kind, context).await });
        removal.await.unwrap_or_else(|error| {
            let text = format!("whether kind `{name}` was removed is unknown: {error}");
            Err(Failure::new(FailureReason::Unknown, text))
        })
    }

    /// The shard of a district that exists.
    pub fn shard_of(&self, district: &str) -> Option<ShardId> {
        self.inner.cluster.meta().districts.get(district).copied()
    }

    /// The shard of `district`, created on first use.
    pub async fn assign_district(&self, district: &str) -> Result<ShardId, Failure> {
        let name = DistrictName::parse(district).map_err(|error| Failure::invalid("district", error.to_string()))?;
        match self.shard_of(name.as_str()) {
            Some(shard) => Ok(shard),
            None => {
                let assigned = self.inner.cluster.assign_district(name.as_str()).await;
                assigned.map_err(|error| kinds::failure_of(&error))
            }
        }
    }

    /// Answers `request` at the shard's leader, here or one hop away. Retries `NOT_LEADER` with backoff and jitter until the
    /// deadline, for a second at most where no other replica answers this node; never `UNKNOWN` or `OVERLOADED`.
    /// Bounded-staleness reads and `ReadFeed` are answered by any replica that can.
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn call(
        &self,
        request: message::ShardRequest,
        context: CallContext,
    ) -> Result<message::shard_reply::Reply, Failure> {
        if self.inner.stop.is_cancelled() {
            return Err(Failure::new(FailureReason::NotLeader, "the node is shutting down"));
        }
        self.inner.call(Box::new(request), context).await
    }

    /// Has `node` give its leaderships away and take none, or take them back: see [`Cluster::set_drained`]. Safe to repeat.
    pub async fn drain(&self, node: NodeId, is_drained: bool, deadline: Duration) -> Result<(), Failure> {
        self.inner.drain(node, is_drained, deadline).await
    }

    /// `connection` once every node can order connections by their numbers, uncounted before.
    pub fn counted(&self, connection: ConnectionNumber) -> ConnectionNumber {
        let is_known = self.inner.cluster.meta().version() >= CONNECTIONS_VERSION;
        if is_known { connection } else { ConnectionNumber::UNCOUNTED }
    }

    /// Makes this node the place where deliveries for `stream` arrive, until the mailbox is dropped. An older mailbox of the
    /// stream ends.
    pub fn open_mailbox(&self, stream: u128) -> StreamMailbox {
        self.inner.mailboxes.open(StreamId(stream))
    }

    /// No other replica of `shard` answers this node: it can do nothing for callers, unless it is about to hear from them again.
    pub fn is_cut_off(&self, shard: ShardId) -> bool {
        self.inner.is_cut_off(shard)
    }

    /// Whether another replica of `shard` answers this node.
    pub fn reaches_another(&self, shard: ShardId) -> bool {
        self.inner.reaches_another(shard)
    }

    /// Entries of `shard` behind `after`, from the local replica while it keeps them, else from another.
    pub fn feed(&self, shard: ShardId, after: LogIndex) -> CityFeed {
        CityFeed {
            inner: Arc::clone(&self.inner),
            shard,
            position: after,
            local: None,
            unreadable: None,
            gone_since: None,
        }
    }

    /// What the replicas of `shard` keep of its feed together, as far as they answer within `deadline`.
    pub async fn feed_bounds(&self, shard: ShardId, deadline: Duration) -> Result<FeedBounds, Failure> {
        self.inner.feed_bounds(shard, tokio::time::Instant::now() + deadline).await
    }

    /// What the local replica of `shard` has applied; `None` without one.
    pub fn view(&self, shard: ShardId) -> Option<Arc<View<ShardState>>> {
        Some(self.inner.cluster.shard(shard)?.view())
    }

    /// The shard's counters as the local replica has them.
    pub fn counters(&self, shard: ShardId) -> Option<ShardCounters> {
        Some(self.view(shard)?.state.counters())
    }

    /// Name `{district}/{device}` and kind of a device, retired or not, as the local replica has them.
    pub fn device_identity(&self, shard: ShardId, device: DeviceNumber) -> Option<(String, String)> {
        let view = self.view(shard)?;
        let (name, kind) = view.state.identity(device)?;
        Some((name.to_owned(), kind.to_owned()))
    }

    /// How this node's device actors fare.
    pub fn device_actors(&self) -> DeviceActorCounters {
        let Inner { room, config, counters, .. } = &*self.inner;
        let cap = config.device_actors_max.min(Semaphore::MAX_PERMITS);
        DeviceActorCounters {
            active: cap.saturating_sub(room.available_permits()) as u64,
            failed: counters.failed.load(Ordering::Relaxed),
            quarantined: counters.quarantined.borrow().values().map(|devices| devices.len() as u64).sum(),
        }
    }

    /// Devices of `shard` that are in quarantine here: nothing is delivered to them while this node leads it.
    pub fn quarantined(&self, shard: ShardId) -> Vec<DeviceNumber> {
        let quarantined = self.inner.counters.quarantined.borrow();
        quarantined.get(&shard).map(|devices| devices.iter().copied().collect()).unwrap_or_default()
    }

    /// Requests that wait at `shard` or are being committed; `None` where this node does not lead it.
    pub fn requests_waiting(&self, shard: ShardId) -> Option<usize> {
        Some(self.inner.led.get(shard)?.inbox.requests_waiting())
    }

    /// Requests that this node refused since it started, because too much waited.
    pub fn requests_refused(&self, criticality: Criticality) -> u64 {
        self.inner.refused.of(criticality)
    }

    /// Requests, steps and sweeps of this node's shards whose deciding panicked since it started; each was answered as failed,
    /// or its readings were rejected.
    pub fn defects(&self) -> u64 {
        self.inner.defects.load(Ordering::Relaxed)
    }

    /// Requests that this node passed on to another since it started: once for each node that was asked.
    pub fn requests_forwarded(&self) -> u64 {
        self.inner.forwarded.load(Ordering::Relaxed)
    }

    /// Tells `observer` how each entry ends that a shard of this node proposes, from now on. There is one observer: later ones
    /// are ignored. It is called where entries are proposed, and must not wait.
    pub fn observe_proposals(&self, observer: impl Fn(ProposalEnd) + Send + Sync + 'static) {
        if !self.inner.proposals.observe(Box::new(observer)) {
            tracing::warn!("the proposals were observed already");
        }
    }

    /// Entries that this node's shards have proposed and whose outcome is open.
    pub fn proposals_pending(&self) -> usize {
        self.inner.proposals.pending()
    }

    /// Stops the actors of all shards and waits for their end. What is in flight is still answered, within bounds.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    fn keeper(&self) -> Keeper {
        let limits = Limits {
            district_devices_max: u32::try_from(self.config.district_devices_max).unwrap_or(u32::MAX),
            stream_age_max: self.config.stream_age_max,
            ..Limits::default()
        };
        let ports = self.cluster.ports().clone();
        let cluster = Arc::clone(&self.cluster);
        let clock = SteadyClock::new(Arc::clone(&ports.clock), move || cluster.is_clock_wrong());
        let ports = Ports { clock: Arc::new(clock), ..ports };
        Keeper {
            cluster: Arc::clone(&self.cluster),
            ports,
            config: self.config.clone(),
            limits: Arc::new(limits),
            catalog: self.catalog.clone(),
            mailboxes: Arc::clone(&self.mailboxes),
            led: Arc::clone(&self.led),
            room: Arc::clone(&self.room),
            counters: Arc::clone(&self.counters),
            proposals: Arc::clone(&self.proposals),
            defects: Arc::clone(&self.defects),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
