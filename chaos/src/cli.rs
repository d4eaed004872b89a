//! The command line. `drill` runs drills, `stage` makes what they need; what is small is here.
mod drill;
mod simulate;
mod stage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kvarter_chaos::{Fleet, Journal, directory_of};

use drill::DrillCommand;
use simulate::SimulateArgs;
use stage::StageCommand;

/// Where `kvarter dev` keeps its cluster.
const DATA_DIR: &str = ".kvarter/dev";

/// Makes faults on a Kvarter cluster on this machine, and checks that its promises hold.
///
/// Start a cluster with `kvarter dev --idle`; in the same directory all commands then work without further options.
#[derive(Debug, Parser)]
#[command(name = "kvarter-chaos", version, max_term_width = 100)]
pub(crate) struct Cli {
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
    /// must be in the feed once and in its twin; every command accepted must have ended, with its effect once and in time;
    /// desired attributes must have been registers; and replicas at the same index must have the same state hash. The exit
    /// code is 1 when a promise is broken, and when too little was seen to tell.
    #[command(subcommand)]
    Drill(Box<DrillCommand>),
    /// Undo whatever a drill that was broken off has left behind
    Heal,
    /// Give the nodes disks, networks and clocks of their own, so that all faults can be made: needs root
    #[command(subcommand)]
    Stage(StageCommand),
    /// Play the life of a simulated cluster of three nodes, faults and all, as it follows from a seed
    ///
    /// Needs no cluster and no other machine's time: nodes, disks, network and clocks are simulated in one thread, and the same
    /// seed makes the same life. The exit code is 1 when a promise is broken, and when too little was seen to tell.
    Simulate(SimulateArgs),
}

impl Cli {
    /// Of the cluster that the command is about.
    fn journal(&self) -> Journal {
        Journal::of(directory_of(&self.fleet))
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.command, Command::Simulate(_))
    }

    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            // It has runtimes of its own.
            Command::Simulate(arguments) => arguments.run(),
            _ => self.run_on_a_fleet(),
        }
    }

    #[tokio::main]
    async fn run_on_a_fleet(self) -> anyhow::Result<ExitCode> {
        let journal = self.journal();
        tokio::select! {
            outcome = Box::pin(self.command.run(&self.fleet, &journal)) => outcome,
            _ = tokio::signal::ctrl_c() => match heal(&journal).await {
                Ok(_) => Err(anyhow::anyhow!("interrupted")),
                Err(error) => Err(error.context("interrupted, and what was done can not be undone")),
            },
        }
    }
}

impl Command {
    async fn run(self, fleet: &Path, journal: &Journal) -> anyhow::Result<ExitCode> {
        match self {
            Self::Kill { node } => {
                let killed = Fleet::open(fleet)?.kill(node)?;
                writeln!(std::io::stdout(), "killed process {} of node {node}", killed.pid)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Drill(command) => command.run(fleet).await,
            Self::Heal => {
                let healed = heal(journal).await?;
                writeln!(std::io::stdout(), "{healed} faults were undone")?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Stage(command) => command.run().await,
            Self::Simulate(arguments) => arguments.run(),
        }
    }
}

/// Undoes what is in the journal, and returns how much that was; tries everything before it fails.
async fn heal(journal: &Journal) -> anyhow::Result<usize> {
    let mut failure = None;
    let healed = journal.heal().await?;
    let faults = healed.len();
    for (undo, outcome) in healed {
        match outcome {
            Ok(()) => tracing::info!("undone: {undo}"),
            Err(error) => failure = Some(anyhow::Error::from(error).context(format!("can not {undo}"))),
        }
    }
    failure.map_or(Ok(faults), Err)
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
