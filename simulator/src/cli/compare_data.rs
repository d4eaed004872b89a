//! `kvarter-sim compare-data`: the simulated city held against measured ones.
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use kvarter_simulator::Fidelity;

/// Draw simulated beside measured figures, with their distance, on one HTML page
#[derive(Debug, Args)]
pub(super) struct CompareDataArgs {
    /// Directory with the measured files
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "fidelity.html")]
    out: PathBuf,
    /// City to simulate
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated days of each kind of device
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=366))]
    days: u32,
}

impl CompareDataArgs {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let fidelity = Fidelity::of(&self.dir, self.seed, self.days)?;
        std::fs::write(&self.out, fidelity.page()).with_context(|| format!("can not write {}", self.out.display()))?;
        let mut out = std::io::stdout().lock();
        for fit in &fidelity.fits {
            writeln!(out, "{:<32}{:>7.3}  {}", fit.title, fit.distance, fit.file)?;
        }
        writeln!(out, "{}", self.out.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
