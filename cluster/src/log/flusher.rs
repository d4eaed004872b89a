//! The flusher: writes for all groups, one sync a round. Synced rounds are numbered (`log/mark.rs`).
//!
//! It is a thread, or a task where the storage does not block.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use raft_engine::{Command, LogBatch};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::engine::LogEngine;
use super::mark::RoundMark;
use super::record::{Indexed, Record};
use crate::Storage;

/// Bytes after which a round is written although more waits.
const ROUND_BYTES_MAX: usize = 8 << 20;

pub(super) const VOTE_KEY: &[u8] = b"vote";
pub(super) const PURGED_KEY: &[u8] = b"purged";
pub(super) const COMMITTED_KEY: &[u8] = b"committed";
/// Where the group stood when, for the retention by age.
pub(super) const SAMPLES_KEY: &[u8] = b"samples";
/// Index from which on entries were cut off and not yet overwritten.
pub(super) const TRUNCATED_KEY: &[u8] = b"truncated";

/// No shard's group: it has the number of the last synced round.
const ROUND_GROUP: u64 = u64::MAX;
const ROUND_KEY: &[u8] = b"round";

/// Hears that its entries are durable.
pub(super) trait Flushed: Send {
    fn flushed(self: Box<Self>);
}

/// What a group asks of the flusher. Rounds keep the order.
pub(super) enum Operation {
    /// Entries behind the group's last one, or behind its truncation.
    Append {
        group: u64,
        records: Vec<Record>,
        overwrites: bool,
        done: Box<dyn Flushed>,
    },
    /// A key that must be durable when `done` fires.
    Put {
        group: u64,
        key: &'static [u8],
        value: Vec<u8>,
        done: oneshot::Sender<()>,
    },
    /// Drops entries below `first`.
    Compact {
        group: u64,
        first: u64,
        purged: Vec<u8>,
    },
    /// Drops all entries and keys of the group and writes these keys instead.
    Reset {
        group: u64,
        keys: Vec<(&'static [u8], Vec<u8>)>,
    },
    Stop,
}

/// Values that may be lost, by group and key: written with the next synced round; no thread is woken for them alone.
type Notes = BTreeMap<(u64, &'static [u8]), Vec<u8>>;

/// The way to the flusher. The queue has no bound of its own: a group has at most one proposal, one append of its leader
/// and a few votes under way.
#[derive(Clone)]
pub(super) struct FlusherSender {
    operations: UnboundedSender<Operation>,
    notes: Arc<Mutex<Notes>>,
}

impl FlusherSender {
    pub(super) fn send(&self, operation: Operation) {
        if let Operation::Reset { group, .. } = operation {
            // The keys of the reset are newer.
            self.notes.lock().retain(|(noted, _), _| *noted != group);
        }
        // After `Stop` the node is ending; what is not written then was never acknowledged.
        if self.operations.send(operation).is_err() {
            tracing::debug!("the log is closed");
        }
    }

    /// Keeps a value that may be lost.
    pub(super) fn note(&self, group: u64, key: &'static [u8], value: Vec<u8>) {
        self.notes.lock().insert((group, key), value);
    }
}

/// The last synced round that the log has.
pub(super) fn last_round(engine: &LogEngine) -> u64 {
    let bytes = engine.get(ROUND_GROUP, ROUND_KEY);
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Hears how long each round took from its begin until it was synced.
pub(super) type SyncObserver = Box<dyn Fn(Duration) + Send + Sync>;

/// The running flusher; ends with its owner.
pub(super) struct Flusher {
    sender: FlusherSender,
    running: Mutex<Option<Running>>,
    begun: Arc<Mutex<Option<Instant>>>,
    observer: Arc<OnceLock<SyncObserver>>,
}

enum Running {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Flusher {
    /// Goes on behind `round`, the last one that `engine` has.
    pub(super) fn start(
        storage: Arc<dyn Storage>,
        engine: Arc<LogEngine>,
        mark: RoundMark,
        round: u64,
    ) -> io::Result<Self> {
        let (sender, mut operations) = unbounded_channel();
        let notes = Arc::new(Mutex::new(Notes::new()));
        let sender = FlusherSender { operations: sender, notes: Arc::clone(&notes) };
        let blocks = storage.blocks();
        let begun = Arc::default();
        let observer = Arc::default();
        let mut rounds = Rounds {
            storage,
            engine,
            mark,
            round,
            notes,
            done: Vec::new(),
            begun: Arc::clone(&begun),
            observer: Arc::clone(&observer),
        };
        let running = if blocks {
            let thread = std::thread::Builder::new().name("log-flusher".to_owned());
            Running::Thread(thread.spawn(move || {
                while let Some(first) = operations.blocking_recv() {
                    rounds.begin();
                    if !rounds.write(first, &mut operations) {
                        return;
                    }
                }
            })?)
        } else {
            Running::Task(Handle::current().spawn(async move {
                while let Some(first) = operations.recv().await {
                    rounds.begin();
                    tokio::time::sleep(rounds.storage.sync_time()).await;
                    if !rounds.write(first, &mut operations) {
                        return;
                    }
                }
            }))
        };
        Ok(Self { sender, running: Mutex::new(Some(running)), begun, observer })
    }

    pub(super) fn sender(&self) -> FlusherSender {
        self.sender.clone()
    }

    /// Tells `observer` of each synced round from now on. The first one stays; whether it is this one.
    pub(super) fn observe(&self, observer: SyncObserver) -> bool {
        self.observer.set(observer).is_ok()
    }

    /// For how long the round that is being written has not been synced; zero when none is.
    pub(super) fn pending(&self) -> Duration {
        self.begun.lock().map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Writes and syncs what waits, and ends.
    pub(super) async fn stop(&self) {
        self.sender.send(Operation::Stop);
        let ended = match self.running.lock().take() {
            None => return,
            Some(Running::Thread(thread)) => tokio::task::spawn_blocking(|| join(thread)),
            Some(Running::Task(task)) => task,
        };
        ended.await.expect("a panic is caught in its round");
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.sender.send(Operation::Stop);
        match self.running.lock().take() {
            None => {}
            Some(Running::Thread(thread)) => join(thread),
            Some(Running::Task(task)) => task.abort(),
        }
    }
}

fn join(thread: std::thread::JoinHandle<()>) {
    thread.join().expect("a panic is caught in its round");
}

/// What is told after the sync.
enum Done {
    Appended(Box<dyn Flushed>),
    Put(oneshot::Sender<()>),
}

/// Writes round after round.
struct Rounds {
    storage: Arc<dyn Storage>,
    engine: Arc<LogEngine>,
    mark: RoundMark,
    /// The last synced one.
    round: u64,
    notes: Arc<Mutex<Notes>>,
    done: Vec<Done>,
    /// When the round was begun that is not synced yet.
    begun: Arc<Mutex<Option<Instant>>>,
    observer: Arc<OnceLock<SyncObserver>>,
}

impl Rounds {
    fn begin(&self) {
        *self.begun.lock() = Some(Instant::now());
    }

    /// Writes `first` and what waits behind it, syncs, and tells; returns whether to go on. After an error or a panic nothing
    /// is told, and the process ends: nobody knows what the disk has.
    fn write(&mut self, first: Operation, waiting: &mut UnboundedReceiver<Operation>) -> bool {
        let round_before = self.round;
        let written = catch_unwind(AssertUnwindSafe(|| self.try_write(first, waiting)));
        let stopped = match written {
            Ok(Ok(stopped)) => stopped,
            Ok(Err(error)) => {
                self.storage.fail(&format!("the log can not be written: {error}"));
                return false;
            }
            Err(_panic) => {
                self.storage.fail("the log can not be written: the engine panicked");
                return false;
            }
        };
        let begun = self.begun.lock().take();
        if !self.storage.is_alive() {
            return false;
        }
        let took = begun.filter(|_| self.round > round_before).map(|begun| begun.elapsed());
        if catch_unwind(AssertUnwindSafe(|| self.tell(took))).is_err() {
            self.storage.fail("who waits for the log can not be told: somebody panicked");
            return false;
        }
        !stopped
    }

    /// Tells those who wait that the round is written, and the observer how long it took if it was synced.
    fn tell(&mut self, took: Option<Duration>) {
        if let (Some(took), Some(observer)) = (took, self.observer.get()) {
            observer(took);
        }
        for done in self.done.drain(..) {
            match done {
                Done::Appended(flushed) => flushed.flushed(),
                // Whoever asked may be gone; the value is durable all the same.
                Done::Put(told) => drop(told.send(())),
            }
        }
    }

    /// Returns whether it was told to stop.
    fn try_write(&mut self, first: Operation, waiting: &mut UnboundedReceiver<Operation>) -> raft_engine::Result<bool> {
        let engine = &self.engine;
        let mut batch = LogBatch::default();
        let (mut sync, mut stopped) = (false, false);
        let mut next = Some(first);
        while let Some(operation) = next {
            match operation {
                Operation::Append { group, records, overwrites, done: flushed } => {
                    if overwrites {
                        // The engine takes overlapping entries of a group from separate batches only.
                        engine.write(&mut batch, false)?;
                        batch.delete(group, TRUNCATED_KEY.to_vec());
                    }
                    batch.add_entries::<Indexed>(group, &records)?;
                    self.done.push(Done::Appended(flushed));
                    sync = true;
                }
                Operation::Put { group, key, value, done: told } => {
                    batch.put(group, key.to_vec(), value)?;
                    self.done.push(Done::Put(told));
                    sync = true;
                }
                Operation::Compact { group, first, purged } => {
                    batch.put(group, PURGED_KEY.to_vec(), purged)?;
                    batch.add_command(group, Command::Compact { index: first });
                }
                Operation::Reset { group, keys } => {
                    engine.write(&mut batch, false)?;
                    batch.add_command(group, Command::Clean);
                    for (key, value) in keys {
                        batch.put(group, key.to_vec(), value)?;
                    }
                    engine.write(&mut batch, true)?;
                }
                Operation::Stop => {
                    // What may be lost is kept if it can be.
                    (sync, stopped) = (true, true);
                    break;
                }
            }
            next = if batch.approximate_size() < ROUND_BYTES_MAX { waiting.try_recv().ok() } else { None };
        }
        if sync {
            for ((group, key), value) in std::mem::take(&mut *self.notes.lock()) {
                batch.put(group, key.to_vec(), value)?;
            }
            self.round += 1;
            batch.put(ROUND_GROUP, ROUND_KEY.to_vec(), self.round.to_le_bytes().to_vec())?;
        }
        engine.write(&mut batch, sync)?;
        if sync {
            self.mark.write(self.round)?;
        }
        Ok(stopped)
    }
}
