//! `kvarter-chaos drill`: one drill, or all of them.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use kvarter_api::Client;
use kvarter_chaos::{Assault, CutOff, Drill, Fault, Fleet, HostUnable, SUITE, Suite, SuiteOutcome, SuiteRow, Victims};
use kvarter_simulator::{Profile, parse_duration};

#[derive(Debug, Subcommand)]
pub(super) enum DrillCommand {
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
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Cut the power of each node in turn, or of all at once: what was not synced is gone
    ///
    /// Needs disks of the nodes' own, see `stage make`. Where the host can not have the fault, a drill is skipped and says why;
    /// the exit code is 0 then.
    PowerCut {
        /// Cut the power of all nodes at once in each round
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Let every write and sync of the node that leads most shards hang: needs disks of the nodes' own
    Hang {
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Slow the disk of the node that leads most shards down: needs cgroup version 1
    SlowDisk {
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Fill the disk of the node that leads most shards: needs disks of the nodes' own
    ///
    /// In odd rounds a little is free: it must lead nothing meanwhile. In even ones nothing at all is when it starts after
    /// SIGKILL: it must come back on its ballast.
    FullDisk {
        /// Fill the disks of all nodes at once, a little left: what is new must be refused until there is room
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Kill the node that leads most shards, and give it another disk than it left
    ///
    /// In turn: a bit of its log is flipped, its log lacks its end, bits of its checkpoints are flipped, it is empty, it is of another
    /// cluster. With flipped checkpoints it must come back; otherwise it must end, and is then given its own disk back.
    Damage {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Start a second process with the id of the node that leads most shards: it must end, and the node must not
    ///
    /// On an empty disk in odd rounds, on a copy of the node's in even ones.
    Double {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Set the clock of the node that leads most shards wrong, and right again: needs clocks of the nodes' own
    ///
    /// Ten minutes ahead in the first round, ten behind in the second, jumping between both in the third, and so on.
    Clock {
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Cut the node that leads most shards off: needs networks of the nodes' own
    Partition {
        /// From the other nodes alone, so that clients still reach it
        #[arg(long)]
        peers: bool,
        #[command(flatten)]
        lasting: Lasting,
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Send bytes, certificates, messages and values that must be refused
    Garbage {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Send twice and ten times as much as goes through, in turn
    Overload {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Report a reading on which the code for its device panics: needs nodes that are set to, see `stage make`
    ///
    /// The device alone must be quarantined, and its neighbours must not wait longer than before.
    Poison {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// Cut the connections of gateways, open thousands of streams, and read too slowly
    Streams {
        #[command(flatten)]
        args: DrillArgs,
    },
    /// All of them one after the other, in about a quarter of an hour; the number of rounds is each drill's own
    All {
        /// Write the table, with the outages of every strike, to this file as one HTML page
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Only drills whose name contains this, e.g. `partition`
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        #[command(flatten)]
        args: DrillArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct Lasting {
    /// How long it lasts each time, e.g. 10s
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    time: Duration,
}

#[derive(Debug, Args)]
pub(super) struct DrillArgs {
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

impl DrillCommand {
    pub(super) async fn run(self, fleet: &Path) -> anyhow::Result<ExitCode> {
        let (fault, victims, args) = match self {
            Self::Kill { all: false, args } => (Fault::Kill, Victims::EachInTurn, args),
            Self::Kill { all: true, args } => (Fault::Kill, Victims::All, args),
            Self::Pause { lasting, args } => (Fault::Pause(lasting.time), Victims::BusiestLeader, args),
            Self::PowerCut { all: false, args } => (Fault::PowerCut, Victims::EachInTurn, args),
            Self::PowerCut { all: true, args } => (Fault::PowerCut, Victims::All, args),
            Self::Hang { lasting, args } => (Fault::HungDisk(lasting.time), Victims::BusiestLeader, args),
            Self::SlowDisk { lasting, args } => (Fault::SlowDisk(lasting.time), Victims::BusiestLeader, args),
            Self::FullDisk { all: false, lasting, args } => {
                (Fault::FullDisk(lasting.time), Victims::BusiestLeader, args)
            }
            Self::FullDisk { all: true, lasting, args } => (Fault::FullDisk(lasting.time), Victims::All, args),
            Self::Damage { args } => (Fault::Damage, Victims::BusiestLeader, args),
            Self::Double { args } => (Fault::Double, Victims::BusiestLeader, args),
            Self::Clock { lasting, args } => (Fault::Clock(lasting.time), Victims::BusiestLeader, args),
            Self::Partition { peers, lasting, args } => {
                let from = if peers { CutOff::Peers } else { CutOff::Everybody };
                (Fault::Cut(from, lasting.time), Victims::BusiestLeader, args)
            }
            Self::Garbage { args } => (Fault::Assault(Assault::Garbage), Victims::All, args),
            Self::Overload { args } => (Fault::Assault(Assault::Overload), Victims::All, args),
            Self::Poison { args } => (Fault::Assault(Assault::Poison), Victims::All, args),
            Self::Streams { args } => (Fault::Assault(Assault::Streams), Victims::All, args),
            Self::All { report, only, args } => return args.run_all(fleet, only.as_deref(), report.as_deref()).await,
        };
        args.run(fault, victims, fleet).await
    }
}

impl DrillArgs {
    async fn run(&self, fault: Fault, victims: Victims, fleet: &Path) -> anyhow::Result<ExitCode> {
        let fleet = Fleet::open(fleet)?;
        let Self { rounds, devices, rate: readings_per_s, streams: lanes, .. } = *self;
        let drill = Drill { fault, victims, rounds, devices, readings_per_s, lanes };
        if let Some(reason) = drill.unable(&fleet)? {
            return self.skip(&reason);
        }
        let report = Box::pin(drill.run(&self.client().await?, &fleet)).await?;
        self.tell(&report, &report)?;
        Ok(exit_code(report.is_passed))
    }

    async fn run_all(&self, fleet: &Path, only: Option<&str>, page: Option<&Path>) -> anyhow::Result<ExitCode> {
        let begin = Instant::now();
        let fleet = Fleet::open(fleet)?;
        let client = self.client().await?;
        let mut rows = Vec::new();
        for row in SUITE.iter().filter(|row| only.is_none_or(|part| row.name.contains(part))) {
            tracing::info!(drill = row.name, "begins");
            let drill = row.drill(self.devices, self.rate, self.streams);
            let outcome = match drill.unable(&fleet)? {
                Some(reason) => SuiteOutcome::Skipped { reason: reason.to_string() },
                None => match Box::pin(drill.run(&client, &fleet)).await {
                    Ok(report) => SuiteOutcome::Ran(Box::new(report)),
                    Err(error) => SuiteOutcome::Broken { reason: format!("{:#}", anyhow::Error::from(error)) },
                },
            };
            rows.push(SuiteRow { name: row.name.to_owned(), how: row.how.to_owned(), outcome });
            // Written each time: a drill that takes the cluster down must not take the others' rows with it.
            if let Some(page) = page {
                let html = Suite::new(rows.clone(), begin.elapsed()).page();
                std::fs::write(page, html).with_context(|| format!("can not write {}", page.display()))?;
            }
        }
        let suite = Suite::new(rows, begin.elapsed());
        self.tell(&suite, &suite)?;
        Ok(exit_code(suite.is_passed))
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let profile = Profile::load(&self.profile)?;
        let tried = profile.endpoints.join(", ");
        let client = Client::connect(profile.client_config()?).await;
        client.with_context(|| format!("can not reach the cluster at {tried}; is it running?"))
    }

    fn tell(&self, words: &impl std::fmt::Display, figures: &impl serde::Serialize) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(figures)?)?;
        } else {
            writeln!(out, "{words}")?;
        }
        Ok(())
    }

    /// Says that nothing was done: no failure, and no pass either.
    fn skip(&self, reason: &HostUnable) -> anyhow::Result<ExitCode> {
        let words = format!("skipped, because {reason}");
        self.tell(&words, &serde_json::json!({ "is_skipped": true, "reason": reason.to_string() }))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn exit_code(is_passed: bool) -> ExitCode {
    if is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn a_pause_has_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(std::time::Duration::from_secs(10)));
        assert!(parse_duration("10").is_err() && parse_duration("-5s").is_err());
    }
}
