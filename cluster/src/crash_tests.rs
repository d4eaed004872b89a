//! The stores on a disk whose power goes at every single operation: what was signalled as durable is there, and nothing else.
//!
//! A workload of random steps runs once, on a recorded disk. Then the disk is made again, operation by operation; after each the
//! power goes, the stores are opened on what is left, and that must be what they were after one of the steps that may have
//! ended by then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::checkpoint::CheckpointStore;
use crate::log::{GroupLog, LogError, LogStore, Sizes};
use crate::raft::{Entry, LeaderId, LogId, Payload, StoredMembership, Types, Vote};
use crate::state::state_hash;
use crate::store_tests::Payloads;
use crate::{LogIndex, MemoryStorage, ShardId, StateMachine as _, Storage, StorageOperation};

const SEEDS: u64 = 2;
const GROUPS: usize = 2;
const STEPS: usize = 60;
/// Power cuts after every operation, each with another outcome.
const OUTCOMES: u64 = 2;
/// So small that the workload fills several files, and has old ones dropped and reused.
const SIZES: Sizes = Sizes { file: 8 << 10, all: 24 << 10 };

/// What a group's stores have.
#[derive(Clone, Debug, Default)]
struct Stored {
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// Index and term.
    entries: BTreeMap<u64, u64>,
    committed: Option<LogId>,
    samples: Vec<u8>,
}

impl Stored {
    /// Whether the log is the same. What is only noted is written with the next synced round, whatever comes before that.
    fn is_like(&self, other: &Self) -> bool {
        (self.vote, self.purged, &self.entries) == (other.vote, other.purged, &other.entries)
    }
}

/// A group that is worked with.
struct Group {
    shard: ShardId,
    log: GroupLog,
    stored: Stored,
    term: u64,
    /// The terms of all committed entries, from index 1 on; 0 stands for the empty start.
    truth: Vec<u64>,
    /// What the checkpoint shows.
    checkpoint: Option<u64>,
}

/// What a store was to have for all groups when so many operations were made.
struct Moment<T> {
    operations: usize,
    /// It is signalled to be durable, and with it all that was before.
    is_acknowledged: bool,
    stored: Vec<T>,
}

/// What a store may have after so many operations: what it had last for certain, and all that was begun since.
fn possible<T>(moments: &[Moment<T>], operations: usize) -> &[Moment<T>] {
    let may = moments.iter().rposition(|moment| moment.operations <= operations).unwrap();
    let must = moments[..=may].iter().rposition(|moment| moment.is_acknowledged).unwrap();
    &moments[must..=may]
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

/// The payload that the leader of `term` gave the entry; large and small ones.
fn payload(term: u64, index: u64) -> Bytes {
    let length =
        if (term + index).is_multiple_of(5) { 3_000 } else { 40 + 13 * usize::from(index.to_le_bytes()[0] % 20) };
    let mut bytes = vec![term.to_le_bytes()[0]; length];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes.into()
}

fn entry(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(Payload(payload(term, index))) }
}

/// The state after the first `index` of the committed entries.
fn state(truth: &[u64], index: u64) -> Payloads {
    let mut state = Payloads::default();
    for (index, term) in (1..=index).zip(&truth[1..]) {
        state.apply(LogIndex(index), &payload(*term, index));
    }
    state
}

/// What the disk was told, and what it told.
#[derive(Default)]
struct Record {
    operations: Vec<StorageOperation>,
    /// The step under way; ready once it is signalled to be durable.
    pending: Option<Shared<BoxFuture<'static, ()>>>,
    /// After how many operations it was found to be.
    acknowledged: Option<usize>,
}

impl Record {
    fn look(&mut self) {
        if self.pending.as_ref().is_some_and(|step| step.clone().now_or_never().is_some()) {
            self.acknowledged.get_or_insert(self.operations.len());
        }
    }
}

struct Workload {
    storage: MemoryStorage,
    record: Arc<Mutex<Record>>,
    log: LogStore,
    checkpoints: CheckpointStore,
    groups: Vec<Group>,
    logs: Vec<Moment<Stored>>,
    states: Vec<Moment<Option<u64>>>,
    random: StdRng,
}

