//! `kvarter-chaos`: makes faults on a cluster that runs on this machine, and checks its promises.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use kvarter_api::Client;
use kvarter_chaos::{Drill, Fault, Fleet, Victims};
use kvarter_simulator::Profile;
use tracing_subscriber::EnvFilter;

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

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("warn,kvarter_chaos=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    // What a drill has to undo, it undoes also when it is dropped.
    let outcome = tokio::select! {
        outcome = Box::pin(cli.run()) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
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

impl Cli {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let fleet = Fleet::open(&self.fleet)?;
        match self.command {
            Command::Kill { node } => {
                let killed = fleet.kill(node)?;
                writeln!(std::io::stdout(), "killed process {} of node {node}", killed.pid)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Drill(command) => command.run(&fleet).await,
        }
    }
}

impl DrillCommand {
    async fn run(self, fleet: &Fleet) -> anyhow::Result<ExitCode> {
        let (fault, victims, args) = match self {
            Self::Kill { all: false, args } => (Fault::Kill, Victims::EachInTurn, args),
            Self::Kill { all: true, args } => (Fault::Kill, Victims::All, args),
            Self::Pause { time, args } => (Fault::Pause(time), Victims::BusiestLeader, args),
        };
        args.run(fault, victims, fleet).await
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

fn parse_duration(text: &str) -> Result<Duration, String> {
    let explain = |error: jiff::Error| format!("{error}; write e.g. 10s or 500ms");
    let duration: SignedDuration = text.parse().map_err(explain)?;
    Duration::try_from(duration).map_err(explain)
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
