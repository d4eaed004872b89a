//! A command that calls a cluster: its connection, the form of its results, and what it asks for.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use kvarter_api::Client;

use super::connection::ConnectionArguments;
use super::output::Output;

/// Something to ask a cluster for.
pub(super) trait Call {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode>;
}

#[derive(Debug, Args)]
pub(super) struct ClientCommand<C: Subcommand> {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// Print JSON for programs: one object, or one per line where there are many
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    call: C,
}

impl<C: Subcommand + Call> ClientCommand<C> {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.connection.connect().await?;
            self.call.run(&client, &mut Output::new(self.json)).await
        })
    }
}
