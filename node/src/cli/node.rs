//! `kvarter node`: one node of a cluster, until a signal.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::config::SAMPLE;
use crate::node::NodeError;
use crate::{Config, Node, StopSignals};

const EXAMPLES: &str = "\
Examples:
  kvarter node --print-sample > node.toml            every setting with its meaning and default
  kvarter node --config node.toml
  KVARTER_NODE__ID=2 kvarter node --config node.toml a setting from the environment wins

SIGTERM and SIGINT drain the node: it turns unready, sends its streams and leaderships away, and exits with 0.
A second signal stops it at once.

A node that is in `cluster.initial` forms the cluster with the others there. Any other asks the members in `cluster.join` to
be admitted, under an id that no node ever had; it is then given replicas. Remove a node with `kvarter cluster node remove ID`:
when it hears that it was removed, it ends with exit code 3, and does so at every later start.

Exit codes:
  0  drained after a signal
  1  it could not start, or could not go on: standard error says why
  2  the arguments are wrong
  3  it was removed from its cluster: starting it again is of no use
  4  the cluster refuses it, for its disk, its certificate, its id, its version, or since another process is this node: starting
     it again as it is is of no use";

/// What tells a supervisor that starting the node again is of no use.
const REMOVED: u8 = 3;
const REFUSED: u8 = 4;

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
    std::panic::set_hook(Box::new(tell_panic));
    let ended = super::runtime()?.block_on(async {
        let signals = StopSignals::listen(arguments.stop_with_stdin).context("signals can not be received")?;
        anyhow::Ok(Node::run(config, signals).await)
    })?;
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match exit_code(&error) {
            Some(code) => {
                writeln!(std::io::stderr(), "error: {error}")?;
                Ok(ExitCode::from(code))
            }
            None => Err(error.into()),
        },
    }
}

/// The exit code of a node that need not be started again; `None` for others.
fn exit_code(error: &NodeError) -> Option<u8> {
    match error {
        NodeError::Removed { .. } => Some(REMOVED),
        NodeError::Refused { .. } => Some(REFUSED),
        NodeError::Telemetry(_)
        | NodeError::Tls(_)
        | NodeError::Listen { .. }
        | NodeError::Cluster(_)
        | NodeError::ApiStopped { .. } => None,
    }
}

/// One line for a panic, without a backtrace: finding the names of one takes so long that a device whose code panics would hold
/// up its neighbours.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    if kvarter_actors::is_panic_told() {
        return;
    }
    if tracing::dispatcher::has_been_set() {
        tracing::error!(%panic, "a panic");
    } else {
        // There is nowhere to tell that this failed.
        drop(writeln!(std::io::stderr(), "{panic}"));
    }
}

#[cfg(test)]
mod tests {
    use kvarter_cluster::{NodeId, StartError};

    use super::*;

    #[test]
    fn whoever_is_not_wanted_ends_with_the_exit_code_that_help_tells() {
        let codes = [
            (StartError::Removed { node: NodeId(4) }, Some(3)),
            (StartError::Refused { reason: "another disk".to_owned() }, Some(4)),
            (StartError::TooOld { cluster: 9 }, Some(4)),
            (StartError::Raft { reason: "a timeout".to_owned() }, None),
        ];
        for (error, code) in codes {
            let text = error.to_string();
            assert_eq!(exit_code(&NodeError::from(error)), code, "{text}");
            assert!(code.is_none_or(|code| EXAMPLES.contains(&format!("\n  {code}  "))), "{code:?}");
        }
    }
}
