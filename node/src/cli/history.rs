//! `kvarter history`: what `kvarter feed archive` has written, read without a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kvarter_api::v1::{Position, history_record::Record};
use serde_json::{Value as Json, json};

use super::output::Output;
use super::table::Table;
use super::{feed, json};
use crate::history::{HistoryError, HistoryFile, files, read};

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArguments {
    /// Print JSON for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, clap::Subcommand)]
enum HistoryCommand {
    /// Check that nothing is missing and nothing was changed
    #[command(after_help = "\
Reads every file: sums, order, counts, and that each file goes on where the one before it ended. Gaps are no damage: they
say that the cluster no longer had the facts. Exit code 1 when anything is damaged or missing.")]
    Verify {
        /// Directory of the files
        dir: PathBuf,
    },
    /// Print the facts, shard by shard, as `feed watch` does
    Cat {
        /// Directory of the files
        dir: PathBuf,
        /// Only these shards
        #[arg(long = "shard", value_name = "NUMBER")]
        shards: Vec<u32>,
    },
}

impl HistoryArguments {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut output = Output::new(self.json);
        match self.command {
            HistoryCommand::Verify { dir } => verify(&dir, &mut output),
            HistoryCommand::Cat { dir, shards } => cat(&dir, &shards, &mut output),
        }
    }
}

/// What the files of one shard have, as far as they are whole.
#[derive(Default)]
struct Shelf {
    files: u64,
    facts: u64,
    gaps: u64,
    first: Option<Position>,
    next: Option<Position>,
    torn_bytes: u64,
    damage: Option<HistoryError>,
}

impl Shelf {
    fn add(&mut self, file: &HistoryFile) {
        self.files += 1;
        match read::<HistoryError>(file, self.next, |_| Ok(())) {
            Ok(Some(reading)) => {
                self.facts += reading.account.facts();
                self.gaps += reading.account.gaps();
                self.torn_bytes += reading.torn_bytes;
                self.first.get_or_insert(reading.account.first());
                self.next = Some(reading.account.next());
            }
            // An open file whose header is not written yet has nothing to say.
            Ok(None) => {}
            Err(error) => self.damage = Some(error),
        }
    }

    fn json(&self, shard: u32) -> Json {
        json!({
            "shard": shard,
            "files": self.files,
            "facts": self.facts,
            "gaps": self.gaps,
            "first": json::position(self.first.as_ref()),
            "next": json::position(self.next.as_ref()),
            "torn_bytes": self.torn_bytes,
            "damage": self.damage.as_ref().map(ToString::to_string),
        })
    }

    fn row(&self, shard: u32) -> [String; 7] {
        let place = |position: Option<&Position>| position.map(feed::cursor).unwrap_or_default();
        [
            shard.to_string(),
            self.files.to_string(),
            self.facts.to_string(),
            self.gaps.to_string(),
            place(self.first.as_ref()),
            place(self.next.as_ref()),
            self.damage.as_ref().map_or_else(|| "whole".to_owned(), ToString::to_string),
        ]
    }
}

fn verify(dir: &Path, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut shelves: BTreeMap<u32, Shelf> = BTreeMap::new();
    for file in files(dir)? {
        let shelf = shelves.entry(file.shard).or_default();
        // Behind the first damage nothing can be said of the rest.
        if shelf.damage.is_none() {
            shelf.add(&file);
        }
    }
    if output.is_json() {
        let shards: Vec<_> = shelves.iter().map(|(shard, shelf)| shelf.json(*shard)).collect();
        output.json(&json!({ "shards": shards }))?;
    } else {
        let mut table = Table::new(&["SHARD", "FILES", "FACTS", "GAPS", "BEHIND", "UP TO", ""]);
        shelves.iter().for_each(|(shard, shelf)| table.row(shelf.row(*shard)));
        output.table(&table)?;
    }
    let is_whole = !shelves.is_empty() && shelves.values().all(|shelf| shelf.damage.is_none());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cat(dir: &Path, shards: &[u32], output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut nexts: BTreeMap<u32, Position> = BTreeMap::new();
    let is_asked = |file: &HistoryFile| shards.is_empty() || shards.contains(&file.shard);
    for file in files(dir)?.into_iter().filter(is_asked) {
        let reading = read::<anyhow::Error>(&file, nexts.get(&file.shard).copied(), |record| {
            match record {
                Record::Facts(facts) => {
                    for fact in &facts.facts {
                        feed::print_fact(fact, output)?;
                    }
                }
                Record::Gap(gap) => feed::print_gap(gap, output)?,
                Record::Header(_) | Record::Footer(_) => {}
            }
            Ok(())
        })?;
        if let Some(reading) = reading {
            nexts.insert(file.shard, reading.account.next());
        }
    }
    Ok(ExitCode::SUCCESS)
}
