//! The Raft library's own conformance suite over the real stores, and reopening them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use openraft::StorageError;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt as _;
use tempfile::TempDir;

use crate::checkpoint::CheckpointStore;
use crate::log::{GroupLog, Kept, LogError, LogStore};
use crate::raft::{Entry, LeaderId, LogId, Payload, Types, Vote};
use crate::replica::{Replica, ReplicaStore};
use crate::{
    DamagedBytes, LogIndex, MemoryStorage, Page, PageContent, PageId, PageTable, Ports, ShardId, StateMachine, Storage,
};

const SHARD: ShardId = ShardId(1);

/// Remembers every payload, a page each.
#[derive(Clone, Default)]
pub(crate) struct Payloads(PageTable<Text>);

#[derive(Clone, Default)]
pub(crate) struct Text(Vec<u8>);

impl PageContent for Text {
    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.0);
    }
}

impl StateMachine for Payloads {
    type Entry = Bytes;

    fn decode(payload: &Bytes) -> Result<Bytes, DamagedBytes> {
        Ok(payload.clone())
    }

    fn apply(&mut self, index: LogIndex, entry: &Bytes) {
        let page = self.0.page_mut(u32::try_from(index.0 % 8).expect("below 8"), index);
        page.0.extend_from_slice(entry);
    }

    fn pages(&self) -> Vec<Page> {
        self.0.pages(0).collect()
    }

    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes> {
        let mut state = Self::default();
        for (id, bytes) in pages {
            state.0.page_mut(id.number, LogIndex(0)).0 = bytes.to_vec();
        }
        Ok(state)
    }
}

pub(crate) fn disk() -> Arc<dyn Storage> {
    Ports::system().storage
}

/// Stores on a storage of their own, and where there.
struct Stores<F>(F);

struct Opened {
    _log: LogStore,
    _directory: Option<TempDir>,
}

