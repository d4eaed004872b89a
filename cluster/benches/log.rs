//! Rounds per second of the node's log: 16 groups, an entry of 6.4 kB each, one sync a round. See `docs/log-store.md`.
//!
//! The ways take turns, so that whatever else the machine does meets all of them alike: a preallocated file with one write
//! and one sync, which is about the best that a log of our own could do; `raft-engine` as the log store uses it, once in
//! files of its own that are new, once in files that it has from before; and `raft-engine` with the entries as values
//! under keys.
#![expect(clippy::print_stdout, reason = "the figures are the result")]

#[path = "../src/log/engine.rs"]
mod engine;
#[path = "../src/log/files.rs"]
mod files;
#[path = "../src/log/record.rs"]
mod record;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use engine::LogEngine;
use files::Files;
use kvarter_cluster::{Listing, Ports, Storage, StoredFile};
use prost::bytes::Bytes;
use raft_engine::{Config, Engine, LogBatch, ReadableSize};
use record::{Indexed, Record};

const GROUPS: u64 = 16;
const ENTRY_BYTES: usize = 6_400;
const ROUND_BYTES: u64 = GROUPS * ENTRY_BYTES as u64;
const ROUNDS_PER_TURN: u64 = 200;
/// Of each way, after some that do not count: the engine's first file is always new.
const TURNS: usize = 15;
const TURNS_BEFORE: usize = 4;
const FILE_BYTES: u64 = 64 << 20;
/// Files made before, about: enough for all rounds.
const PREFILLED_BYTES: u64 = 320 << 20;
/// Values that a group keeps when they are written under keys: the engine holds them in memory.
const KEYS: u64 = 64;

/// A way to make a round durable.
trait Log {
    fn name(&self) -> &'static str;
    /// Durable on return.
    fn write_round(&mut self, round: u64, payload: &Bytes) -> anyhow::Result<()>;
}

/// A file whose blocks are all written before, and written again from the start when its end is reached.
struct PlainFile {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
}

impl PlainFile {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let file = File::create(directory.join("preallocated"))?;
        // A page at a time: the system counts written bytes by the pieces in which the file is in memory.
        let zeros = vec![0; 4 << 10];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        Ok(Self { file, offset: 0, buffer: Vec::new() })
    }
}

impl Log for PlainFile {
    fn name(&self) -> &'static str {
        "preallocated file"
    }

    fn write_round(&mut self, round: u64, payload: &Bytes) -> anyhow::Result<()> {
        self.buffer.clear();
        for group in 0..GROUPS {
            // What no log can do without: whose entry it is, where it stands, how long it is and whether it is whole.
            self.buffer.extend_from_slice(&group.to_le_bytes());
            self.buffer.extend_from_slice(&round.to_le_bytes());
            self.buffer.extend_from_slice(&u32::try_from(payload.len())?.to_le_bytes());
            self.buffer.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
            self.buffer.extend_from_slice(payload);
        }
        let bytes = self.buffer.len() as u64;
        if self.offset + bytes > FILE_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes;
        Ok(())
    }
}

/// The engine as the flusher uses it.
struct Entries {
    name: &'static str,
    engine: LogEngine,
}

impl Log for Entries {
    fn name(&self) -> &'static str {
        self.name
    }

    fn write_round(&mut self, round: u64, payload: &Bytes) -> anyhow::Result<()> {
        let mut batch = LogBatch::default();
        for group in 0..GROUPS {
            batch.add_entries::<Indexed>(group, &[Record::new(round, payload)])?;
        }
        self.engine.write(&mut batch, true)?;
        Ok(())
    }
}

impl Entries {
    /// Fails unless the entry of `round` is there.
    fn verify(&self, round: u64, payload: &Bytes) -> anyhow::Result<()> {
        for group in 0..GROUPS {
            let record = self.engine.get_entry::<Indexed>(group, round)?.context("the last entry is missing")?;
            anyhow::ensure!(record.decode::<Bytes>()? == payload, "the last entry of group {group} is another");
        }
        Ok(())
    }
}

struct Values(LogEngine);

impl Log for Values {
    fn name(&self) -> &'static str {
        "values, new files"
    }

    fn write_round(&mut self, round: u64, payload: &Bytes) -> anyhow::Result<()> {
        let mut batch = LogBatch::default();
        for group in 0..GROUPS {
            batch.put(group, (round % KEYS).to_be_bytes().to_vec(), payload.to_vec())?;
        }
        self.0.write(&mut batch, true)?;
        Ok(())
    }
}

