//! How the cost of a reading grows with the devices that are registered, and the throughput with nodes and shards.
//!
//! Start at [`ScalePlan::run`]. Every figure is of a fresh cluster on this machine, of three nodes where their number is not
//! what varies, driven by the clients of the comparison. Nodes on one machine share its processors and its disk: more of them
//! show what they cost, not what they would bring on machines of their own.
mod page;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::compare::drive::Pace;
use crate::compare::kvarter::{ClusterSize, KvarterCluster};
use crate::compare::system::{Clients, System};
use crate::compare::turn::measure;
use crate::compare::{CompareError, Payload, PhaseFigures, RequestShape, Tell};
use crate::resources::Usage;

const CLIENTS: usize = 256;
const READINGS_PER_BATCH: u32 = 128;

#[derive(Clone, Debug)]
pub struct ScalePlan {
    pub kvarter: PathBuf,
    /// For the clusters' data; what is in its folder `scale` is removed.
    pub dir: PathBuf,
    pub duration: Duration,
    pub warm_up: Duration,
    /// Numbers of devices to register, each in a cluster of its own.
    pub devices: Vec<usize>,
    /// The rate at which their readings are measured.
    pub readings_per_s: f64,
    /// Numbers of nodes to measure the throughput of; shards have three replicas where there are so many nodes.
    pub nodes: Vec<u32>,
    /// Numbers of shards to measure the throughput of.
    pub shards: Vec<u32>,
    /// What they are where they do not vary.
    pub nodes_fixed: u32,
    pub shards_fixed: u32,
    pub devices_fixed: usize,
}

/// What a number of devices costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DevicesFigures {
    pub devices: usize,
    /// Until all were registered and attached.
    pub prepare_s: f64,
    /// Of one node, the mean of all, after the phase.
    pub resident_bytes_per_node: f64,
    /// At the rate of the plan.
    #[serde(flatten)]
    pub phase: PhaseFigures,
}

/// What a number of nodes can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodesFigures {
    pub nodes: u32,
    pub resident_bytes_per_node: f64,
    /// As fast as it goes.
    #[serde(flatten)]
    pub phase: PhaseFigures,
}

/// What a number of shards can do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardsFigures {
    pub shards: u32,
    /// As fast as it goes.
    #[serde(flatten)]
    pub phase: PhaseFigures,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scale {
    pub processors: usize,
    pub clients: usize,
    pub readings_per_batch: u32,
    pub phase_s: f64,
    pub warm_up_s: f64,
    pub nodes_fixed: u32,
    pub shards_fixed: u32,
    pub devices_fixed: usize,
    pub by_devices: Vec<DevicesFigures>,
    pub by_nodes: Vec<NodesFigures>,
    pub by_shards: Vec<ShardsFigures>,
}

impl ScalePlan {
    /// Runs everything, cluster after cluster; some minutes.
    pub async fn run(&self, tell: &mut impl Tell) -> Result<Scale, CompareError> {
        let mut scale = Scale {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            clients: CLIENTS,
            readings_per_batch: READINGS_PER_BATCH,
            phase_s: self.duration.as_secs_f64(),
            warm_up_s: self.warm_up.as_secs_f64(),
            nodes_fixed: self.nodes_fixed,
            shards_fixed: self.shards_fixed,
            devices_fixed: self.devices_fixed,
            by_devices: Vec::new(),
            by_nodes: Vec::new(),
            by_shards: Vec::new(),
        };
        for &devices in &self.devices {
            let pace = Pace::Steady { records_per_s: self.readings_per_s };
            let size = ClusterSize { nodes: self.nodes_fixed, shards: self.shards_fixed };
            let figures = self.measure(size, devices, pace).await?;
            tell.tell(&format!("{devices} devices, prepared in {:.1} s: {}", figures.prepare_s, figures.phase));
            scale.by_devices.push(figures);
        }
        for &nodes in &self.nodes {
            let size = ClusterSize { nodes, shards: self.shards_fixed };
            let DevicesFigures { phase, resident_bytes_per_node, .. } =
                self.measure(size, self.devices_fixed, Pace::Saturating).await?;
            tell.tell(&format!("{nodes} nodes: {phase}"));
            scale.by_nodes.push(NodesFigures { nodes, resident_bytes_per_node, phase });
        }
        for &shards in &self.shards {
            let size = ClusterSize { nodes: self.nodes_fixed, shards };
            let DevicesFigures { phase, .. } = self.measure(size, self.devices_fixed, Pace::Saturating).await?;
            tell.tell(&format!("{shards} shards: {phase}"));
            scale.by_shards.push(ShardsFigures { shards, phase });
        }
        Ok(scale)
    }

    async fn measure(&self, size: ClusterSize, devices: usize, pace: Pace) -> Result<DevicesFigures, CompareError> {
        let mut cluster = KvarterCluster::start(&self.kvarter, &self.dir.join("scale"), size).await?;
        let clients = Clients::new(CLIENTS, devices, Payload::Number);
        let begun = Instant::now();
        let writers = cluster.writers(&clients).await?;
        let prepare_s = begun.elapsed().as_secs_f64();
        let shape = RequestShape { clients: CLIENTS, records_per_request: READINGS_PER_BATCH, leader_only: false };
        let phase = measure(&cluster, writers, shape, pace, self.warm_up, self.duration).await?;
        let resident = cluster.pids()?.into_iter().map(|pid| Ok(Usage::of(pid)?.resident_bytes));
        let resident = resident.collect::<Result<Vec<u64>, CompareError>>()?;
        cluster.pause().await?;
        #[expect(clippy::cast_precision_loss, reason = "memory has fewer than 2^53 bytes")]
        let resident_bytes_per_node = resident.iter().sum::<u64>() as f64 / resident.len().max(1) as f64;
        Ok(DevicesFigures { devices: clients.devices, prepare_s, resident_bytes_per_node, phase })
    }
}