impl<F> StoreBuilder<Types, GroupLog, ReplicaStore<Payloads>, Opened> for Stores<F>
where
    F: Fn() -> (Arc<dyn Storage>, PathBuf, Option<TempDir>) + Send + Sync + 'static,
{
    async fn build(&self) -> Result<(Opened, GroupLog, ReplicaStore<Payloads>), StorageError<Types>> {
        let (storage, path, directory) = self.0();
        let log = LogStore::open(Arc::clone(&storage), &path.join("log"), Kept::Bytes(1 << 30)).unwrap();
        let checkpoints = CheckpointStore::open(storage, &path.join("state")).unwrap();
        let group = log.group(SHARD).unwrap();
        let replica = Replica::open(SHARD, checkpoints).unwrap();
        Ok((Opened { _log: log, _directory: directory }, group, ReplicaStore(replica)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_pass_the_conformance_suite() {
    let on_disk = || {
        let directory = tempfile::tempdir().unwrap();
        (disk(), directory.path().to_owned(), Some(directory))
    };
    Suite::test_all(Stores(on_disk)).await.unwrap();
}

#[tokio::test]
async fn the_stores_pass_the_conformance_suite_in_memory() {
    Suite::test_all(Stores(|| (Arc::new(MemoryStorage::new()) as _, PathBuf::from("/node"), None))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_synced_round_is_told_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30)).unwrap();
    let (rounds_tx, rounds) = std::sync::mpsc::channel();
    assert!(log.observe_syncs(move |took| rounds_tx.send(took).unwrap()));
    assert!(!log.observe_syncs(|_| {}), "the first observer stays");
    let mut group = log.group(SHARD).unwrap();
    for index in 0..3 {
        append(&mut group, vec![entry(1, index, b"a")]).await;
    }
    let told: Vec<_> = rounds.try_iter().collect();
    assert!(told.len() == 3 && told.iter().all(|took| !took.is_zero()), "{told:?}");
    log.close().await;
}

pub(crate) fn entry(term: u64, index: u64, payload: &'static [u8]) -> Entry {
    Entry {
        log_id: LogId::new(LeaderId { term, node_id: 1 }, index),
        payload: openraft::EntryPayload::Normal(Payload(Bytes::from_static(payload))),
    }
}

pub(crate) async fn append(log: &mut GroupLog, entries: Vec<Entry>) {
    let (done, durable) = Types::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    durable.await.unwrap().unwrap();
}

async fn terms(log: &mut GroupLog) -> Vec<(u64, u64)> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.committed_leader_id().term, entry.log_id.index())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_log_has_its_entries_votes_truncations_purges_and_samples() {
    let directory = tempfile::tempdir().unwrap();
    let reopen = || LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30)).unwrap();

    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    let mut other = store.group(ShardId(2)).unwrap();
    log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    append(&mut log, (0..10).map(|index| entry(1, index, b"first")).collect()).await;
    append(&mut other, vec![entry(7, 0, b"other")]).await;
    log.truncate_after(Some(LogId::new(LeaderId { term: 1, node_id: 1 }, 5))).await.unwrap();
    drop((log, other));
    store.close().await;
    drop(store);

    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    assert_eq!(terms(&mut log).await, (0..=5).map(|index| (1, index)).collect::<Vec<_>>());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(3, 1)));
    append(&mut log, vec![entry(2, 6, b"second")]).await;
    assert_eq!(log.samples(), b"");
    log.note_samples(b"samples".to_vec());
    log.purge(LogId::new(LeaderId { term: 1, node_id: 1 }, 2)).await.unwrap();
    drop(log);
    store.close().await;
    drop(store);

    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    assert_eq!(terms(&mut log).await, vec![(1, 3), (1, 4), (1, 5), (2, 6)]);
    assert_eq!(log.samples(), b"samples");
    // A snapshot beyond the log's end: everything goes, vote and samples stay, and the log goes on behind the snapshot.
    log.purge(LogId::new(LeaderId { term: 2, node_id: 1 }, 100)).await.unwrap();
    append(&mut log, vec![entry(2, 101, b"third")]).await;
    drop(log);
    store.close().await;
    drop(store);

    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    assert_eq!(terms(&mut log).await, vec![(2, 101)]);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(3, 1)));
    assert_eq!(log.first_index(), 101);
    assert_eq!(log.samples(), b"samples");
    assert_eq!(terms(&mut store.group(ShardId(2)).unwrap()).await, vec![(7, 0)]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_readable_before_they_are_durable_and_after_they_left_memory() {
    static PAYLOAD: [u8; 100_000] = [7; 100_000];
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30)).unwrap();
    let mut log = store.group(SHARD).unwrap();
    for round in 0..10 {
        let entries = (0..10).map(|offset| entry(1, round * 10 + offset, &PAYLOAD)).collect::<Vec<_>>();
        let (done, durable) = Types::oneshot();
        log.append(entries, IOFlushed::signal(done)).await.unwrap();
        assert_eq!(log.read(round * 10, u64::MAX).now_or_never().unwrap().unwrap().len(), 10);
        durable.await.unwrap().unwrap();
    }
    assert_eq!(terms(&mut log).await, (0..100).map(|index| (1, index)).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_a_newer_leader_did_not_commit_go_with_the_purge() {
    let directory = tempfile::tempdir().unwrap();
    let reopen = || LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30)).unwrap();
    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    append(&mut log, (0..10).map(|index| entry(1, index, b"never committed")).collect()).await;
    // A state fetched from a peer, of entry 5 as the leader of term 2 committed it.
    log.purge(LogId::new(LeaderId { term: 2, node_id: 1 }, 5)).await.unwrap();
    assert_eq!(terms(&mut log).await, vec![]);
    append(&mut log, vec![entry(2, 6, b"behind it")]).await;
    assert_eq!(terms(&mut log).await, vec![(2, 6)]);
    drop(log);
    store.close().await;
    drop(store);

    let store = reopen();
    let mut log = store.group(SHARD).unwrap();
    assert_eq!(terms(&mut log).await, vec![(2, 6)]);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    store.close().await;
}

const ACKNOWLEDGED: &[u8] = b"acknowledged";

/// The directory of a store that acknowledged three rounds, as it lies on disk while the store is still open: what a
/// killed process leaves.
async fn killed_store() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30)).unwrap();
    let mut log = store.group(SHARD).unwrap();
    for index in 0..3 {
        append(&mut log, vec![entry(1, index, ACKNOWLEDGED)]).await;
    }
    let killed = tempfile::tempdir().unwrap();
    std::fs::create_dir(killed.path().join("log")).unwrap();
    for part in ["", "log"] {
        for file in std::fs::read_dir(directory.path().join(part)).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), killed.path().join(part).join(file.file_name())).unwrap();
            }
        }
    }
    store.close().await;
    killed
}

/// The log's file, and where its last entry stands there.
fn last_entry(directory: &TempDir) -> (PathBuf, usize) {
    let files = std::fs::read_dir(directory.path().join("log")).unwrap().map(|file| file.unwrap().path());
    let file = files.filter(|file| file.extension().is_some_and(|kind| kind == "raftlog")).max().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(ACKNOWLEDGED.len()).rposition(|window| window == ACKNOWLEDGED).unwrap();
    (file, at)
}

