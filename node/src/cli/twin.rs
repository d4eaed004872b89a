//! `kvarter twin`: reads and steers twins.

use std::process::ExitCode;
use std::time::Duration;

use kvarter_api::v1::{DesiredValue, PatchDesiredRequest, Twin, Value};
use kvarter_api::{Client, DeviceName, DistrictName, TwinSelection};
use serde_json::json;

use super::call::Call;
use super::failure::explained;
use super::output::Output;
use super::query::Query;
use super::table::Table;
use super::{duration, json, target, value};

#[derive(Debug, clap::Subcommand)]
pub(super) enum TwinCommand {
    /// Show one twin
    #[command(after_help = "\
Examples:
  kvarter twin get harbour/lamp-1
  kvarter twin get harbour/lamp-1 --stale 2s --json | jq .reported.dimmingLevel.value")]
    Get {
        /// DISTRICT/DEVICE, or districts/DISTRICT/devices/DEVICE
        #[arg(value_parser = target::device)]
        device: DeviceName,
        /// Take the answer of any replica that is at most this old, e.g. 2s; without it the answer is up to date
        #[arg(long, value_name = "AGE", value_parser = duration::parse)]
        stale: Option<Duration>,
    },
    /// List twins
    #[command(after_help = "\
Examples:
  kvarter twin list
  kvarter twin list harbour --kind luminaire
  kvarter twin list --district harbour --kind luminaire --where 'dimmingLevel>50' --where powerState=on
  kvarter twin list --kind luminaire --near 56.1525,10.2034,250
  kvarter twin list --box 56.14,10.18,56.16,10.22
  kvarter twin list --json | jq -r .device.name")]
    List {
        /// Only this district, as with --district
        #[arg(value_name = "DISTRICT", value_parser = target::district, conflicts_with = "district")]
        place: Option<DistrictName>,
        #[command(flatten)]
        query: Query,
        /// At most so many
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        /// Take the answers of any replicas that are at most this old, e.g. 2s
        #[arg(long, value_name = "AGE", value_parser = duration::parse)]
        stale: Option<Duration>,
    },
    /// Change what a device ought to report
    #[command(after_help = "\
Examples:
  kvarter twin set harbour/lamp-1 dimmingLevel=40
  kvarter twin set harbour/lamp-1 --clear dimmingLevel --if-version 17

A value is what it looks like: true, 40, 2.5, 56.16,10.2 (a place), or text; in double quotes it is always text.
`kvarter kind get KIND` tells which attributes are writable.")]
    Set {
        /// DISTRICT/DEVICE, or districts/DISTRICT/devices/DEVICE
        #[arg(value_parser = target::device)]
        device: DeviceName,
        /// Attributes to set
        #[arg(value_name = "ATTRIBUTE=VALUE", value_parser = value::parse_assignment, required_unless_present = "clear")]
        set: Vec<(String, Value)>,
        /// Attributes that are no longer desired
        #[arg(long, value_name = "ATTRIBUTE")]
        clear: Vec<String>,
        /// Only when the twin has this version
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
}

impl Call for TwinCommand {
    async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            TwinCommand::Get { device, stale } => get(&device, stale.unwrap_or_default(), client, output).await?,
            TwinCommand::List { place, query, limit, stale } => {
                let selection = TwinSelection {
                    filter: query.filter(),
                    district: place.or(query.district),
                    kind: query.kind,
                    staleness_max: stale.unwrap_or_default(),
                };
                list(selection, limit.unwrap_or(usize::MAX), client, output).await?;
            }
            TwinCommand::Set { device, set, clear, if_version } => {
                let set = set.into_iter().map(|(attribute, value)| DesiredValue { attribute, value: Some(value) });
                let request = PatchDesiredRequest {
                    name: device.to_string(),
                    set: set.collect(),
                    clear,
                    if_version: if_version.unwrap_or_default(),
                };
                let answer = client.patch_desired(request).await.map_err(explained)?;
                if output.is_json() {
                    let position = json::position(answer.position.as_ref());
                    output.json(&json!({ "version": answer.version, "position": position }))?;
                } else {
                    output.line(&format!("the twin has version {} now", answer.version))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn get(device: &DeviceName, stale: Duration, client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let answer = client.twin(device, stale).await.map_err(explained)?;
    let twin = answer.twin.unwrap_or_default();
    if output.is_json() {
        let mut shown = json::twin(&twin);
        shown["age_ms"] = answer.age_ms.into();
        shown["position"] = json::position(answer.position.as_ref());
        output.json(&shown)?;
        return Ok(());
    }
    output.line(&summary(&twin, answer.age_ms))?;
    let mut table = Table::new(&["ATTRIBUTE", "REPORTED", "QUALITY", "OBSERVED", "DESIRED"]);
    for one in &twin.reported {
        let desired = twin.desired.iter().find(|desired| desired.attribute == one.attribute);
        table.row([
            one.attribute.clone(),
            value::display(one.value.as_ref()),
            json::quality(one.quality()).to_lowercase(),
            one.observe_time.as_ref().map(ToString::to_string).unwrap_or_default(),
            value::display(desired.and_then(|desired| desired.value.as_ref())),
        ]);
    }
    let is_reported = |desired: &&DesiredValue| twin.reported.iter().any(|one| one.attribute == desired.attribute);
    for one in twin.desired.iter().filter(|desired| !is_reported(desired)) {
        let empty = String::new;
        table.row([one.attribute.clone(), empty(), empty(), empty(), value::display(one.value.as_ref())]);
    }
    output.table(&table)?;
    for command in &twin.open_commands {
        output.line(&format!("open command: {}", target::short(command)))?;
    }
    Ok(())
}

fn summary(twin: &Twin, age_ms: u32) -> String {
    let device = twin.device.clone().unwrap_or_default();
    let is_connected = twin.connectivity.as_ref().is_some_and(|connectivity| connectivity.connected);
    let connected = if is_connected { "connected" } else { "not connected" };
    let age = if age_ms == 0 { String::new() } else { format!(", at most {age_ms} ms old") };
    format!("{} ({}), {connected}, version {}{age}\n", target::short(&device.name), device.kind, twin.version)
}

async fn list(selection: TwinSelection, limit: usize, client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let mut pages = client.twins(selection);
    let mut left = limit;
    let mut table = Table::new(&["DEVICE", "KIND", "CONNECTED", "VERSION", "REPORTED"]);
    while left > 0 {
        let Some(twins) = pages.next().await.map_err(explained)? else { break };
        for twin in twins.iter().take(left) {
            if output.is_json() {
                output.json(&json::twin(twin))?;
            } else {
                list_row(twin, &mut table);
            }
        }
        left = left.saturating_sub(twins.len());
    }
    if !output.is_json() {
        output.table(&table)?;
    }
    Ok(())
}

fn list_row(twin: &Twin, table: &mut Table) {
    let device = twin.device.clone().unwrap_or_default();
    let is_connected = twin.connectivity.as_ref().is_some_and(|connectivity| connectivity.connected);
    let reported = twin.reported.iter().map(|one| format!("{}={}", one.attribute, value::display(one.value.as_ref())));
    table.row([
        target::short(&device.name),
        device.kind,
        if is_connected { "yes" } else { "no" }.to_owned(),
        twin.version.to_string(),
        reported.collect::<Vec<_>>().join(" "),
    ]);
}
