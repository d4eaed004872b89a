//! `kvarter-sim compare`: Kvarter beside what people would use instead.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use kvarter_simulator::{ComparePlan, Payload, parse_duration};
use tokio::task::JoinSet;

use super::{beside_this_program, stop_token};

/// Measure Kvarter beside another system on this machine
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    #[command(subcommand)]
    other: Other,
}

#[derive(Debug, Subcommand)]
enum Other {
    Etcd(EtcdArgs),
}

/// Measure Kvarter beside etcd: three nodes each, one system after the other, the same clients, payload and durability
///
/// Needs etcd (on Debian `apt-get install etcd-server`) and `kvarter`. Nothing else should run meanwhile. Data of both go below
/// --data, on the same disk; what an earlier comparison left there is removed.
#[derive(Debug, Args)]
struct EtcdArgs {
    /// etcd's program
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    etcd: PathBuf,
    /// Kvarter's program; by default the one beside this program, or in PATH
    #[arg(long, value_name = "PATH")]
    kvarter: Option<PathBuf>,
    /// Where both keep their data
    #[arg(long, value_name = "DIR", default_value = ".kvarter/compare")]
    data: PathBuf,
    /// Time of each measured phase
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time of each phase before it is measured
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Turns of each system, by turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// etcd with mutual TLS too, between its members and with clients; Kvarter has nothing else
    #[arg(long)]
    tls: bool,
    /// Shards of Kvarter
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// What each record carries
    #[arg(long, value_enum, default_value = "text")]
    payload: Payload,
    /// Entries for the comparison of memory and restart; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    entries: usize,
    /// All figures of all rounds
    #[arg(long, value_name = "FILE")]
    full: Option<PathBuf>,
    /// End with one line of JSON: medians and ratios
    #[arg(long)]
    json: bool,
}

impl CompareArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Other::Etcd(args) = self.other;
        args.run().await
    }
}

impl EtcdArgs {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let plan = ComparePlan {
            etcd: self.etcd,
            kvarter: self.kvarter.map_or_else(beside_this_program, Ok)?,
            dir: self.data,
            duration: self.duration,
            warm_up: self.warm_up,
            rounds: self.rounds,
            tls: self.tls,
            shards: self.shards,
            payload: self.payload,
            entries: self.entries,
        };
        let mut tasks = JoinSet::new();
        let stop = stop_token(None, &mut tasks)?;
        let mut unwritten = Ok(());
        let mut tell = |news: &str| {
            if unwritten.is_ok() {
                unwritten = writeln!(std::io::stderr(), "{news}");
            }
        };
        let Some(comparison) = stop.run_until_cancelled(Box::pin(plan.run(&mut tell))).await else {
            anyhow::bail!("interrupted; nothing was measured to the end");
        };
        let comparison = comparison?;
        unwritten?;
        if let Some(file) = &self.full {
            let text = serde_json::to_vec_pretty(&comparison)?;
            std::fs::write(file, text).with_context(|| format!("can not write {}", file.display()))?;
        }
        let mut out = std::io::stdout().lock();
        write!(out, "{comparison}")?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&comparison.summary())?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