impl Workload {
    fn new(seed: u64) -> Self {
        let storage = MemoryStorage::new();
        let record = Arc::new(Mutex::new(Record::default()));
        let recording = Arc::clone(&record);
        storage.set_hook(move |operation| {
            // A step that is signalled before this operation must not need it.
            let mut record = recording.lock();
            record.look();
            record.operations.push(operation.clone());
            Ok(())
        });
        let (log, checkpoints) = open(&storage).unwrap();
        let groups = (1..).map(ShardId).take(GROUPS).map(|shard| Group {
            shard,
            log: log.group(shard).unwrap(),
            stored: Stored::default(),
            term: 1,
            truth: vec![0],
            checkpoint: None,
        });
        let groups = groups.collect();
        let random = StdRng::seed_from_u64(seed);
        let mut workload =
            Self { storage, record, log, checkpoints, groups, logs: Vec::new(), states: Vec::new(), random };
        workload.remember(true);
        workload.remember_states(true);
        workload
    }

    fn remember(&mut self, is_acknowledged: bool) {
        let operations = self.record.lock().operations.len();
        let stored = self.groups.iter().map(|group| group.stored.clone()).collect();
        self.logs.push(Moment { operations, is_acknowledged, stored });
    }

    /// Takes the step, which leads to what the groups have now.
    async fn take(&mut self, step: impl Future<Output = ()> + Send + 'static) {
        self.remember(false);
        let step = step.boxed().shared();
        self.record.lock().pending = Some(step.clone());
        step.await;
        self.remember(true);
        let mut record = self.record.lock();
        record.look();
        record.pending = None;
        let acknowledged = record.acknowledged.take().expect("it is signalled");
        self.logs.last_mut().unwrap().operations = acknowledged;
    }

    fn remember_states(&mut self, is_acknowledged: bool) {
        let operations = self.record.lock().operations.len();
        let stored = self.groups.iter().map(|group| group.checkpoint).collect();
        self.states.push(Moment { operations, is_acknowledged, stored });
    }

    /// One step. What it leads to may be found from its start on, and must be from its end on.
    async fn step(&mut self) {
        let number = self.random.random_range(0..GROUPS);
        let group = &mut self.groups[number];
        let last = group.stored.entries.last_key_value().map(|(index, _)| *index);
        let last = last.or(group.stored.purged.map(|purged| purged.index())).unwrap_or(0);
        let committed = group.truth.len() as u64 - 1;
        match self.random.random_range(0..100) {
            0..45 => {
                let count = self.random.random_range(1..4);
                let (first, term) = (last + 1, group.term);
                group.stored.entries.extend((first..first + count).map(|index| (index, term)));
                let entries: Vec<_> = (first..first + count).map(|index| entry(term, index)).collect();
                let mut log = group.log.clone();
                self.take(async move {
                    let (done, durable) = Types::oneshot();
                    log.append(entries, IOFlushed::signal(done)).await.unwrap();
                    durable.await.unwrap().unwrap();
                })
                .await;
            }
            45..55 => {
                group.term += self.random.random_range(1..3);
                let vote = Vote::new(group.term, 1);
                group.stored.vote = Some(vote);
                let mut log = group.log.clone();
                self.take(async move { log.save_vote(&vote).await.unwrap() }).await;
            }
            55..63 if last > committed => {
                let kept = self.random.random_range(committed..last);
                // Whoever overwrites has a newer term.
                group.term += 1;
                let term = group.stored.entries.get(&kept).copied().unwrap_or(group.truth.last().copied().unwrap());
                group.stored.entries.retain(|index, _| *index <= kept);
                let mut log = group.log.clone();
                let last = (kept > 0).then(|| log_id(term, kept));
                self.take(async move { log.truncate_after(last).await.unwrap() }).await;
            }
            63..75 if last > committed => {
                let upto = self.random.random_range(committed + 1..=last);
                group.truth.extend((committed + 1..=upto).map(|index| group.stored.entries[&index]));
                group.stored.committed = Some(log_id(group.truth.last().copied().unwrap(), upto));
                let committed = group.stored.committed;
                self.remember(false);
                self.groups[number].log.save_committed(committed).await.unwrap();
            }
            75..85 if committed > group.checkpoint.unwrap_or(0) => {
                let since = group.checkpoint.map(LogIndex);
                group.checkpoint = Some(committed);
                self.write_checkpoint(number, since);
            }
            85..90 if group.checkpoint.is_some() => {
                let first = group.stored.purged.map_or(0, |purged| purged.index()) + 1;
                let checkpoint = group.checkpoint.unwrap();
                if first > checkpoint {
                    return;
                }
                let upto = self.random.random_range(first..=checkpoint);
                let purged = log_id(group.truth[usize::try_from(upto).unwrap()], upto);
                self.purge(number, purged).await;
            }
            90..93 => {
                // A state from a peer, beyond the log.
                let upto = last + self.random.random_range(1..5);
                group.term += 1;
                let term = group.term;
                group.truth.resize(usize::try_from(upto).unwrap() + 1, term);
                group.checkpoint = Some(upto);
                self.write_checkpoint(number, None);
                self.purge(number, log_id(term, upto)).await;
            }
            93..97 => {
                let samples = vec![7; self.random.random_range(1..30)];
                group.stored.samples.clone_from(&samples);
                self.remember(false);
                self.groups[number].log.note_samples(samples);
            }
            _ => drop(self.log.purge_files().unwrap()),
        }
    }

