//! One group's log: the newest entries in memory, the rest in the engine.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;

use super::LogError;
use super::engine::LogEngine;
use super::flusher::{COMMITTED_KEY, FlusherSender, Operation, PURGED_KEY, SAMPLES_KEY, TRUNCATED_KEY, VOTE_KEY};
use super::record::{Indexed, Record};
use crate::ports::storage::off_threads;
use crate::raft::{self, Entry, LogId, Types, Vote};
use crate::{ShardId, Storage, wire};

/// Bytes of newest entries kept in memory for replication and live readers.
const TAIL_BYTES_MAX: usize = 4 << 20;
/// Bytes that one read returns at most, beside its first entry.
const READ_BYTES_MAX: usize = 1 << 20;

/// One group's part of the node's log. Clones share it.
#[derive(Clone)]
pub(crate) struct GroupLog {
    shard: ShardId,
    storage: Arc<dyn Storage>,
    engine: Arc<LogEngine>,
    flusher: FlusherSender,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    samples: Vec<u8>,
    last: Option<LogId>,
    /// The engine still has entries behind `last`; the next append overwrites them.
    truncated: bool,
    /// Newest entries, without hole up to `last`; holds at least what is not yet synced.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Entries below are durable; the others are never dropped from the tail.
    synced_end: u64,
}

impl GroupLog {
    pub(super) fn open(
        shard: ShardId,
        storage: Arc<dyn Storage>,
        engine: Arc<LogEngine>,
        flusher: FlusherSender,
    ) -> Result<Self, LogError> {
        let group = u64::from(shard.0);
        let damaged = |reason: String| LogError::Damaged { shard, reason };
        let get = |key: &[u8]| engine.get(group, key);
        let log_id = |key: &[u8]| -> Result<Option<LogId>, LogError> {
            get(key)
                .map(|bytes| wire::LogId::decode(bytes.as_slice()).map(raft::log_id_from_wire))
                .transpose()
                .map_err(|error| damaged(error.to_string()))
        };
        let vote = get(VOTE_KEY)
            .map(|bytes| {
                let vote = wire::Vote::decode(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
                raft::vote_from_wire(Some(vote)).map_err(|error| damaged(error.to_string()))
            })
            .transpose()?;
        let truncated = get(TRUNCATED_KEY)
            .map(|bytes| <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes))
            .transpose()
            .map_err(|bytes| damaged(format!("a truncation mark of {} bytes", bytes.len())))?;
        let mut state =
            State { vote, committed: log_id(COMMITTED_KEY)?, purged: log_id(PURGED_KEY)?, ..State::default() };
        state.truncated = truncated.is_some();
        state.samples = get(SAMPLES_KEY).unwrap_or_default();
        state.last = state.purged;
        let end = engine.last_index(group).map_or(0, |last| last + 1).min(truncated.unwrap_or(u64::MAX));
        if end > engine.first_index(group).unwrap_or(u64::MAX) {
            let entry = read_engine(&engine, shard, end - 1, end)?.pop();
            state.last = Some(entry.ok_or_else(|| damaged(format!("entry {} is missing", end - 1)))?.log_id);
        }
        state.synced_end = end;
        Ok(Self { shard, storage, engine, flusher, state: Arc::new(Mutex::new(state)) })
    }

    fn group(&self) -> u64 {
        u64::from(self.shard.0)
    }

    /// Index of the first entry that is kept, or would be.
    pub(crate) fn first_index(&self) -> u64 {
        self.state.lock().purged.map_or(0, |purged| purged.index() + 1)
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.state.lock().purged
    }

