//! `kvarter-chaos`: makes faults on a cluster that runs on this machine, or on simulated ones, and checks the promises.
mod simulate;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kvarter_api::Client;
use kvarter_chaos::{Disks, Drill, Fault, Fleet, HostUnable, Victims, host_unable};
use kvarter_simulator::{Profile, parse_duration};
use simulate::SimulateArgs;
use tracing_subscriber::EnvFilter;

/// Where `kvarter dev` keeps its cluster.
const DATA_DIR: &str = ".kvarter/dev";

/// Makes faults on a Kvarter cluster on this machine, and checks that its promises hold.
///
/// Start a cluster with `kvarter dev`; in the same directory all commands then work without further options.
#[derive(Debug, Parser)]
#[command(name = "kvarter-chaos", version, max_term_width = 100)]
struct Cli {
    /// State file with the nodes' processes; `kvarter dev` writes it
    #[arg(long, global = true, value_name = "FILE", default_value = ".kvarter/dev/fleet.json")]
    fleet: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the process of one node with SIGKILL, and do nothing else
    Kill {
        /// Number of the node
        #[arg(long)]
        node: u64,
    },
    /// Make faults under load, then check every promise they could have broken
    ///
    /// Measures after each fault how long it takes until every shard takes writes again. In the end every acknowledged reading
    /// must be in the feed once and in its twin, and replicas at the same index must have the same state hash. The exit code is
    /// 1 when a promise is broken, and when too little was seen to tell.
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Give the nodes disks of their own, whose power can be cut: needs root, loop devices and `xfs_io`
    #[command(subcommand)]
    Disks(DisksCommand),
    /// Play the life of a simulated cluster of three nodes, faults and all, as it follows from a seed
    ///
    /// Needs no cluster and no other machine's time: nodes, disks, network and clocks are simulated in one thread, and the same
    /// seed makes the same life. The exit code is 1 when a promise is broken, and when too little was seen to tell.
    Simulate(SimulateArgs),
}

#[derive(Debug, Subcommand)]
enum DisksCommand {
    /// Make and mount a disk for each node's data, before the cluster is started there for the first time
    Make {
        /// Where the cluster is going to live, as in `kvarter dev --data`
        #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
        data: PathBuf,
        /// Number of nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
        nodes: u64,
        /// Size of each disk; the files are sparse and take what is written
        #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
        size: u64,
    },
    /// Unmount and delete the disks with all that is on them, also after a drill that was broken off
    Remove {
        /// Where the cluster lived
        #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
        data: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    /// Kill each node in turn, or all at once, while readings stream in
    Kill {
        /// Kill all nodes at once in each round
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Stop the node that leads most shards, and let it go on when others have long taken over
    Pause {
        /// How long it stands still, e.g. 10s
        #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
        time: Duration,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Cut the power of each node in turn, or of all at once: what was not synced is gone
    ///
    /// The nodes' data must lie on disks of their own, see `disks make`. Where the host can not rehearse it, the drill is
    /// skipped and says why; the exit code is 0 then.
    PowerCut {
        /// Cut the power of all nodes at once in each round
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        args: DrillArgs,
    },
}

#[derive(Debug, Args)]
struct DrillArgs {
    /// How often the fault is made, on each node where they take turns
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Readings in a second
    #[arg(long, value_name = "READINGS", default_value_t = 20_000.0)]
    rate: f64,
    /// Devices that send them
    #[arg(long, default_value_t = 5_000)]
    devices: u32,
    /// Gateway streams side by side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    streams: u32,
    /// File with the keys `endpoints`, `ca`, `certificate` and `key`; `kvarter dev` writes one
    #[arg(long, value_name = "FILE", default_value = Profile::DEFAULT_FILE, env = "KVARTER_PROFILE")]
    profile: PathBuf,
    /// End with one line of JSON in place of the tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Simulated nodes complain all the time, and rightly.
    let default = if matches!(cli.command, Command::Simulate(_)) { "off" } else { "warn,kvarter_chaos=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    let outcome = match cli.command {
        // It has runtimes of its own.
        Command::Simulate(args) => args.run(),
        command => command.run_on_a_fleet(&cli.fleet),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // When standard error is gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Command {
    #[tokio::main]
    async fn run_on_a_fleet(self, fleet: &Path) -> anyhow::Result<ExitCode> {
        // What a drill has to undo, it undoes also when it is dropped.
        tokio::select! {
            outcome = Box::pin(self.run(fleet)) => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    }

    async fn run(self, fleet: &Path) -> anyhow::Result<ExitCode> {
        match self {
            Self::Kill { node } => {
                let killed = Fleet::open(fleet)?.kill(node)?;
                writeln!(std::io::stdout(), "killed process {} of node {node}", killed.pid)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Drill(command) => command.run(fleet).await,
            Self::Disks(command) => command.run().await,
            Self::Simulate(args) => args.run(),
        }
    }
}

impl DisksCommand {
    async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(reason) = host_unable() {
            return skipped(&reason, false);
        }
        match self {
            Self::Make { data, nodes, size } => {
                Disks::of(&data).make(nodes, size << 30).await?;
                writeln!(std::io::stdout(), "{nodes} disks of {size} GiB are mounted in {}", data.display())?;
            }
            Self::Remove { data } => {
                let removed = Disks::of(&data).remove().await?;
                writeln!(std::io::stdout(), "removed {removed} disks in {}", data.display())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl DrillCommand {
    async fn run(self, fleet: &Path) -> anyhow::Result<ExitCode> {
        let (fault, victims, args) = match self {
            Self::Kill { all: false, args } => (Fault::Kill, Victims::EachInTurn, args),
            Self::Kill { all: true, args } => (Fault::Kill, Victims::All, args),
            Self::Pause { time, args } => (Fault::Pause(time), Victims::BusiestLeader, args),
            Self::PowerCut { all: false, args } => (Fault::PowerCut, Victims::EachInTurn, args),
            Self::PowerCut { all: true, args } => (Fault::PowerCut, Victims::All, args),
        };
        match host_unable() {
            Some(reason) if fault == Fault::PowerCut => skipped(&reason, args.json),
            Some(_) | None => args.run(fault, victims, &Fleet::open(fleet)?).await,
        }
    }
}

impl DrillArgs {
    async fn run(self, fault: Fault, victims: Victims, fleet: &Fleet) -> anyhow::Result<ExitCode> {
        let profile = Profile::load(&self.profile)?;
        let tried = profile.endpoints.join(", ");
        let client = Client::connect(profile.client_config()?).await;
        let client = client.with_context(|| format!("can not reach the cluster at {tried}; is it running?"))?;
        let Self { rounds, devices, rate: readings_per_s, streams: lanes, .. } = self;
        let drill = Drill { fault, victims, rounds, devices, readings_per_s, lanes };
        let report = drill.run(&client, fleet).await?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            writeln!(out, "{report}")?;
        }
        Ok(if report.is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Says that nothing was done: no failure, and no pass either.
fn skipped(reason: &HostUnable, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::json!({ "is_skipped": true, "reason": reason.to_string() }))?;
    } else {
        writeln!(out, "skipped, because {reason}")?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, parse_duration};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pause_has_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(std::time::Duration::from_secs(10)));
        assert!(parse_duration("10").is_err() && parse_duration("-5s").is_err());
    }
}
