//! Whether the node's disk is fit for leading: there must be room on it, and it must sync in time.
//!
//! A node whose disk is nearly full or hangs gives its leaderships away and is given none, as long as somebody else can lead.
//! What hangs too long ends the process. `docs/disk.md` says why.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{ClusterConfig, Core};
use crate::ports::storage::off_threads;
use crate::{Space, StateMachine, Storage};

const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at the room on the disk.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// A sync that takes longer makes the node unfit for leading: the others wait for it with every entry they send.
const SYNC_SLOW: Duration = Duration::from_secs(1);
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// Percent of the disk that must be free beyond the least before it is no longer full, so that it does not change all the time.
const ROOM_AGAIN_PERCENT: u64 = 1;
/// Bytes of the ballast that are written at a time, where the file system can not just allocate them.
const PIECE_BYTES: usize = 1 << 20;

/// The node's disk, as it was seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskState {
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// Less is free than the least. Nothing should be taken in.
    pub is_full: bool,
    /// A sync has not returned for a second or longer.
    pub is_hanging: bool,
}

impl DiskState {
    /// Whether a node with this disk should lead.
    pub(crate) fn is_fit(self) -> bool {
        !self.is_full && !self.is_hanging
    }

    /// The state once `space` is seen. A disk that was full must have a little more room to be full no longer.
    fn with(self, space: Space, free_min_percent: u8) -> Self {
        let percent = u64::from(free_min_percent) + if self.is_full { ROOM_AGAIN_PERCENT } else { 0 };
        let is_full = free_min_percent > 0 && space.free < space.total / 100 * percent;
        Self { free_bytes: space.free, total_bytes: space.total, is_full, ..self }
    }
}

/// What is done before the stores are opened: on a full disk the ballast goes, so that they can start and purge; otherwise it
/// is laid. Returns the disk's state.
pub(super) fn prepare(storage: &dyn Storage, config: &ClusterConfig) -> io::Result<DiskState> {
    let directory = &config.data_dir;
    let look =
        || Ok::<_, io::Error>(DiskState::default().with(storage.space(directory)?, config.disk_free_min_percent));
    let state = look()?;
    let ballast = directory.join("ballast");
    if state.is_full && storage.exists(&ballast)? {
        storage.remove(&ballast)?;
        storage.sync_directory(directory)?;
        tracing::error!(?state, "the disk is full: the ballast is given up, so that the log can be purged");
        // Still full in the eyes of `with`: what the ballast took is for the purge.
        let state = look()?;
        return Ok(DiskState { is_full: true, ..state });
    }
    lay_ballast(storage, config, state)?;
    look()
}

/// Makes the ballast if there is none, and room for it.
fn lay_ballast(storage: &dyn Storage, config: &ClusterConfig, state: DiskState) -> io::Result<()> {
    let (bytes, path) = (config.ballast_bytes, config.data_dir.join("ballast"));
    let least = state.total_bytes / 100 * (u64::from(config.disk_free_min_percent) + ROOM_AGAIN_PERCENT);
    if bytes == 0 || state.is_full || state.free_bytes < least.saturating_add(bytes) || storage.exists(&path)? {
        return Ok(());
    }
    let unfinished = config.data_dir.join("ballast.new");
    let file = storage.create(&unfinished)?;
    file.set_length(0)?;
    file.allocate(0, bytes)?;
    let mut length = file.length()?;
    let piece = vec![0; PIECE_BYTES];
    while length < bytes {
        let part = piece.len().min(usize::try_from(bytes - length).unwrap_or(usize::MAX));
        file.write_at(&piece[..part], length)?;
        length += part as u64;
    }
    file.sync()?;
    storage.rename(&unfinished, &path)?;
    storage.sync_directory(&config.data_dir)
}

/// Watches the room on the disk, for [`Core::disk`]. A look may hang with the disk: whether that syncs is watched beside it.
pub(super) async fn watch_room<S: StateMachine>(core: Arc<Core<S>>) {
    loop {
        look_for_room(&core).await;
        tokio::time::sleep(ROOM_INTERVAL).await;
    }
}

/// Watches the syncs, for [`Core::disk`]: gives leaderships away while the disk is unfit or the node is drained, ends the process when
/// a sync hangs.
pub(super) async fn watch_syncs<S: StateMachine>(core: Arc<Core<S>>) {
    loop {
        let pending = core.log.sync_pending();
        if pending > core.config.sync_timeout {
            core.ports.storage.fail(&format!("a sync of the log has not returned for {pending:?}"));
            return;
        }
        core.disk.send_if_modified(|disk| {
            let is_hanging = pending > SYNC_SLOW;
            if is_hanging && !disk.is_hanging {
                tracing::error!(?pending, "the disk does not sync: this node leads no shard until it does");
            }
            std::mem::replace(&mut disk.is_hanging, is_hanging) != is_hanging
        });
        let is_fit = core.disk.borrow().is_fit() && !core.peers.is_drained(core.config.node);
        core.peers.set_fit(is_fit);
        if !is_fit {
            // A Raft core that waits for the disk takes no orders.
            let given_up = tokio::time::timeout(GIVE_UP_TIMEOUT, super::upkeep::give_up_leaders_once(&core)).await;
            tracing::debug!(?given_up, "leaderships are given away");
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn look_for_room<S: StateMachine>(core: &Arc<Core<S>>) {
    let storage = Arc::clone(&core.ports.storage);
    let (config, known) = (core.config.clone(), *core.disk.borrow());
    let seen = off_threads(&*core.ports.storage, move || {
        let state = known.with(storage.space(&config.data_dir)?, config.disk_free_min_percent);
        lay_ballast(&*storage, &config, state)?;
        Ok::<_, io::Error>(state)
    });
    match seen.await.and_then(|seen| seen) {
        Ok(seen) => {
            if seen.is_full && !known.is_full {
                tracing::error!(?seen, "the disk is nearly full: this node leads no shard until there is room");
            } else if known.is_full && !seen.is_full {
                tracing::info!(?seen, "there is room on the disk again");
            }
            core.disk.send_modify(|disk| *disk = DiskState { is_hanging: disk.is_hanging, ..seen });
        }
        Err(error) => tracing::warn!(%error, "the room on the disk is not known"),
    }
}
