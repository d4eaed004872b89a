//! `kvarter kind`: the catalog of device kinds.

use std::process::ExitCode;

use kvarter_api::Client;
use kvarter_api::v1::{Attribute, Kind};
use serde_json::json;

use super::call::Call;
use super::failure::explained;
use super::output::Output;
use super::table::Table;
use super::{json, value};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KindCommand {
    /// List the kinds of devices
    List,
    /// Show what a kind reports and which commands it knows
    #[command(after_help = "\
Examples:
  kvarter kind get luminaire
  kvarter kind get luminaire --json | jq '.attributes[] | select(.writable)'")]
    Get {
        /// Name of the kind
        kind: String,
    },
    /// Remove a kind that no device is of
    #[command(after_help = "\
Examples:
  kvarter kind delete bench

A kind that devices are of is not removed, and how many there are is told. While they are counted, none can be registered.")]
    Delete {
        /// Name of the kind
        kind: String,
    },
}

impl Call for KindCommand {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            KindCommand::List => list(&client.kinds().await.map_err(explained)?, output)?,
            KindCommand::Get { kind } => {
                let kind = client.kind(&kind).await.map_err(explained)?;
                if output.is_json() { output.json(&json::kind(&kind))? } else { print(&kind, output)? }
            }
            KindCommand::Delete { kind } => {
                client.delete_kind(&kind).await.map_err(explained)?;
                if output.is_json() {
                    output.json(&json!({ "kind": kind, "removed": true }))?;
                } else {
                    output.line(&format!("kind {kind} is removed"))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(kinds: &[Kind], output: &mut Output) -> std::io::Result<()> {
    if output.is_json() {
        return kinds.iter().try_for_each(|kind| output.json(&json::kind(kind)));
    }
    let mut table = Table::new(&["KIND", "ATTRIBUTES", "COMMANDS", "DESCRIPTION"]);
    for kind in kinds {
        let commands = kind.commands.iter().map(|command| command.name.as_str()).collect::<Vec<_>>().join(",");
        table.row([kind.name.clone(), kind.attributes.len().to_string(), commands, kind.description.clone()]);
    }
    output.table(&table)
}

fn print(kind: &Kind, output: &mut Output) -> std::io::Result<()> {
    output.line(&format!("{}: {}\nnames from {}\n", kind.name, kind.description, kind.source))?;
    let mut attributes = Table::new(&["NO", "ATTRIBUTE", "TYPE", "UNIT", "ALLOWED", "WRITABLE", "SAFE", "DESCRIPTION"]);
    for one in &kind.attributes {
        attributes.row([
            one.number.to_string(),
            one.name.clone(),
            json::value_type(one.r#type()).to_lowercase(),
            one.unit.clone(),
            allowed(one),
            if one.writable { "yes" } else { "no" }.to_owned(),
            value::display(kind.safe_state.get(&one.name)),
            one.description.clone(),
        ]);
    }
    output.table(&attributes)?;
    for command in &kind.commands {
        output.line(&format!("\ncommand {}: {}", command.name, command.description))?;
        for one in &command.arguments {
            let kind = json::value_type(one.r#type()).to_lowercase();
            output.line(&format!("  {} ({kind} {}) {}", one.name, allowed(one), one.description))?;
        }
    }
    Ok(())
}

/// The values or the range of an attribute.
fn allowed(attribute: &Attribute) -> String {
    if !attribute.values.is_empty() {
        return attribute.values.join("|");
    }
    match (attribute.minimum, attribute.maximum) {
        (None, None) => String::new(),
        (minimum, maximum) => {
            let bound = |bound: Option<f64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
            format!("{}..{}", bound(minimum), bound(maximum))
        }
    }
}
