//! `kvarter-chaos`: makes faults on a cluster that runs on this machine, and checks its promises.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kvarter_api::Client;
use kvarter_chaos::{Fleet, KillDrill};
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
    #[command(subcommand)]
    Drill(Drill),
}

#[derive(Debug, Subcommand)]
enum Drill {
    Kill(KillArgs),
}

/// Kill each node in turn, several times, while readings stream in
///
/// Measures after each kill how long it takes until every shard takes writes again. In the end every acknowledged reading must
/// be in the feed once and in its twin, and replicas at the same index must have the same state hash. The exit code is 1 when a
/// promise is broken, and when too little was seen to tell.
#[derive(Debug, Args)]
struct KillArgs {
    /// How often each node is killed
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
    match cli.run().await {
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
            Command::Drill(Drill::Kill(args)) => args.run(&fleet).await,
        }
    }
}

impl KillArgs {
    async fn run(self, fleet: &Fleet) -> anyhow::Result<ExitCode> {
        let profile = Profile::load(&self.profile)?;
        let tried = profile.endpoints.join(", ");
        let client = Client::connect(profile.client_config()?).await;
        let client = client.with_context(|| format!("can not reach the cluster at {tried}; is it running?"))?;
        let drill =
            KillDrill { rounds: self.rounds, devices: self.devices, readings_per_s: self.rate, lanes: self.streams };
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