    fn write_checkpoint(&mut self, number: usize, since: Option<LogIndex>) {
        self.remember_states(false);
        let group = &self.groups[number];
        let index = group.checkpoint.unwrap();
        let last = log_id(group.truth[usize::try_from(index).unwrap()], index);
        let pages = state(&group.truth, index).pages();
        let membership = StoredMembership::default();
        self.checkpoints.write(group.shard, Some(last), &membership, &pages, since).unwrap();
        self.remember_states(true);
    }

    async fn purge(&mut self, number: usize, upto: LogId) {
        let stored = &mut self.groups[number].stored;
        stored.purged = Some(upto);
        let has_behind = stored.entries.last_key_value().is_some_and(|(index, term)| log_id(*term, *index) > upto);
        if has_behind {
            stored.entries.retain(|index, _| *index > upto.index());
        } else {
            stored.entries.clear();
        }
        self.remember(false);
        self.groups[number].log.purge(upto).await.unwrap();
    }
}

fn open(storage: &MemoryStorage) -> Result<(LogStore, CheckpointStore), LogError> {
    let directory = Path::new("/node");
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let log = LogStore::open_sized(Arc::clone(&storage), &directory.join("log"), &SIZES)?;
    Ok((log, CheckpointStore::open(storage, &directory.join("state")).unwrap()))
}

/// What the group's log has. Reads it all, and checks each payload.
fn read(log: &mut GroupLog) -> Stored {
    let ready = "calls of a storage that does not block are ready at once";
    let found = log.try_get_log_entries(..).now_or_never().expect(ready).unwrap();
    let mut entries = BTreeMap::new();
    for found in found {
        let (term, index) = (found.log_id.committed_leader_id().term, found.log_id.index());
        let EntryPayload::Normal(Payload(bytes)) = &found.payload else { panic!("{found:?}") };
        assert_eq!(*bytes, payload(term, index), "entry {index} of term {term}");
        let before = entries.insert(index, term);
        assert_eq!(before, None);
    }
    let vote = log.read_vote().now_or_never().expect(ready).unwrap();
    Stored { vote, purged: log.purged(), entries, committed: log.committed(), samples: log.samples() }
}

