//! `kvarter command send-all`: one order to every device that a query means.

use std::process::ExitCode;
use std::time::Duration;

use kvarter_api::Client;
use kvarter_api::v1::issue_commands_progress::State;
use kvarter_api::v1::{Argument, CommandPriority, IssueCommandsProgress, IssueCommandsRequest, IssuedCommand, Value};
use serde_json::json;

use super::super::failure::explained;
use super::super::output::Output;
use super::super::query::Query;
use super::super::{duration, json, target, value};
use super::Priority;

#[derive(Debug, clap::Args)]
pub(crate) struct SendAll {
    /// Name of the command in the devices' kind
    action: String,
    /// Arguments of the command; a value is what it looks like, in double quotes always text
    #[arg(value_name = "NAME=VALUE", value_parser = value::parse_assignment)]
    arguments: Vec<(String, Value)>,
    #[command(flatten)]
    query: Query,
    /// Time until a command must have been executed, from its own wave on (1s to 24h)
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
    timeout: Duration,
    /// Who orders: the higher wins
    #[arg(long, value_enum, default_value_t = Priority::Operator)]
    priority: Priority,
    /// Devices of a wave; the next one begins when all of them have ended
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    wave: u32,
    /// Halt when more commands than this have failed, expired or were refused
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    failures_max: u32,
    /// Id of the order: sending it again with the same id goes on where it broke off
    #[arg(long)]
    id: Option<String>,
    /// Issue nothing, and show which devices the waves would have
    #[arg(long)]
    dry_run: bool,
}

impl SendAll {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        let arguments = self.arguments.into_iter().map(|(name, value)| Argument { name, value: Some(value) });
        let request = IssueCommandsRequest {
            filter: Some(self.query.filter()),
            parent: self.query.district.map_or_else(|| "districts/-".to_owned(), String::from),
            kind: self.query.kind.unwrap_or_default(),
            action: self.action,
            arguments: arguments.collect(),
            timeout: Some(prost_types::Duration::try_from(self.timeout)?),
            priority: CommandPriority::from(self.priority).into(),
            request_id: self.id.unwrap_or_default(),
            wave_size: self.wave,
            failures_max: self.failures_max,
            dry_run: self.dry_run,
        };
        let mut waves = client.issue_commands(request);
        if !output.is_json() {
            output.line(&format!("order {}", waves.request_id()))?;
        }
        let mut last = IssueCommandsProgress::default();
        while let Some(wave) = waves.next().await.map_err(explained)? {
            print(&wave, waves.request_id(), output)?;
            last = wave;
        }
        let totals = last.totals.unwrap_or_default();
        let is_clean = totals.failed + totals.expired + totals.refused == 0;
        Ok(if last.state() == State::Completed && is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(wave: &IssueCommandsProgress, id: &str, output: &mut Output) -> std::io::Result<()> {
    let totals = wave.totals.unwrap_or_default();
    let state = wave.state().as_str_name().to_lowercase();
    if output.is_json() {
        let commands = wave.commands.iter().map(|issued| {
            let command = issued.command.as_ref().map(json::command);
            json!({ "device": issued.device, "command": command, "error": issued.error })
        });
        return output.json(&json!({
            "id": id,
            "wave": wave.wave,
            "state": wave.state().as_str_name(),
            "commands": commands.collect::<Vec<_>>(),
            "totals": {
                "devices": totals.devices,
                "succeeded": totals.succeeded,
                "failed": totals.failed,
                "expired": totals.expired,
                "cancelled": totals.cancelled,
                "refused": totals.refused,
            },
        }));
    }
    for issued in &wave.commands {
        output.line(&format!("  {}  {}", target::short(&issued.device), outcome(issued)))?;
    }
    output.line(&format!(
        "wave {}, {state}: {} devices, {} succeeded, {} failed, {} expired, {} cancelled, {} refused",
        wave.wave, totals.devices, totals.succeeded, totals.failed, totals.expired, totals.cancelled, totals.refused
    ))
}

fn outcome(issued: &IssuedCommand) -> String {
    match &issued.command {
        Some(command) if command.detail.is_empty() => json::command_state(command.state()).to_lowercase(),
        Some(command) => format!("{}: {}", json::command_state(command.state()).to_lowercase(), command.detail),
        None if issued.error.is_empty() => "would be sent it".to_owned(),
        None => format!("refused: {}", issued.error),
    }
}
