//! Which replicas live on this node: exactly those that the meta group places here.
//!
//! A replica that is placed here is opened; it is filled by its group's leader, who makes it a learner. One that has left is
//! closed and its data dropped: its group is committed without it (`cluster/moves.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::opening::Stored;
use super::{Core, StartError, formation, stop_raft};
use crate::meta::{MetaView, Phase, ShardRecord};
use crate::ports::storage::off_threads;
use crate::{NodeId, ShardId, StateMachine};

/// Before a replica that could not be opened or dropped is tried again. Each node tries for itself alone.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Replicas whose state a peer is to give first.
type Incomplete = BTreeMap<ShardId, (CancellationToken, JoinHandle<()>)>;

/// Opens the replicas that `view` places here, and follows the placement from then on. Returns when those are open that need
/// nothing from peers.
pub(super) async fn settle<S: StateMachine>(core: &Arc<Core<S>>, view: &MetaView) -> Result<(), StartError> {
    let mut incomplete = Incomplete::new();
    for (shard, record) in &view.shards {
        if record.is_on(core.config.node) {
            open(core, *shard, record, &mut incomplete).await?;
        }
    }
    core.spawn(follow(Arc::clone(core), incomplete));
    Ok(())
}

async fn follow<S: StateMachine>(core: Arc<Core<S>>, mut incomplete: Incomplete) {
    let mut views = core.meta_view.subscribe();
    // Shards of which the disk has nothing.
    let mut forgotten = BTreeSet::new();
    loop {
        let mut has_failed = false;
        let view = Arc::clone(&views.borrow_and_update());
        for (shard, record) in &view.shards {
            let is_open = core.shards.borrow().contains_key(shard) || incomplete.contains_key(shard);
            let done = match (record.is_on(core.config.node), is_open) {
                (true, false) => {
                    forgotten.remove(shard);
                    open(&core, *shard, record, &mut incomplete).await
                }
                (false, true) => {
                    close(&core, *shard, &mut incomplete).await;
                    forget(&core, *shard).await
                }
                (false, false) if forgotten.contains(shard) => continue,
                // What a crash left of a replica that was leaving.
                (false, false) => {
                    let done = forget(&core, *shard).await;
                    if done.is_ok() {
                        forgotten.insert(*shard);
                    }
                    done
                }
                (true, true) => continue,
            };
            if let Err(error) = done {
                tracing::error!(%shard, %error, "the replica can not be opened or dropped; tried again soon");
                has_failed = true;
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_PAUSE), if has_failed => {}
        }
    }
}

async fn open<S: StateMachine>(
    core: &Arc<Core<S>>,
    shard: ShardId,
    record: &ShardRecord,
    incomplete: &mut Incomplete,
) -> Result<(), StartError> {
    let stored = core.opening().read::<S>(shard).await?;
    if stored.is_whole() {
        return start(core, stored, shard, record).await;
    }
    // The other shards do not wait for its state.
    let (given_up, record) = (CancellationToken::new(), record.clone());
    let (core_of_shard, token) = (Arc::clone(core), given_up.clone());
    let task = core.spawn(async move {
        let replicas: Vec<NodeId> = record.replicas.iter().chain(&record.leaving).copied().collect();
        if token.run_until_cancelled(core_of_shard.opening().complete(&stored, &replicas)).await.is_none() {
            return;
        }
        if let Err(error) = start(&core_of_shard, stored, shard, &record).await {
            tracing::error!(%shard, %error, "the shard does not start");
        }
    });
    incomplete.insert(shard, (given_up, task));
    Ok(())
}

async fn start<S: StateMachine>(
    core: &Arc<Core<S>>,
    stored: Stored<S>,
    shard: ShardId,
    record: &ShardRecord,
) -> Result<(), StartError> {
    let handle = core.opening().start(stored).await?;
    // Only the first replicas may found the group. One that comes later has an empty log, too, and must wait to be filled.
    if record.phase == Phase::Founding
        && let Some(rank) = record.replicas.iter().position(|node| *node == core.config.node)
    {
        core.spawn(formation::initialize(handle.raft.clone(), shard, record.replicas.clone(), rank));
    }
    core.shards.send_modify(|shards| {
        shards.insert(shard, handle);
    });
    Ok(())
}

/// Stops the replica: it answers nobody any more, and its readers end.
async fn close<S: StateMachine>(core: &Core<S>, shard: ShardId, incomplete: &mut Incomplete) {
    if let Some((given_up, task)) = incomplete.remove(&shard) {
        given_up.cancel();
        if let Err(error) = task.await {
            tracing::error!(%shard, %error, "fetching the shard's state failed");
        }
    }
    core.groups.write().remove(&shard);
    let mut handle = None;
    core.shards.send_if_modified(|shards| {
        handle = shards.remove(&shard);
        handle.is_some()
    });
    if let Some(handle) = handle {
        stop_raft(&handle.raft).await;
        handle.replica.close();
        tracing::info!(%shard, "the replica has left this node");
    }
}

/// Drops what the disk has of the shard, if it has anything; its log first, since a state without a log is whole.
async fn forget<S: StateMachine>(core: &Core<S>, shard: ShardId) -> Result<(), StartError> {
    let log = core.log.group(shard)?;
    if log.last().is_some() {
        log.forget().await.map_err(|error| StartError::Raft { reason: error.to_string() })?;
        tracing::info!(%shard, "the replica's data is dropped");
    }
    let checkpoints = core.checkpoints.clone();
    off_threads(&*core.ports.storage, move || checkpoints.forget(shard))
        .await
        .map_err(|error| StartError::Runtime { reason: error.to_string() })??;
    Ok(())
}