/// Opens the stores on `found`, the disk after `operations` of the workload's, and checks all they have.
fn verify(workload: &Workload, found: &MemoryStorage, operations: usize, what: &str) {
    let (log, checkpoints) = open(found).unwrap_or_else(|error| panic!("{what}: {error}"));
    let stored: Vec<_> = workload.groups.iter().map(|group| read(&mut log.group(group.shard).unwrap())).collect();
    let logs = possible(&workload.logs, operations);
    let is_one = logs.iter().any(|moment| moment.stored.iter().zip(&stored).all(|(was, is)| was.is_like(is)));
    assert!(is_one, "{what}: none of {} moments:\n{stored:?}\nthe first:\n{:?}", logs.len(), logs[0].stored);

    let states = possible(&workload.states, operations);
    for (number, group) in workload.groups.iter().enumerate() {
        let checkpoint = checkpoints.read(group.shard).unwrap();
        let index = checkpoint.as_ref().map(|checkpoint| checkpoint.last.unwrap().index());
        let is_one = states.iter().any(|moment| moment.stored[number] == index);
        assert!(is_one, "{what}: a checkpoint at {index:?}");
        let stored = &stored[number];
        let was_noted = |is_same: &dyn Fn(&Stored) -> bool| logs.iter().any(|moment| is_same(&moment.stored[number]));
        assert!(was_noted(&|was| was.committed == stored.committed), "{what}: {:?} is noted", stored.committed);
        assert!(was_noted(&|was| was.samples == stored.samples), "{what}: {:?} are noted", stored.samples);
        let purged = stored.purged.map_or(0, |purged| purged.index());
        assert!(index.unwrap_or(0) >= purged, "{what}: the log begins behind the checkpoint at {index:?}");
        let last = stored.entries.last_key_value().map_or(purged, |(index, _)| *index);
        assert!(stored.entries.keys().copied().eq(purged + 1..=last), "{what}: a hole in {:?}", stored.entries);
        if let Some(checkpoint) = checkpoint {
            let restored = Payloads::restore(&mut checkpoint.pages.into_iter()).unwrap();
            let hash = |state: &Payloads| state_hash(&state.pages());
            assert_eq!(hash(&restored), hash(&state(&group.truth, index.unwrap())), "{what}: the state at {index:?}");
        }
    }
}

async fn crash_at_every_operation(seed: u64) -> usize {
    let mut workload = Workload::new(seed);
    for _step in 0..STEPS {
        workload.step().await;
    }
    // What was only noted is durable with what follows it.
    workload.groups[0].stored.vote = Some(Vote::new(1_000, 1));
    let mut log = workload.groups[0].log.clone();
    workload.take(async move { log.save_vote(&Vote::new(1_000, 1)).await.unwrap() }).await;
    workload.storage.remove_hook();

    let operations = workload.record.lock().operations.clone();
    let disk = MemoryStorage::new();
    let opened = workload.logs[0].operations;
    for (number, operation) in (1..).zip(&operations) {
        disk.make(operation.clone()).unwrap();
        if number < opened {
            // While the stores are made, nothing is promised; but what is left is opened again.
            open(&disk.crash(seed ^ number as u64)).unwrap();
            continue;
        }
        let what = format!("seed {seed}, after operation {number} of {}, {operation:?}", operations.len());
        verify(&workload, &disk.kill(), number, &what);
        for outcome in 0..OUTCOMES {
            let crashed = disk.crash(seed ^ (number as u64) << 8 ^ outcome);
            verify(&workload, &crashed, number, &format!("{what}, outcome {outcome}"));
        }
    }
    let is_log_write =
        |operation: &StorageOperation| matches!(operation, StorageOperation::Write { path, .. } if is_log(path));
    let last = operations.iter().rposition(is_log_write).unwrap();
    let shorter = MemoryStorage::new();
    for operation in [&operations[..last], &operations[last + 1..]].concat() {
        shorter.make(operation).unwrap();
    }
    assert!(matches!(open(&shorter.kill()), Err(LogError::Lost { .. })), "seed {seed}: a shorter log was opened");
    operations.len()
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "raftlog")
}

#[tokio::test]
async fn the_stores_have_what_was_durable_whenever_the_power_goes() {
    let mut operations = 0;
    for seed in 1..=SEEDS {
        operations += crash_at_every_operation(seed).await;
    }
    assert!(operations > 250, "{operations} operations prove little");
}