    /// The last entry, or the last purged one when there is none behind it.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.state.lock().last
    }

    pub(crate) fn committed(&self) -> Option<LogId> {
        self.state.lock().committed
    }

    /// What was noted last by [`GroupLog::note_samples`]; empty before.
    pub(crate) fn samples(&self) -> Vec<u8> {
        self.state.lock().samples.clone()
    }

    /// Notes where the group stood when. A crash may lose the last ones.
    pub(crate) fn note_samples(&self, samples: Vec<u8>) {
        self.state.lock().samples.clone_from(&samples);
        self.flusher.note(self.group(), SAMPLES_KEY, samples);
    }

    /// Entries of `start..end` that are kept, from the first, about 1 MiB at most. Reads files only for what left memory.
    pub(crate) async fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (mut entries, on_disk) = {
            let state = self.state.lock();
            let first_in_tail = state.tail.front().map_or(u64::MAX, |entry| entry.log_id.index());
            let last = state.last.map_or(0, |last| last.index() + 1);
            let end = end.min(last);
            // What left memory is in the engine, so the log begins with whichever begins first.
            let first_on_disk = self.engine.first_index(self.group()).unwrap_or(u64::MAX);
            let purged_end = state.purged.map_or(0, |purged| purged.index() + 1);
            let start = start.max(purged_end).max(first_in_tail.min(first_on_disk));
            if start >= end {
                return Ok(Vec::new());
            }
            if start >= first_in_tail {
                (copy_tail(&state.tail, first_in_tail, start, end), None)
            } else {
                (Vec::new(), Some((start, end.min(first_in_tail))))
            }
        };
        if let Some((start, end)) = on_disk {
            let (engine, shard) = (Arc::clone(&self.engine), self.shard);
            let read = off_threads(&*self.storage, move || read_engine(&engine, shard, start, end)).await?;
            entries = match read {
                // A purge came between.
                Err(_gone) if self.first_index() > start => Vec::new(),
                read => read.map_err(io::Error::other)?,
            };
        }
        Ok(entries)
    }

    /// [`GroupLog::read`] for the Raft core, which ends with an error: the process is to end with it, so that somebody notices.
    async fn read_for_core(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let read = self.read(start, end).await;
        read.inspect_err(|error| self.storage.fail(&format!("the log of {} can not be read: {error}", self.shard)))
    }

    /// Drops all entries and what was noted of them; durable on return. The vote stays, since a replica that comes back must
    /// not vote twice in a term. Nobody may use the group's log meanwhile.
    pub(crate) async fn forget(&self) -> io::Result<()> {
        let vote = {
            let mut state = self.state.lock();
            *state = State { vote: state.vote, ..State::default() };
            state.vote.map(|vote| (VOTE_KEY, raft::vote_to_wire(&vote).encode_to_vec()))
        };
        self.flusher.send(Operation::Reset { group: self.group(), keys: vote.into_iter().collect() });
        let (done, durable) = oneshot::channel();
        self.flusher.send(Operation::Put { group: self.group(), key: SAMPLES_KEY, value: Vec::new(), done });
        durable.await.map_err(|_closed| io::Error::other("the log is closed"))
    }

    fn log_id_bytes(id: &LogId) -> Vec<u8> {
        raft::log_id_to_wire(id).encode_to_vec()
    }
}

fn copy_tail(tail: &VecDeque<Entry>, first: u64, start: u64, end: u64) -> Vec<Entry> {
    let offset = |index: u64| usize::try_from(index - first).expect("the tail fits in memory");
    let mut bytes = 0;
    tail.range(offset(start)..offset(end))
        .take_while(|entry| {
            let fits = bytes < READ_BYTES_MAX;
            bytes += raft::entry_bytes(entry);
            fits
        })
        .cloned()
        .collect()
}

fn read_engine(engine: &LogEngine, shard: ShardId, start: u64, end: u64) -> Result<Vec<Entry>, LogError> {
    let damaged = |reason: String| LogError::Damaged { shard, reason };
    let mut records: Vec<Record> = Vec::new();
    engine
        .fetch_entries_to::<Indexed>(u64::from(shard.0), start, end, Some(READ_BYTES_MAX), &mut records)
        .map_err(|error| damaged(error.to_string()))?;
    records
        .into_iter()
        .map(|record| record.decode::<wire::Entry>().map(raft::entry_from_wire))
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(error.to_string()))
}

impl State {
    fn push(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.tail_bytes += raft::entry_bytes(&entry);
        self.tail.push_back(entry);
    }

