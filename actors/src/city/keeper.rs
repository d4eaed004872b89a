//! Keeps an actor for every shard that this node leads: starts it when a leadership is ready, ends it when that is gone.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kvarter_cluster::{Cluster, Leadership, Ports, ShardHandle, ShardId, Term};
use ractor::{Actor, ActorRef};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::city::{CityConfig, Mailboxes};
use crate::shard::{
    BatchBounds, Confirmations, Courier, DeviceCounters, DeviceSurroundings, Inbox, InboxBounds, Proposals, ShardActor,
    ShardBirth, ShardMessage,
};
use crate::{Catalog, Limits, ShardState};

/// Longest entry of a shard.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Requests that wait at one shard, bytes.
const INBOX_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Well below what a caller waits for one answer, 3 s by default: it is to be told before it gives up and does not know.
const INBOX_WAIT_MAX: Duration = Duration::from_secs(1);

/// A shard's actor that is told to end answers what is in flight within this time; the rest hears that it is unknown.
const END_MAX: Duration = Duration::from_secs(3);

/// Before an actor that ended by itself is started again in the same leadership.
const RESTART_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10) };

/// A shard that this node leads, as callers reach it.
#[derive(Clone)]
pub(crate) struct LedShard {
    pub(crate) inbox: Inbox,
    pub(crate) confirmations: Confirmations,
}

/// The shards that this node leads now.
#[derive(Default)]
pub(crate) struct LedShards {
    shards: RwLock<BTreeMap<ShardId, LedShard>>,
}

impl LedShards {
    pub(crate) fn get(&self, shard: ShardId) -> Option<LedShard> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    fn insert(&self, shard: ShardId, led: LedShard) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).insert(shard, led);
    }

    fn remove(&self, shard: ShardId) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }
}

/// What all keepers of a node share.
pub(crate) struct Keeper {
    pub(crate) cluster: Arc<Cluster<ShardState>>,
    /// The cluster's, with a clock that shards decide by.
    pub(crate) ports: Ports,
    pub(crate) config: CityConfig,
    pub(crate) limits: Arc<Limits>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) led: Arc<LedShards>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) counters: Arc<DeviceCounters>,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) defects: Arc<AtomicU64>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Keeper {
    /// Keeps every local replica, now and later, until the city stops.
    pub(crate) async fn keep_all(self: Arc<Self>) {
        let mut placements = self.cluster.shards();
        let mut kept: BTreeMap<ShardId, ShardHandle<ShardState>> = BTreeMap::new();
        loop {
            let placed = placements.borrow_and_update().clone();
            for (shard, handle) in &placed {
                // A replica may have left and come back between two looks.
                if !kept.get(shard).is_some_and(|before| before.is_same(handle)) {
                    self.tasks.spawn(Arc::clone(&self).keep(handle.clone()));
                }
            }
            kept = placed;
            match self.stop.run_until_cancelled(placements.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Ends with the replica, or with the city.
    async fn keep(self: Arc<Self>, handle: ShardHandle<ShardState>) {
        let mut leadership = handle.leadership();
        let mut failures = 0;
        loop {
            let ready = async { leadership.wait_for(|known| known.is_ready).await.map(|known| known.term) };
            let Some(Ok(term)) = self.stop.run_until_cancelled(ready).await else { return };
            if !self.lead(&handle, term, &mut leadership).await {
                failures = 0;
                continue;
            }
            // An actor whose proposal was refused ends before this node hears that it is deposed.
            failures += 1;
            let delay = RESTART_BACKOFF.delay(failures, self.cluster.ports().random.next_u64());
            let deposed = timeout(delay, leadership.wait_for(|known| is_over(known, term)));
            match self.stop.run_until_cancelled(deposed).await {
                Some(Err(_elapsed)) => {
                    tracing::warn!(shard = %handle.id(), term = term.0, failures, "the shard's actor ended; starting it again");
                }
                Some(Ok(_)) | None => failures = 0,
            }
        }
    }

    /// Runs the shard's actor for the leadership of `term`. `true`: it ended while the leadership lasted.
    async fn lead(
        &self,
        handle: &ShardHandle<ShardState>,
        term: Term,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> bool {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let birth = self.birth(handle, term, &tasks, &stop);
        let (actor, mut ended) = match ShardActor::spawn(None, ShardActor, birth).await {
            Ok(spawned) => spawned,
            Err(error) => {
                tracing::error!(shard = %handle.id(), %error, "the shard's actor did not start");
                return true;
            }
        };
        tracing::info!(shard = %handle.id(), term = term.0, "leading");
        let requests_max = self.config.inbox_requests_max;
        let bounds = InboxBounds { requests_max, bytes_max: INBOX_BYTES_MAX, wait_max: INBOX_WAIT_MAX };
        let inbox = Inbox::new(actor.clone(), bounds);
        let confirmations = Confirmations::start(handle.clone(), &tasks, stop.clone());
        self.led.insert(handle.id(), LedShard { inbox, confirmations });
        let ended_by_itself = tokio::select! {
            () = self.stop.cancelled() => false,
            _ = leadership.wait_for(|known| is_over(known, term)) => false,
            _ = &mut ended => true,
        };
        self.led.remove(handle.id());
        if !ended_by_itself {
            end(&actor, ended).await;
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        tracing::info!(shard = %handle.id(), term = term.0, "no longer leading");
        ended_by_itself
    }

    fn birth(
        &self,
        handle: &ShardHandle<ShardState>,
        term: Term,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> ShardBirth {
        let courier =
            Courier { shard: handle.id(), cluster: Arc::clone(&self.cluster), mailboxes: Arc::clone(&self.mailboxes) };
        ShardBirth {
            node: self.cluster.node(),
            term,
            bounds: BatchBounds { linger_max: self.config.linger_max, payload_bytes_max: PAYLOAD_BYTES_MAX },
            limits: Arc::clone(&self.limits),
            catalog: self.catalog.clone(),
            proposals: Arc::clone(&self.proposals),
            defects: Arc::clone(&self.defects),
            surroundings: DeviceSurroundings {
                handle: handle.clone(),
                ports: self.ports.clone(),
                courier,
                room: Arc::clone(&self.room),
                counters: Arc::clone(&self.counters),
                poison: self.config.poison,
                tasks: tasks.clone(),
                stop: stop.clone(),
            },
        }
    }
}

fn is_over(known: &Leadership, term: Term) -> bool {
    !known.is_ready || known.term != term
}

/// Lets the actor answer what it has, but not for ever.
async fn end(actor: &ActorRef<ShardMessage>, mut ended: tokio::task::JoinHandle<()>) {
    let told = actor.send_message(ShardMessage::Depose);
    if told.is_err() || timeout(END_MAX, &mut ended).await.is_err() {
        actor.kill();
        // The only error is a panic, which the actor's own supervision has caught before.
        drop(ended.await);
    }
}
