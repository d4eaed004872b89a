//! The flusher: one thread that writes for all groups, one sync a round. Synced rounds are numbered (`log/mark.rs`).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use raft_engine::{Command, Engine, LogBatch};
use tokio::sync::oneshot;

use super::mark::RoundMark;
use super::record::{Indexed, Record};

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
    /// A key that may be lost.
    Note {
        group: u64,
        key: &'static [u8],
        value: Vec<u8>,
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

/// The way to the flusher. The queue has no bound of its own: a group has at most one proposal, one append of its leader
/// and a few votes under way.
#[derive(Clone)]
pub(super) struct FlusherSender(Sender<Operation>);

impl FlusherSender {
    pub(super) fn send(&self, operation: Operation) {
        // After `Stop` the node is ending; what is not written then was never acknowledged.
        if self.0.send(operation).is_err() {
            tracing::debug!("the log is closed");
        }
    }
}

/// The last synced round that the log has.
pub(super) fn last_round(engine: &Engine) -> u64 {
    let bytes = engine.get(ROUND_GROUP, ROUND_KEY);
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(super) fn start(engine: Arc<Engine>, mark: RoundMark, round: u64) -> io::Result<(FlusherSender, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("log-flusher".to_owned()).spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&engine, &mark, round, &receiver)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the log can not be written: the process ends");
                std::process::abort();
            }
            Err(_panic) => std::process::abort(),
        }
    })?;
    Ok((FlusherSender(sender), thread))
}

/// What is told after the sync.
enum Done {
    Appended(Box<dyn Flushed>),
    Put(oneshot::Sender<()>),
}

fn run(engine: &Engine, mark: &RoundMark, mut round: u64, operations: &Receiver<Operation>) -> raft_engine::Result<()> {
    let mut done = Vec::new();
    while let Ok(first) = operations.recv() {
        let mut batch = LogBatch::default();
        let mut sync = false;
        let mut next = Some(first);
        let mut stopped = false;
        while let Some(operation) = next {
            match operation {
                Operation::Append { group, records, overwrites, done: flushed } => {
                    if overwrites {
                        // The engine takes overlapping entries of a group from separate batches only.
                        engine.write(&mut batch, false)?;
                        batch.delete(group, TRUNCATED_KEY.to_vec());
                    }
                    batch.add_entries::<Indexed>(group, &records)?;
                    done.push(Done::Appended(flushed));
                    sync = true;
                }
                Operation::Put { group, key, value, done: told } => {
                    batch.put(group, key.to_vec(), value)?;
                    done.push(Done::Put(told));
                    sync = true;
                }
                Operation::Note { group, key, value } => batch.put(group, key.to_vec(), value)?,
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
                    stopped = true;
                    break;
                }
            }
            next = if batch.approximate_size() < ROUND_BYTES_MAX { operations.try_recv().ok() } else { None };
        }
        if sync {
            round += 1;
            batch.put(ROUND_GROUP, ROUND_KEY.to_vec(), round.to_le_bytes().to_vec())?;
        }
        engine.write(&mut batch, sync || stopped)?;
        if sync {
            mark.write(round)?;
        }
        for done in done.drain(..) {
            match done {
                Done::Appended(flushed) => flushed.flushed(),
                // Whoever asked may be gone; the value is durable all the same.
                Done::Put(told) => drop(told.send(())),
            }
        }
        if stopped {
            return engine.sync();
        }
    }
    Ok(())
}
