//! What many stored entries cost: memory of each node, and time until all nodes serve again after a restart.
//!
//! An entry is the newest value of one attribute of one device: in Kvarter the device's twin, in etcd a key with its value. Both
//! are stopped in order before the restart, and both have restarted when each node has acknowledged a write. What is not
//! equal: a twin also holds the device's name, kind, shard and counters, which etcd was not asked to keep.
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::CompareError;
use super::drive::Writer;
use super::plan::RECORDS_PER_BATCH;
use super::system::{Clients, System};
use crate::resources::Usage;

/// For memory to be given back and checkpoints to be written.
const SETTLE: Duration = Duration::from_secs(10);

/// Bytes are of one node, the mean of three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EntriesFigures {
    pub entries: usize,
    /// Until every client had its devices, which Kvarter registers first.
    pub prepare_s: f64,
    /// Until one value of each device was stored.
    pub fill_s: f64,
    pub resident_bytes: f64,
    pub anonymous_bytes: f64,
    /// Growth from the empty system, divided by the entries.
    pub resident_bytes_per_entry: f64,
    pub anonymous_bytes_per_entry: f64,
    /// From the start of the processes until every node has acknowledged a write.
    pub restart_s: f64,
}

/// Fills a fresh system, one entry for each device of `clients`, and restarts it.
pub(super) async fn measure<S: System>(system: &mut S, clients: &Clients) -> Result<EntriesFigures, CompareError> {
    let empty = mean_usage(system)?;
    let begun = Instant::now();
    let writers = system.writers(clients).await?;
    let prepare_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let mut filling = JoinSet::new();
    for (number, writer) in writers.into_iter().enumerate() {
        filling.spawn(fill(writer, clients.devices_of(number).count()));
    }
    while let Some(filled) = filling.join_next().await {
        filled.expect("a client does not panic and is not aborted")?;
    }
    let fill_s = begun.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let full = mean_usage(system)?;
    system.pause().await?;
    let begun = Instant::now();
    system.resume().await?;
    let restart_s = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 entries")]
    let entries = clients.devices as f64;
    Ok(EntriesFigures {
        entries: clients.devices,
        prepare_s,
        fill_s,
        resident_bytes: full.resident,
        anonymous_bytes: full.anonymous,
        resident_bytes_per_entry: (full.resident - empty.resident) / entries,
        anonymous_bytes_per_entry: (full.anonymous - empty.anonymous) / entries,
        restart_s,
    })
}

async fn fill(mut writer: impl Writer, devices: usize) -> Result<(), CompareError> {
    let mut left = u32::try_from(devices).expect("a client has fewer than 2^32 devices");
    while left > 0 {
        let records = left.min(RECORDS_PER_BATCH);
        writer.write(records).await?;
        left -= records;
    }
    Ok(())
}

struct MeanUsage {
    resident: f64,
    anonymous: f64,
}

#[expect(clippy::cast_precision_loss, reason = "memory has fewer than 2^53 bytes")]
fn mean_usage<S: System>(system: &S) -> Result<MeanUsage, CompareError> {
    let usages = system.pids()?.into_iter().map(Usage::of).collect::<Result<Vec<_>, _>>()?;
    let mean = |bytes: fn(&Usage) -> u64| usages.iter().map(bytes).sum::<u64>() as f64 / usages.len().max(1) as f64;
    Ok(MeanUsage { resident: mean(|usage| usage.resident_bytes), anonymous: mean(|usage| usage.anonymous_bytes) })
}
