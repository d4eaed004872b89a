//! `kvarter node`: one node of a cluster, until a signal.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::SAMPLE;
use crate::{Config, Node, StopSignals};

const EXAMPLES: &str = "\
Examples:
  kvarter node --print-sample > node.toml            every setting with its meaning and default
  kvarter node --config node.toml
  KVARTER_NODE__ID=2 kvarter node --config node.toml a setting from the environment wins

SIGTERM and SIGINT drain the node: it turns unready, sends its streams and leaderships away, and exits with 0.
A second signal stops it at once.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct NodeArguments {
    /// Settings of the node, TOML
    #[arg(long, value_name = "FILE", required_unless_present = "print_sample")]
    config: Option<PathBuf>,
    /// Print settings that document every key, and exit
    #[arg(long, conflicts_with = "config")]
    print_sample: bool,
    /// Drain and exit when standard input, a pipe, ends as well: for a supervisor that its nodes must not outlive
    #[arg(long)]
    stop_with_stdin: bool,
}

pub(super) fn run(arguments: NodeArguments) -> anyhow::Result<ExitCode> {
    let Some(file) = arguments.config else {
        std::io::stdout().write_all(SAMPLE.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    // Variables that are not text can not be settings.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::load(&file, environment)?;
    super::runtime()?.block_on(async {
        let signals = StopSignals::listen(arguments.stop_with_stdin).context("signals can not be received")?;
        anyhow::Ok(Node::run(config, signals).await?)
    })?;
    Ok(ExitCode::SUCCESS)
}
