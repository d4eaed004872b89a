//! `kvarter-sim compare`: Kvarter beside what people would use instead.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use kvarter_simulator::{ComparePlan, Part, Payload, parse_duration};

use super::beside_this_program;
use super::measurement::{News, uninterrupted, write_file};

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
///
/// Alike for both: three nodes with mutual TLS on this machine, a write acknowledged once it is synced on a quorum, the same
/// clients, schedule and stop watch, the same values. What etcd does best with is sought first: how many clients, connected to
/// all members or to the leader. Not alike: Kvarter's client is its gateway stream, etcd's are unary calls; Kvarter has many
/// Raft groups, etcd one; Kvarter's device is attached once and sent as a number, etcd's key is sent with each put.
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
    #[arg(long = "for", value_name = "TIME", default_value = "8s", value_parser = parse_duration)]
    duration: Duration,
    /// Time of each phase before it is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    warm_up: Duration,
    /// What to measure, separated by commas; all without
    #[arg(long, value_enum, value_name = "PART,…", value_delimiter = ',')]
    only: Vec<Part>,
    /// Turns of each system, by turns; at most two with many entries
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// etcd without TLS, between its members and with clients; Kvarter always has it
    #[arg(long)]
    plain_etcd: bool,
    /// Shards of Kvarter
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// What each record carries
    #[arg(long, value_enum, default_value = "text")]
    payload: Payload,
    /// Entries for the comparison of memory and restart
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = count)]
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
            parts: if self.only.is_empty() { Part::ALL.into() } else { self.only.into_iter().collect() },
            duration: self.duration,
            warm_up: self.warm_up,
            rounds: self.rounds,
            etcd_tls: !self.plain_etcd,
            shards: self.shards,
            payload: self.payload,
            entries: self.entries,
        };
        let mut news = News::new();
        let comparison = uninterrupted(plan.run(&mut news)).await?;
        news.end()?;
        write_file(self.full.as_deref(), || Ok(serde_json::to_string_pretty(&comparison)?))?;
        let mut out = std::io::stdout().lock();
        write!(out, "{comparison}")?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&comparison.summary())?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A number of things, at least one.
fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` is not a number above zero"))
}