/// Bytes that this process has given to the disk so far, where the system tells. It counts whole pieces of memory: a file that
/// was once written in large pieces, as the engine's reused ones, counts far more than the disk is given.
fn written_bytes() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

#[derive(Default)]
struct Figures {
    rounds_per_second: Vec<f64>,
    written_per_byte: Vec<f64>,
}

impl Figures {
    fn median(of: &[f64]) -> Option<f64> {
        let mut sorted = of.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

fn take_turn(log: &mut dyn Log, first: u64, payload: &Bytes, figures: Option<&mut Figures>) -> anyhow::Result<()> {
    let (started, before) = (Instant::now(), written_bytes());
    for round in first..first + ROUNDS_PER_TURN {
        log.write_round(round, payload)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let Some(figures) = figures else { return Ok(()) };
    figures.rounds_per_second.push(ROUNDS_PER_TURN as f64 / seconds);
    if let (Some(before), Some(after)) = (before, written_bytes()) {
        figures.written_per_byte.push((after - before) as f64 / (ROUNDS_PER_TURN * ROUND_BYTES) as f64);
    }
    Ok(())
}

fn open(directory: &Path, name: &str, settings: impl FnOnce(&mut Config)) -> anyhow::Result<LogEngine> {
    let directory = directory.join(name);
    let mut config = engine::config(&directory, 1 << 30).context("the path is not UTF-8")?;
    settings(&mut config);
    let files = Files::open(Ports::system().storage, &directory)?;
    anyhow::ensure!(files.listing() == directory, "the disk's files are elsewhere");
    let engine = Engine::open_with_file_system(config, Arc::new(files))?;
    for file in std::fs::read_dir(&directory)? {
        File::open(file?.path())?.sync_all()?;
    }
    Ok(engine)
}

fn main() -> anyhow::Result<()> {
    // Not the system's temporary directory, which may be memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let directory = directory.path();
    let mut file = PlainFile::open(directory)?;
    let mut fresh = Entries { name: "entries, new files", engine: open(directory, "fresh", |_| {})? };
    let reuse = |config: &mut Config| {
        config.prefill_for_recycle = true;
        config.prefill_limit = Some(ReadableSize(PREFILLED_BYTES));
    };
    let mut reused = Entries { name: "entries, reused files", engine: open(directory, "reused", reuse)? };
    let mut values = Values(open(directory, "values", |_| {})?);
    // Nothing that compresses well, though compression is off.
    let payload: Bytes = (0..ENTRY_BYTES as u64).map(|byte| (byte * byte * 2_654_435_761).to_le_bytes()[3]).collect();

    let mut figures: [Figures; 4] = Default::default();
    for turn in 0..TURNS_BEFORE + TURNS {
        let first = turn as u64 * ROUNDS_PER_TURN + 1;
        let logs: [&mut dyn Log; 4] = [&mut file, &mut fresh, &mut reused, &mut values];
        for (log, figures) in logs.into_iter().zip(&mut figures) {
            take_turn(log, first, &payload, (turn >= TURNS_BEFORE).then_some(figures))?;
        }
    }
    let last = (TURNS_BEFORE + TURNS) as u64 * ROUNDS_PER_TURN;
    fresh.verify(last, &payload)?;
    reused.verify(last, &payload)?;

    println!("{GROUPS} groups, {ENTRY_BYTES} bytes each, {TURNS} turns of {ROUNDS_PER_TURN} rounds, medians");
    println!("{:<22}{:>10}{:>10}{:>10}{:>8}{:>14}", "", "rounds/s", "slowest", "fastest", "ratio", "bytes written");
    let plain = Figures::median(&figures[0].rounds_per_second).context("no turns")?;
    let names = [file.name(), fresh.name(), reused.name(), values.name()];
    for (name, figures) in names.iter().zip(&figures) {
        let median = Figures::median(&figures.rounds_per_second).context("no turns")?;
        let slowest = figures.rounds_per_second.iter().copied().fold(f64::INFINITY, f64::min);
        let fastest = figures.rounds_per_second.iter().copied().fold(0.0, f64::max);
        let written = Figures::median(&figures.written_per_byte).map_or("-".to_owned(), |each| format!("{each:.2}"));
        println!("{name:<22}{median:>10.0}{slowest:>10.0}{fastest:>10.0}{:>8.2}{written:>14}", median / plain);
    }
    Ok(())
}
