//! The command line of `kvarter-sim`. Each subcommand has its own file.
mod compare;
mod compare_data;
mod count;
mod load;
mod measurement;
mod memory;
mod merit;
mod run;
mod scale;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;
use kvarter_api::Client;
use kvarter_simulator::{Profile, ReplaySpan};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Plays a simulated or recorded city into a Kvarter cluster, or puts load on it.
///
/// Start a cluster with `kvarter dev`; in the same directory all commands then work without further options.
#[derive(Debug, Parser)]
#[command(name = "kvarter-sim", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Load(load::LoadArgs),
    Compare(compare::CompareArgs),
    Scale(scale::ScaleArgs),
    Memory(memory::MemoryArgs),
    Merit(merit::MeritArgs),
    Count(count::CountArgs),
    CompareData(compare_data::CompareDataArgs),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => args.run().await,
            Command::Load(args) => args.run().await,
            Command::Compare(args) => args.run().await,
            Command::Scale(args) => args.run().await,
            Command::Memory(args) => args.run().await,
            Command::Merit(args) => args.run().await,
            Command::Count(args) => args.run(),
            Command::CompareData(args) => args.run(),
        }
    }
}

/// How to reach the cluster.
#[derive(Debug, Args)]
struct ConnectionArgs {
    /// File with the keys `endpoints`, `ca`, `certificate` and `key`; `kvarter dev` writes one
    #[arg(long, value_name = "FILE", default_value = Profile::DEFAULT_FILE, env = "KVARTER_PROFILE")]
    profile: PathBuf,
    /// Nodes to use in place of the profile's, `host:port`, separated by commas
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    endpoints: Vec<String>,
}

impl ConnectionArgs {
    async fn connect(&self) -> anyhow::Result<Client> {
        let mut profile = Profile::load(&self.profile)?;
        if !self.endpoints.is_empty() {
            profile.endpoints.clone_from(&self.endpoints);
        }
        let tried = profile.endpoints.join(", ");
        let client = Client::connect(profile.client_config()?).await;
        client.with_context(|| format!("can not reach the cluster at {tried}; is it running?"))
    }
}

/// Which part of the recorded readings.
#[derive(Debug, Args)]
struct SpanArgs {
    /// One day of UTC, e.g. 2014-09-02
    #[arg(long, value_name = "DATE", conflicts_with_all = ["from", "to"])]
    day: Option<Date>,
    /// First day of UTC
    #[arg(long, value_name = "DATE", requires = "to")]
    from: Option<Date>,
    /// Last day of UTC
    #[arg(long, value_name = "DATE", requires = "from")]
    to: Option<Date>,
}

impl SpanArgs {
    /// None: all days of the traffic file.
    fn span(&self) -> anyhow::Result<Option<ReplaySpan>> {
        let (Some(first), Some(last)) = (self.day.or(self.from), self.day.or(self.to)) else { return Ok(None) };
        let span = ReplaySpan::days(first, last);
        Ok(Some(span.with_context(|| format!("{first} to {last} is no span of days"))?))
    }
}

/// A token that SIGINT and SIGTERM cancel, and `after` too when it is given. The task lives as long as the program.
fn stop_token(after: Option<Duration>, tasks: &mut tokio::task::JoinSet<()>) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tasks.spawn(async move {
        let timer = async {
            match after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = timer => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// `kvarter` in the directory of this program, where a build leaves both, or else in PATH.
fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the program's own file is not known")?;
    let beside = own.with_file_name("kvarter");
    Ok(if beside.exists() { beside } else { PathBuf::from("kvarter") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_day_goes_from_midnight_to_midnight() {
        let day: Date = "2014-09-02".parse().unwrap();
        let span = SpanArgs { day: Some(day), from: None, to: None }.span().unwrap().unwrap();
        assert_eq!(span.from, "2014-09-02T00:00:00Z".parse().unwrap());
        assert_eq!(span.to, "2014-09-03T00:00:00Z".parse().unwrap());
        let backwards = SpanArgs { day: None, from: Some(day), to: Some(day.yesterday().unwrap()) };
        assert!(backwards.span().is_err());
    }
}
