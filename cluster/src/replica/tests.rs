//! Where reading, applying, building and installing meet.

use std::path::Path;

use super::*;
use crate::store_tests::{Payloads, entry};
use crate::{MemoryStorage, Storage as _};

const SHARD: ShardId = ShardId(1);

fn replica() -> Arc<Replica<Payloads>> {
    let storage = Arc::new(MemoryStorage::new());
    storage.create_directory(Path::new("/node")).unwrap();
    let checkpoints = CheckpointStore::open(storage, Path::new("/node/state")).unwrap();
    Replica::open(SHARD, checkpoints).unwrap()
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
