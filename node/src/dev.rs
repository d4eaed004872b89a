//! `kvarter dev`: a real cluster, by default of three nodes, on this machine, with a city played into it.
//!
//! Start at [`run`]. `home` is the data directory, `fleet` the node processes, `formation` waits for them to become a
//! cluster, `play` plays the city; `session` drives them. `figures` looks at the cluster, `status`, `summary` and `console`
//! show it. This is the only place in this crate that knows the simulator.
mod console;
mod figures;
mod fleet;
mod formation;
mod home;
mod interrupt;
mod play;
mod session;
mod status;
mod summary;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use kvarter_cluster::Ports;
use kvarter_simulator::{ReplaySpan, Speed};
use tokio::task::JoinSet;

use crate::cli::duration;
pub use home::{Authority, Home, HomeOptions, NodeAddresses};
use interrupt::{Interrupts, Signals};
use play::Play;
use session::{Ending, Session};

const EXAMPLES: &str = "\
Examples:
  kvarter dev                                        play a small town until Ctrl-C
  kvarter dev --clean --speed 600                    begin anew, ten minutes in a second
  kvarter dev --for 60s --json                       one minute, then a JSON object for programs
  kvarter dev --idle                                 no town: a cluster for your own load
  kvarter dev --replay data --speed max              real readings, as fast as the cluster can
  kvarter dev --replay data --day 2014-09-02 --json  one day of them, then the figures

Ctrl-C stops in order: what was sent is acknowledged, the nodes drain; a second Ctrl-C kills. The \
next start goes on from the same data. A node's process that ends is reported and started again \
after 10 s: try `kill -9` with an id from fleet.json. While it runs, the other commands of `kvarter` \
find this cluster when they are called from the same directory.

A replay that is over leaves the cluster running until Ctrl-C, unless --json or --for is given: \
then the program ends with it.";

/// Start a cluster of three nodes on this machine and play a city into it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DevArguments {
    /// Where the cluster lives: stores, certificates, logs, and client.toml for other commands
    #[arg(long, value_name = "DIR", default_value = ".kvarter/dev")]
    data: PathBuf,
    /// Remove the data of earlier runs first
    #[arg(long)]
    clean: bool,
    /// End after this time of playing, e.g. 60s, 5m, 1h; the exit code says whether all went well
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    play_time: Option<Duration>,
    /// Print one JSON object with the figures of the run as the last line on standard output
    #[arg(long)]
    json: bool,
    /// Play nothing: the cluster runs for other programs until Ctrl-C
    #[arg(long, conflicts_with_all = ["play_time", "json", "replay", "speed", "seed"])]
    idle: bool,
    /// Play the readings of the Aarhus files in this directory instead of the built-in town
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    /// Replay this day of UTC alone, e.g. 2014-09-02
    #[arg(long, value_name = "DATE", requires = "replay")]
    day: Option<ReplaySpan>,
    /// Simulated seconds in a second, or `max`; the town does not overtake real time
    #[arg(long, value_name = "N", default_value = "60")]
    speed: Speed,
    /// Which town to build
    #[arg(long, value_name = "N", default_value_t = 7, conflicts_with = "replay")]
    seed: u64,
    /// Nodes of a new cluster; an existing one keeps its number
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=home::NODES_MAX))]
    nodes: u64,
    /// Shards of a new cluster; an existing one keeps its number
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Start each node through this program, called with the node's number and the command line: it may put the process
    /// into a namespace or an environment of its own, then becomes it. For drills
    #[arg(long, value_name = "FILE")]
    launcher: Option<PathBuf>,
}

/// Runs until it is interrupted or its time is over. All processes that it started have ended when it returns.
pub async fn run(arguments: DevArguments) -> anyhow::Result<ExitCode> {
    let interrupts = Interrupts::default();
    let mut listeners = JoinSet::new();
    listeners.spawn(Signals::catch()?.forward(interrupts.clone()));

    let random = &*Ports::system().random;
    let DevArguments { clean, nodes, shards, .. } = arguments;
    let options = HomeOptions { clean, nodes, shards, random };
    let home = Home::open(&arguments.data, &options)?;
    home.check_addresses()?;
    let play = match &arguments.replay {
        _ if arguments.idle => None,
        Some(dir) => Some(Play::replay(dir, arguments.day, arguments.speed)?),
        None => Some(Play::town(arguments.seed, arguments.speed, home.clock_file())?),
    };
    let program = std::env::current_exe().context("the program's own file is not known")?;
    let ending = Ending { play_time: arguments.play_time, with_play: arguments.json || arguments.play_time.is_some() };
    let session = Session::start(home, &program, arguments.launcher.as_deref(), ending, interrupts);
    let Some(summary) = Box::pin(session.run(play)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&summary)?)?;
    }
    let faults = summary.faults();
    anyhow::ensure!(faults.is_empty(), "the run failed: {}", faults.join("; "));
    Ok(ExitCode::SUCCESS)
}