async fn reopened(directory: &TempDir) -> Result<usize, LogError> {
    let store = LogStore::open(disk(), &directory.path().join("log"), Kept::Bytes(1 << 30))?;
    let entries = terms(&mut store.group(SHARD)?).await.len();
    store.close().await;
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_store_reopens_with_what_it_acknowledged() {
    let directory = killed_store().await;
    for _again in 0..2 {
        assert_eq!(reopened(&directory).await.unwrap(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_acknowledged_entries_does_not_open() {
    let flipped = killed_store().await;
    let (file, at) = last_entry(&flipped);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let cut = killed_store().await;
    let (file, at) = last_entry(&cut);
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(at as u64).unwrap();

    let removed = killed_store().await;
    std::fs::remove_dir_all(removed.path().join("log")).unwrap();

    for (directory, rounds) in [(flipped, 2), (cut, 2), (removed, 0)] {
        // The second time too, although the engine has cut the log by then.
        for _again in 0..2 {
            let error = reopened(&directory).await.unwrap_err();
            assert!(
                matches!(error, LogError::Lost { round, acknowledged: 3, .. } if round == rounds),
                "{rounds}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_opens_without_its_mark_and_makes_a_new_one() {
    let directory = killed_store().await;
    let mark = directory.path().join("log.round");
    let whole = std::fs::read(&mark).unwrap();
    for torn in [whole[..7].to_vec(), [&whole[..15], &[whole[15] ^ 1]].concat()] {
        std::fs::write(&mark, torn).unwrap();
        assert_eq!(reopened(&directory).await.unwrap(), 3);
        assert_eq!(std::fs::read(&mark).unwrap().len(), whole.len());
    }
}

#[test]
fn a_checkpoint_restores_its_pages_and_a_flipped_byte_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = Payloads::default();
    let large: Bytes = (0..300_000u32).map(|byte| byte.to_le_bytes()[0]).collect::<Vec<_>>().into();
    state.apply(LogIndex(1), &large);
    state.apply(LogIndex(2), &Bytes::from_static(b"small"));
    let store = CheckpointStore::open(disk(), directory.path()).unwrap();
    let last = |index| Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index));
    store.write(SHARD, last(2), &crate::raft::StoredMembership::default(), &state.pages(), None).unwrap();
    state.apply(LogIndex(3), &Bytes::from_static(b"later"));
    let membership = crate::raft::StoredMembership::default();
    store.write(SHARD, last(3), &membership, &state.pages(), Some(LogIndex(2))).unwrap();

    let read = store.read(SHARD).unwrap().unwrap();
    assert_eq!(read.last, last(3));
    let restored = Payloads::restore(&mut read.pages.into_iter()).unwrap();
    assert_eq!(crate::state::state_hash(&restored.pages()), crate::state::state_hash(&state.pages()));

    store.flip_byte(SHARD);
    assert!(matches!(store.read(SHARD), Err(crate::CheckpointError::Damaged { .. })));
}

/// The state after `entries` entries of 40 kB.
fn payloads(entries: u64) -> Payloads {
    let mut state = Payloads::default();
    for index in 1..=entries {
        let payload = (0..40_000u64).map(|byte| (byte * index % 251).to_le_bytes()[0]).collect::<Vec<_>>();
        state.apply(LogIndex(index), &payload.into());
    }
    state
}

#[test]
fn a_damaged_database_gives_a_true_state_or_none() {
    const CHECKPOINTS: u64 = 6;
    const POSITIONS: usize = 24;
    let directory = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(disk(), directory.path()).unwrap();
    let position = |index| Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index));
    for index in 1..=CHECKPOINTS {
        let since = (index > 1).then(|| LogIndex(10 * (index - 1)));
        let pages = payloads(10 * index).pages();
        store.write(SHARD, position(10 * index), &crate::raft::StoredMembership::default(), &pages, since).unwrap();
    }
    drop(store);
    let read = |file: &str| std::fs::read(directory.path().join(file)).unwrap();
    let (settings, whole) = (read("conf"), read("db"));
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut newest = 0;
    for number in 0..POSITIONS {
        let damaged = tempfile::tempdir().unwrap();
        let state = damaged.path().join("state");
        let mut bytes = whole.clone();
        bytes[written * number / POSITIONS] ^= 4;
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("conf"), &settings).unwrap();
        std::fs::write(state.join("db"), bytes).unwrap();
        let Ok(Some(read)) = CheckpointStore::open(disk(), &state).unwrap().read(SHARD) else { continue };
        let index = read.last.unwrap().index();
        let restored = Payloads::restore(&mut read.pages.into_iter()).unwrap();
        let hash = |state: &Payloads| crate::state::state_hash(&state.pages());
        assert_eq!(hash(&restored), hash(&payloads(index)), "entry {index}, damaged at {number}/{POSITIONS}");
        newest += usize::from(index == 10 * CHECKPOINTS);
    }
    assert!(newest < POSITIONS, "no damage was found at all");
}
