//! Where reading, applying, building and installing meet.

use std::path::Path;

use super::*;
use crate::feed::FeedReader;
use crate::log::{Kept, LogStore};
use crate::store_tests::{Payloads, append, entry};
use crate::{FeedError, MemoryStorage};

const SHARD: ShardId = ShardId(1);

fn storage() -> Arc<MemoryStorage> {
    let storage = Arc::new(MemoryStorage::new());
    storage.create_directory(Path::new("/node")).unwrap();
    storage
}

fn replica() -> Arc<Replica<Payloads>> {
    let checkpoints = CheckpointStore::open(storage(), Path::new("/node/state")).unwrap();
    Replica::open(SHARD, checkpoints).unwrap()
}

/// The state of a replica that has applied up to `index`, in the leadership of `term`.
fn snapshot_at(term: u64, index: u64) -> Snapshot<Payloads> {
    let mut state = Payloads::default();
    (1..=index).for_each(|index| state.apply(LogIndex(index), &"b".into()));
    let last = Some(entry(term, index, b"b").log_id);
    Position { last, ..Position::default() }.snapshot(state)
}

/// Applies the entry at `index`, up to where its index is published.
fn apply_unpublished(replica: &Replica<Payloads>, index: u64) {
    let entry = entry(1, index, b"a");
    let EntryPayload::Normal(payload) = &entry.payload else { unreachable!("it has a payload") };
    replica.apply_payload(entry.log_id, payload).unwrap();
    replica.advance(entry.log_id, None);
}

#[test]
fn an_entry_that_is_read_before_its_index_is_published_is_read_once() {
    let replica = replica();
    let mut read = Vec::new();
    let mut position = LogIndex(0);
    let mut read_on = || {
        let (entries, through) = replica.recent(position, 256).unwrap();
        read.extend(entries.into_iter().map(|(index, _)| index));
        position = through;
    };
    for index in 1..=3 {
        apply_unpublished(&replica, index);
        read_on();
        replica.applied.send_replace(LogIndex(index));
        read_on();
    }
    assert_eq!(read, [1, 2, 3].map(LogIndex));
}

#[test]
fn a_replica_knows_its_age_once_it_has_all_and_as_long_as_its_leaders_tell() {
    let replica = replica();
    let now = Instant::now();
    let hear = |at| replica.hear(Confirmed { at, committed: LogIndex(1) });
    hear(now);
    assert_eq!(replica.staleness(), None, "it lacks the entry");
    apply_unpublished(&replica, 1);
    replica.applied.send_replace(LogIndex(1));
    hear(now);
    hear(now - Duration::from_secs(5));
    assert_eq!(*replica.fresh.lock(), Some(now), "an older word takes nothing back");
    replica.hear_nothing();
    assert_eq!(replica.staleness(), None);
}

#[tokio::test]
async fn a_checkpoint_that_is_built_when_a_snapshot_is_installed_does_not_take_its_place() {
    let replica = replica();
    for index in 1..=100 {
        apply_unpublished(&replica, index);
    }
    let mut store = ReplicaStore(Arc::clone(&replica));
    let mut first = store.get_snapshot_builder().await;
    first.build_snapshot().await.unwrap();
    apply_unpublished(&replica, 101);
    let mut late = store.get_snapshot_builder().await;
    replica.install(snapshot_at(2, 500)).await.unwrap();
    late.build_snapshot().await.unwrap();

    assert_eq!(replica.checkpoint(), LogIndex(500));
    let restored = Replica::<Payloads>::open(SHARD, replica.checkpoints.clone()).unwrap();
    assert_eq!(restored.last().unwrap().index(), 500);
    let hash = |replica: &Replica<Payloads>| crate::state::state_hash(&replica.view().state.pages());
    assert_eq!(hash(&restored), hash(&replica));
}

#[tokio::test]
async fn entries_of_a_lost_leadership_are_never_read_behind_an_installed_snapshot() {
    let replica = replica();
    let log = LogStore::open(storage(), Path::new("/node/log"), Kept::Bytes(1 << 30)).unwrap();
    let mut group = log.group(SHARD).unwrap();
    append(&mut group, (1..=20).map(|index| entry(1, index, b"a")).collect()).await;
    for index in 1..=10 {
        apply_unpublished(&replica, index);
    }
    replica.applied.send_replace(LogIndex(10));
    let mut reader = FeedReader::new(SHARD, Arc::clone(&replica), group, LogIndex(10));
    // Its log is purged only after that: it still has what never committed.
    replica.install(snapshot_at(2, 500)).await.unwrap();
    let gone = reader.next(256).await.err();
    assert_eq!(gone, Some(FeedError::Gone { shard: SHARD, first: LogIndex(501) }));
    log.close().await;
}
