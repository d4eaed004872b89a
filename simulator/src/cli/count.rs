//! `kvarter-sim count`: what a cluster must count after a replay, told from the files alone.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kvarter_simulator::{FileTally, World};

use super::SpanArgs;

/// Count the readings of a replay and foretell their outcomes, without a cluster
#[derive(Debug, Args)]
pub(super) struct CountArgs {
    /// Directory with the files of Aarhus
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    span: SpanArgs,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

impl CountArgs {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let world = World::replay(&self.dir, self.span.span()?)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(world.tallies())?)?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(out, "{:<28}{:>9}{:>10}{:>10}{:>7}{:>11}", "file", "rows", "readings", "stored", "late", "duplicate")?;
        for FileTally { file, rows, readings, stored, late, duplicate } in world.tallies() {
            writeln!(out, "{file:<28}{rows:>9}{readings:>10}{stored:>10}{late:>7}{duplicate:>11}")?;
        }
        writeln!(out, "{} devices", world.devices().len())?;
        Ok(ExitCode::SUCCESS)
    }
}
