//! `kvarter-sim memory`: what devices take of the nodes' memory.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kvarter_simulator::{MemoryPlan, NodeProcesses};

use super::ConnectionArgs;
use super::measurement::{News, uninterrupted, write_file};

/// Measure what registered devices, connected ones and those with something to be told take of the nodes' memory
///
/// Registers devices in a cluster that has nothing to do, e.g. `kvarter dev --idle`; they stay registered.
#[derive(Debug, Args)]
pub(super) struct MemoryArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Devices to register
    #[arg(long, default_value_t = 100_000)]
    devices: usize,
    /// How many of them are connected and get a set point that they never report
    #[arg(long, default_value_t = 20_000)]
    active: usize,
    /// Where `kvarter dev` tells the nodes' processes; by default beside the profile
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Write all that was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl MemoryArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.connect().await?;
        let fleet = self.fleet.unwrap_or_else(|| self.connection.profile.with_file_name("fleet.json"));
        let nodes = NodeProcesses::open(&fleet)?;
        let plan = MemoryPlan { devices: self.devices, active: self.active };
        let mut news = News::new();
        let figures = uninterrupted(plan.run(&client, &nodes, &mut news)).await?;
        news.end()?;
        write_file(self.json.as_deref(), || Ok(serde_json::to_string_pretty(&figures)?))?;
        Ok(ExitCode::SUCCESS)
    }
}
