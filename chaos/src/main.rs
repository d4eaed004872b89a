//! `kvarter-chaos`: makes faults on a cluster that runs on this machine, or on simulated ones, and checks the promises.
mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("warn,kvarter_chaos=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    let journal = cli.journal();
    let outcome = tokio::select! {
        outcome = Box::pin(cli.run()) => outcome,
        _ = tokio::signal::ctrl_c() => match cli::heal(&journal).await {
            Ok(_) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error.context("interrupted, and what was done can not be undone")),
        },
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // When standard error is gone there is nobody left to tell.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
