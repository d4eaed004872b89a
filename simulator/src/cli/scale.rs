//! `kvarter-sim scale`: what grows with what.
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use kvarter_simulator::{ScalePlan, parse_duration};

use super::beside_this_program;
use super::measurement::{News, uninterrupted, write_file};

/// Measure how the cost of a reading grows with devices, and the throughput with nodes and shards
///
/// Starts a cluster for each figure. Nothing else should run meanwhile. An empty list leaves its part out: `--devices=`.
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
    #[arg(long, value_name = "N,…", default_value = "10000,100000,1000000")]
    devices: Numbers<usize>,
    /// Readings in a second for these
    #[arg(long, value_name = "READINGS", default_value_t = 20_000.0)]
    rate: f64,
    /// Numbers of nodes, separated by commas, at most 7
    #[arg(long, value_name = "N,…", default_value = "1,3,5")]
    nodes: Numbers<u32>,
    /// Numbers of shards, separated by commas
    #[arg(long, value_name = "N,…", default_value = "4,16,64")]
    shards: Numbers<u32>,
    /// Write all that was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one HTML page with plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// A list on the command line, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers<N>(Vec<N>);

impl<N: FromStr> FromStr for Numbers<N> {
    type Err = N::Err;

    fn from_str(text: &str) -> Result<Self, N::Err> {
        let numbers = text.split(',').filter(|number| !number.is_empty()).map(str::parse);
        Ok(Self(numbers.collect::<Result<_, _>>()?))
    }
}

/// Nodes and shards are those of a development cluster.
const NODES_FIXED: u32 = 3;
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
            devices: self.devices.0,
            readings_per_s: self.rate,
            nodes: self.nodes.0,
            shards: self.shards.0,
            nodes_fixed: NODES_FIXED,
            shards_fixed: SHARDS_FIXED,
            devices_fixed: DEVICES_FIXED,
        };
        let mut news = News::new();
        let scale = uninterrupted(plan.run(&mut news)).await?;
        news.end()?;
        write_file(self.json.as_deref(), || Ok(serde_json::to_string_pretty(&scale)?))?;
        write_file(self.report.as_deref(), || Ok(scale.page()))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_empty() {
        assert_eq!("1,3,5".parse(), Ok(Numbers(vec![1, 3, 5])));
        assert_eq!("".parse(), Ok(Numbers::<u32>(Vec::new())));
        assert!("1,x".parse::<Numbers<u32>>().is_err());
    }
}
