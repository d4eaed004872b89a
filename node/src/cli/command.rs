//! `kvarter command`: orders to devices.

mod all;

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use kvarter_api::v1::{Argument, Command, CommandPriority, CommandState, IssueCommandRequest, Value};
use kvarter_api::{Client, CommandName, DeviceName};

use self::all::SendAll;
use super::call::Call;
use super::failure::explained;
use super::output::Output;
use super::{duration, json, target, value};

#[derive(Debug, clap::Subcommand)]
pub(super) enum CommandCommand {
    /// Send a command to a device
    #[command(after_help = "\
Examples:
  kvarter command send harbour/lamp-1 set_level level=40
  kvarter command send harbour/lamp-1 set_level level=100 --priority emergency --timeout 5s --watch
  kvarter command send harbour/lamp-1 set_level level=40 --id ticket-4711    may be repeated safely

`kvarter kind get KIND` tells which commands a device knows. With --watch the exit code is 1 unless it succeeded.")]
    Send {
        /// DISTRICT/DEVICE, or districts/DISTRICT/devices/DEVICE
        #[arg(value_parser = target::device)]
        device: DeviceName,
        /// Name of the command in the device's kind
        action: String,
        /// Arguments of the command; a value is what it looks like, in double quotes always text
        #[arg(value_name = "NAME=VALUE", value_parser = value::parse_assignment)]
        arguments: Vec<(String, Value)>,
        /// Time until it must have been executed; later it has no effect any more (1s to 24h)
        #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
        timeout: Duration,
        /// Who orders: the higher wins
        #[arg(long, value_enum, default_value_t = Priority::Operator)]
        priority: Priority,
        /// Id of the command, unique for the device: sending it again with the same id is no second command, until an
        /// hour after its end
        #[arg(long)]
        id: Option<String>,
        /// Follow the command to its end
        #[arg(long)]
        watch: bool,
    },
    /// Send one command to every device that matches, wave after wave
    #[command(after_help = "\
Examples:
  kvarter command send-all set_level level=40 --kind luminaire --district harbour --dry-run
  kvarter command send-all set_level level=40 --kind luminaire --where 'dimmingLevel>50' --wave 20 --failures-max 3
  kvarter command send-all set_level level=40 --kind luminaire --near 56.1525,10.2034,250 --id festival-2026

A wave begins when every command of the one before has ended. When it was broken off, the same command with the same --id goes
on, and sends nothing twice within the hour after the first wave has ended. The exit code is 1 unless it is complete and every
command succeeded.")]
    SendAll(SendAll),
    /// Cancel a command that the device's gateway has not taken yet
    #[command(after_help = "\
Examples:
  kvarter command cancel harbour/lamp-1/ticket-4711

Prints what the command is then. The exit code is 1 unless it is cancelled: one that was delivered can not be called back.")]
    Cancel {
        /// DISTRICT/DEVICE/ID, or the name that `kvarter command send` prints
        #[arg(value_parser = target::command)]
        command: CommandName,
    },
    /// Follow a command to its end
    #[command(after_help = "\
Examples:
  kvarter command watch harbour/lamp-1/ticket-4711
  kvarter command watch districts/harbour/devices/lamp-1/commands/ticket-4711 --json

The exit code is 1 unless the command succeeded.")]
    Watch {
        /// DISTRICT/DEVICE/ID, or the name that `kvarter command send` prints
        #[arg(value_parser = target::command)]
        command: CommandName,
    },
}

/// From the highest to the lowest.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Priority {
    Emergency,
    Operator,
    Service,
    Schedule,
    Default,
}

impl From<Priority> for CommandPriority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Emergency => Self::Emergency,
            Priority::Operator => Self::Operator,
            Priority::Service => Self::Service,
            Priority::Schedule => Self::Schedule,
            Priority::Default => Self::Default,
        }
    }
}

impl Call for CommandCommand {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            CommandCommand::Send { device, action, arguments, timeout, priority, id, watch: is_watched } => {
                let arguments = arguments.into_iter().map(|(name, value)| Argument { name, value: Some(value) });
                let request = IssueCommandRequest {
                    device: device.to_string(),
                    action,
                    arguments: arguments.collect(),
                    timeout: Some(prost_types::Duration::try_from(timeout)?),
                    priority: CommandPriority::from(priority).into(),
                    request_id: id.unwrap_or_default(),
                };
                let issued = client.issue_command(request).await.map_err(explained)?;
                if is_watched {
                    return watch(&issued.name.parse()?, client, output).await;
                }
                print(&issued, output)?;
                Ok(ExitCode::SUCCESS)
            }
            CommandCommand::SendAll(order) => order.run(client, output).await,
            CommandCommand::Cancel { command } => {
                let command = client.cancel_command(&command).await.map_err(explained)?;
                print(&command, output)?;
                let is_cancelled = command.state() == CommandState::Cancelled;
                Ok(if is_cancelled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            CommandCommand::Watch { command } => watch(&command, client, output).await,
        }
    }
}

async fn watch(name: &CommandName, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut changes = client.watch_command(name);
    let mut last = CommandState::Unspecified;
    while let Some(command) = changes.next().await.map_err(explained)? {
        last = command.state();
        print(&command, output)?;
    }
    Ok(if last == CommandState::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(command: &Command, output: &mut Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.json(&json::command(command));
    }
    let time = command.state_time.as_ref().map(ToString::to_string).unwrap_or_default();
    let state = json::command_state(command.state()).to_lowercase();
    let arguments = command.arguments.iter();
    let arguments = arguments.map(|one| format!(" {}={}", one.name, value::display(one.value.as_ref())));
    let detail = if command.detail.is_empty() { String::new() } else { format!(": {}", command.detail) };
    let (action, arguments) = (&command.action, arguments.collect::<String>());
    output.line(&format!("{time}  {}  {action}{arguments}  {state}{detail}", target::short(&command.name)))
}
