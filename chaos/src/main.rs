//! `kvarter-chaos`: makes faults on a cluster that runs on this machine, or on simulated ones, and checks the promises.
mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Simulated nodes complain all the time, and rightly.
    let default = if cli.is_simulated() { "off" } else { "warn,kvarter_chaos=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            // When standard error is gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
