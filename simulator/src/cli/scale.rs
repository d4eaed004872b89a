//! `kvarter-sim scale`: what grows with what.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kvarter_simulator::{ScalePlan, parse_duration};
use tokio::task::JoinSet;

use super::{beside_this_program, stop_token};

/// Measure how the cost of a reading grows with devices, and the throughput with shards
///
/// Starts a cluster of three nodes for each figure. Nothing else should run meanwhile.
#[derive(Debug, Args)]
pub(super) struct ScaleArgs {
    /// Kvarter's program; by default the one beside this program, or in PATH
    #[arg(long, value_name = "PATH")]
    kvarter: Option<PathBuf>,
    /// Where the clusters keep their data
    #[arg(long, value_name = "DIR", default_value = ".kvarter/compare")]
    data: PathBuf,
    /// Time of each measured phase
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time of each phase before it is measured
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Numbers of devices, separated by commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "10000,100000,1000000")]
    devices: Vec<usize>,
    /// Readings in a second for these
    #[arg(long, value_name = "READINGS", default_value_t = 20_000.0)]
    rate: f64,
    /// Numbers of shards, separated by commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "4,16,64")]
    shards: Vec<u32>,
    /// Write all that was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Shards where devices vary, as by default; devices where shards vary.
const SHARDS_FIXED: u32 = 16;
const DEVICES_FIXED: usize = 10_000;

impl ScaleArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.rate > 0.0 && self.rate.is_finite(), "the rate must be above zero");
        let plan = ScalePlan {
            kvarter: self.kvarter.map_or_else(beside_this_program, Ok)?,
            dir: self.data,
            duration: self.duration,
            warm_up: self.warm_up,
            devices: self.devices,
            readings_per_s: self.rate,
            shards: self.shards,
            shards_fixed: SHARDS_FIXED,
            devices_fixed: DEVICES_FIXED,
        };
        let mut tasks = JoinSet::new();
        let stop = stop_token(None, &mut tasks)?;
        let mut unwritten = Ok(());
        let mut tell = |news: &str| {
            if unwritten.is_ok() {
                unwritten = writeln!(std::io::stdout(), "{news}");
            }
        };
        let Some(scale) = stop.run_until_cancelled(Box::pin(plan.run(&mut tell))).await else {
            anyhow::bail!("interrupted; nothing was measured to the end");
        };
        let scale = scale?;
        unwritten?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&scale)?;
            std::fs::write(file, text).with_context(|| format!("can not write {}", file.display()))?;
        }
        if let Some(file) = &self.report {
            std::fs::write(file, scale.page()).with_context(|| format!("can not write {}", file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
