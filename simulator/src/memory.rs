//! What a registered device takes of a node's memory, and what one takes that has something to be told.
//!
//! Start at [`MemoryPlan::run`]. Devices are registered and left alone; then some of them are connected, and each gets a set point
//! that it never reports, so that its actor lives. Nothing else should happen in the cluster meanwhile.
use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::v1::{self, DesiredValue, PatchDesiredRequest, value};
use kvarter_api::{ApiError, Client, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock::wall_clock;
use crate::compare::Tell;
use crate::enroll::{EnrollError, open_attached, register_each};
use crate::resources::{NodeProcesses, Usage, UsageError};

const KIND: &str = "building";
const ATTRIBUTE: &str = "temperatureSetpoint";
const SETPOINT: f64 = 21.0;
const DEVICES_PER_DISTRICT: usize = 1_000;
const DEVICES_PER_STREAM: usize = 2_500;
const CALLS_MAX: usize = 64;
/// Checkpoints and what a burst of calls needed are over by then.
const SETTLING: Duration = Duration::from_secs(20);
const TOLD_MAX: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    pub devices: usize,
    /// Of these, so many are connected and have something to be told.
    pub active: usize,
}

/// Bytes are anonymous memory; each node is taken to have a replica of every shard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryFigures {
    pub devices: usize,
    pub active: usize,
    pub nodes: usize,
    /// Of a registered device that has never reported, in each replica.
    pub idle_bytes: f64,
    /// More of one that is connected, on all nodes together.
    pub connected_bytes: f64,
    /// More of one that has something to be told, on all nodes together: its actor lives at its shard's leader alone.
    pub active_bytes: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("more devices are to be active ({active}) than there are ({devices})")]
    TooManyActive { active: usize, devices: usize },
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("{told} of {active} devices were told their set point within {} s", TOLD_MAX.as_secs())]
    NotTold { told: usize, active: usize },
    #[error("a gateway stream ended")]
    StreamEnded,
}

impl MemoryPlan {
    /// Registers new devices in the cluster of `client`, whose processes are `nodes`; they stay registered.
    pub async fn run(
        &self,
        client: &Client,
        nodes: &NodeProcesses,
        tell: &mut impl Tell,
    ) -> Result<MemoryFigures, MemoryError> {
        let Self { devices, active } = *self;
        if active > devices {
            return Err(MemoryError::TooManyActive { active, devices });
        }
        let run = format!("{:x}", wall_clock().as_microsecond());
        let name = |number: usize| format!("districts/memory-{run}-{}/devices/{number}", number / DEVICES_PER_DISTRICT);
        let before = settled(nodes).await?;
        let device = |number| v1::Device { name: name(number), kind: KIND.to_owned(), ..v1::Device::default() };
        register_each(client, (0..devices).map(device)).await?;
        let registered = settled(nodes).await?;
        let idle_bytes = per(registered - before, devices) / precise(nodes.current()?.len());
        tell.tell(&format!("{devices} registered devices: {idle_bytes:.0} bytes each in a replica"));

        let names: Vec<String> = (0..active).map(name).collect();
        let mut streams = Vec::new();
        for names in names.chunks(DEVICES_PER_STREAM) {
            let (stream, events, _shards) = open_attached(client, GatewayOptions::default(), names).await?;
            streams.push((stream, events));
        }
        let connected = settled(nodes).await?;
        let connected_bytes = per(connected - registered, active);
        tell.tell(&format!("{active} of them connected: {connected_bytes:.0} bytes more each"));

        let mut listening = JoinSet::new();
        for ((stream, events), names) in streams.into_iter().zip(names.chunks(DEVICES_PER_STREAM)) {
            listening.spawn(all_told(stream, events, names.len()));
        }
        order(client, names).await?;
        // Each stream is held until all is measured.
        let mut held = Vec::new();
        while let Some(told) = listening.join_next().await {
            held.push(told.expect("a listener does not panic and is not aborted")?);
        }
        let active_bytes = per(settled(nodes).await? - connected, active);
        tell.tell(&format!("{active} of them active: {active_bytes:.0} bytes more each"));
        drop(held);
        let nodes = nodes.current()?.len();
        Ok(MemoryFigures { devices, active, nodes, idle_bytes, connected_bytes, active_bytes })
    }
}

/// Anonymous memory of all nodes together, once it has settled.
async fn settled(nodes: &NodeProcesses) -> Result<f64, MemoryError> {
    sleep(SETTLING).await;
    let of = |node: crate::resources::NodeProcess| Ok(Usage::of(node.pid)?.anonymous_bytes);
    let bytes: Vec<u64> = nodes.current()?.into_iter().map(of).collect::<Result<_, UsageError>>()?;
    Ok(bytes.into_iter().map(|bytes| precise(usize::try_from(bytes).unwrap_or(usize::MAX))).sum())
}

/// Gives each device a set point.
async fn order(client: &Client, names: Vec<String>) -> Result<(), MemoryError> {
    let (mut waiting, mut calls) = (names.into_iter(), JoinSet::new());
    loop {
        while calls.len() < CALLS_MAX
            && let Some(name) = waiting.next()
        {
            let client = client.clone();
            let value = v1::Value { kind: Some(value::Kind::Number(SETPOINT)) };
            let set = vec![DesiredValue { attribute: ATTRIBUTE.to_owned(), value: Some(value) }];
            let request = PatchDesiredRequest { name, set, ..PatchDesiredRequest::default() };
            calls.spawn(async move { client.patch_desired(request).await });
        }
        let Some(ended) = calls.join_next().await else { return Ok(()) };
        ended.expect("a call does not panic and is not aborted")?;
    }
}

/// Waits until so many devices of a stream were told a set point, and returns the stream.
async fn all_told(
    stream: GatewayStream,
    mut events: GatewayEvents,
    devices: usize,
) -> Result<(GatewayStream, GatewayEvents), MemoryError> {
    let mut told = BTreeSet::new();
    let listening = async {
        while told.len() < devices {
            match events.next().await {
                Some(GatewayEvent::Desired(desired)) => {
                    told.insert(desired.alias);
                }
                Some(GatewayEvent::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Err(MemoryError::StreamEnded),
            }
        }
        Ok(())
    };
    match timeout(TOLD_MAX, listening).await {
        Ok(heard) => heard.map(|()| (stream, events)),
        Err(_elapsed) => Err(MemoryError::NotTold { told: told.len(), active: devices }),
    }
}

fn per(bytes: f64, devices: usize) -> f64 {
    bytes / precise(devices.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn precise(count: usize) -> f64 {
    count as f64
}
