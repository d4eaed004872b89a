//! `kvarter-chaos stage`: what a cluster needs under it before its first start.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use kvarter_chaos::{HostUnable, Stage};

use super::DATA_DIR;

#[derive(Debug, Subcommand)]
pub(super) enum StageCommand {
    /// Make what this host can, before the cluster is started there for the first time, and say how to start it
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
    /// Take it all down again, the disks with all that is on them; the cluster must have been stopped
    Remove {
        /// Where the cluster lived
        #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
        data: PathBuf,
    },
}

impl StageCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout();
        match self {
            Self::Make { data, nodes, size } => {
                let parts = Stage::of(&data).make(nodes, size << 30).await?;
                for (what, made) in [("disks", &parts.disks), ("networks", &parts.networks), ("clocks", &parts.clocks)]
                {
                    writeln!(out, "{what}: {}", made.as_ref().map_or_else(skipped, |()| "made".to_owned()))?;
                }
                writeln!(out, "poison: made")?;
                let (data, launcher) = (data.display(), parts.launcher.display());
                writeln!(out, "start the cluster with: kvarter dev --idle --data {data} --launcher {launcher}")?;
            }
            Self::Remove { data } => {
                Stage::of(&data).remove().await?;
                writeln!(out, "nothing is left of the stage in {}", data.display())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn skipped(reason: &HostUnable) -> String {
    format!("skipped, because {reason}")
}
