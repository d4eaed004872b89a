//! The command line: arguments, and the way to the command that they name.
//!
//! Each command is a module below `cli/`. Commands that call a cluster are `call::Call`s and share `connection` (whom to
//! call, and as whom), `target` (short names), `value`, `table`, `json` and `output`. Exit codes: 0 done, 1 failed, 2 wrong usage,
//! and 3 for a node that was removed from its cluster.

mod call;
mod cluster;
mod command;
mod connection;
pub(crate) mod duration;
mod failure;
mod feed;
mod history;
mod json;
mod kind;
mod node;
mod output;
mod query;
mod table;
mod target;
mod twin;
mod value;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::dev;
use call::ClientCommand;

const EXAMPLES: &str = "\
Examples:
  kvarter dev                                        three nodes and a small town on this machine
  kvarter cluster status                             nodes, shards and their leaders
  kvarter twin list --kind luminaire                 the city's lamps
  kvarter twin get harbour/lamp-1                    one twin (short for districts/harbour/devices/lamp-1)
  kvarter command send harbour/lamp-1 set_level level=40 --watch
  kvarter feed watch --district harbour --json       what happens there, as JSON lines

Commands that call a cluster find it by --endpoint or the client profile that `kvarter dev` writes.";

/// A city's devices, twins and services on a cluster that survives its nodes.
#[derive(Debug, Parser)]
#[command(name = "kvarter", version, after_help = EXAMPLES, max_term_width = 120, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Run one node of a cluster
    Node(node::NodeArguments),
    /// Start a cluster of three nodes on this machine and play a city into it
    Dev(dev::DevArguments),
    /// Look at the cluster, and remove nodes
    Cluster(ClientCommand<cluster::ClusterCommand>),
    /// Read and steer twins
    Twin(ClientCommand<twin::TwinCommand>),
    /// Send commands to devices and follow them
    Command(ClientCommand<command::CommandCommand>),
    /// Follow what happens in the city
    Feed(ClientCommand<feed::FeedCommand>),
    /// Read and check the files that `feed archive` writes
    History(history::HistoryArguments),
    /// Look into the catalog of device kinds, and remove one
    Kind(ClientCommand<kind::KindCommand>),
}

/// Reads the process's arguments and does what they say.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
            return error.print().map_or(ExitCode::FAILURE, |()| code);
        }
    };
    match dispatch(arguments.subject) {
        Ok(code) => code,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is closed too.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(subject: Subject) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_installed| anyhow::anyhow!("another cryptography provider is installed"))?;
    match subject {
        Subject::Node(arguments) => node::run(arguments),
        Subject::Dev(arguments) => runtime()?.block_on(dev::run(arguments)),
        Subject::Cluster(command) => command.run(),
        Subject::Twin(command) => command.run(),
        Subject::Command(command) => command.run(),
        Subject::Feed(command) => command.run(),
        Subject::History(command) => command.run(),
        Subject::Kind(command) => command.run(),
    }
}

/// The runtime of a command that serves: it may use all processors.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("the runtime can not be started")
}

#[cfg(test)]
mod tests;