    fn trim(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|entry| entry.log_id.index() < self.synced_end)
        {
            let entry = self.tail.pop_front().expect("the front was just seen");
            self.tail_bytes -= raft::entry_bytes(&entry);
        }
    }
}

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let mut start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => self.first_index(),
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        loop {
            let part = self.read_for_core(start, end).await?;
            let Some(last) = part.last() else { return Ok(entries) };
            start = last.log_id.index() + 1;
            entries.extend(part);
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_for_core(start, end).await
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let value = raft::vote_to_wire(vote).encode_to_vec();
        self.flusher.send(Operation::Put { group: self.group(), key: VOTE_KEY, value, done });
        durable.await.map_err(|_closed| io::Error::other("the log is closed"))?;
        self.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.state.lock().committed = Some(committed);
        self.flusher.note(self.group(), COMMITTED_KEY, Self::log_id_bytes(&committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut records = Vec::new();
        let overwrites = {
            let mut state = self.state.lock();
            for entry in entries {
                records.push(Record::new(entry.log_id.index(), &raft::entry_to_wire(&entry)));
                state.push(entry);
            }
            std::mem::take(&mut state.truncated)
        };
        let Some(last) = records.last().map(<Indexed as raft_engine::MessageExt>::index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let (told, durable) = (callback, Arc::clone(&self.state));
        let done = Completion { told, durable, last };
        self.flusher.send(Operation::Append { group: self.group(), records, overwrites, done: Box::new(done) });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let cut = last.map_or(0, |last| last.index() + 1);
        {
            let mut state = self.state.lock();
            if state.last.is_none_or(|end| end.index() < cut) {
                return Ok(());
            }
            while state.tail.back().is_some_and(|entry| entry.log_id.index() >= cut) {
                let entry = state.tail.pop_back().expect("the back was just seen");
                state.tail_bytes -= raft::entry_bytes(&entry);
            }
            state.last = last.or(state.purged);
            state.synced_end = state.synced_end.min(cut);
            state.truncated = true;
        }
        let (done, durable) = oneshot::channel();
        let value = cut.to_le_bytes().to_vec();
        self.flusher.send(Operation::Put { group: self.group(), key: TRUNCATED_KEY, value, done });
        durable.await.map_err(|_closed| io::Error::other("the log is closed"))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut state = self.state.lock();
        state.purged = Some(upto);
        while state.tail.front().is_some_and(|entry| entry.log_id.index() <= upto.index()) {
            let entry = state.tail.pop_front().expect("the front was just seen");
            state.tail_bytes -= raft::entry_bytes(&entry);
        }
        let purged = Self::log_id_bytes(&upto);
        // By term first: entries of an older leader behind `upto` never committed, and go too.
        if state.last.is_none_or(|last| last <= upto) {
            // A snapshot was installed beyond the log: the next entry leaves a hole, which the engine takes only when empty.
            state.tail.clear();
            state.tail_bytes = 0;
            state.last = Some(upto);
            state.truncated = false;
            state.synced_end = upto.index() + 1;
            let mut keys = vec![(PURGED_KEY, purged), (SAMPLES_KEY, state.samples.clone())];
            keys.extend(state.vote.map(|vote| (VOTE_KEY, raft::vote_to_wire(&vote).encode_to_vec())));
            keys.extend(state.committed.map(|committed| (COMMITTED_KEY, Self::log_id_bytes(&committed))));
            self.flusher.send(Operation::Reset { group: self.group(), keys });
        } else {
            self.flusher.send(Operation::Compact { group: self.group(), first: upto.index() + 1, purged });
        }
        Ok(())
    }
}

/// Tells the Raft core that entries are durable, and lets them leave memory.
struct Completion {
    told: IOFlushed<Types>,
    durable: Arc<Mutex<State>>,
    last: u64,
}

impl super::flusher::Flushed for Completion {
    fn flushed(self: Box<Self>) {
        let mut state = self.durable.lock();
        let end = state.last.map_or(0, |last| last.index() + 1);
        state.synced_end = state.synced_end.max(end.min(self.last + 1));
        state.trim();
        drop(state);
        self.told.io_completed(Ok(()));
    }
}
