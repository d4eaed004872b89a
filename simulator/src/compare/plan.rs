//! What to compare, and how long.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::payload::Payload;

/// Of each system.
pub(super) const NODES: u32 = 3;
/// etcd refuses transactions of more puts by default, and nobody calls 128 a small batch.
pub(super) const RECORDS_PER_BATCH: u32 = 128;
/// Clients that write one record at a time: what etcd does best with is chosen among these.
pub(super) const SINGLE_CLIENTS: [usize; 2] = [256, 1_000];
/// Clients that write batches, and of every phase with a given rate.
pub(super) const BATCH_CLIENTS: usize = 256;
/// Enough for each client to have a batch of different devices: a transaction of etcd puts a key once.
pub(super) const DEVICES: usize = BATCH_CLIENTS * RECORDS_PER_BATCH as usize;

/// Turns of each system with many entries, by turns: each takes minutes, and its figures hardly vary.
pub(super) const ENTRIES_ROUNDS_MAX: u32 = 2;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Records in a second, and latency at half of that
    Rates,
    /// Time without writes after the leader's node was killed
    Failover,
    /// Memory for each stored entry, and time of a restart
    Entries,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Rates, Self::Failover, Self::Entries];
}

#[derive(Clone, Debug)]
pub struct ComparePlan {
    pub etcd: PathBuf,
    pub kvarter: PathBuf,
    /// For the data of both; what is in its folders `etcd` and `kvarter` is removed.
    pub dir: PathBuf,
    /// What is measured; the figures of other parts are absent from the report.
    pub parts: BTreeSet<Part>,
    /// Of each measured phase, after its warm-up.
    pub duration: Duration,
    pub warm_up: Duration,
    pub rounds: u32,
    /// etcd's members and clients talk mutual TLS too; Kvarter's always do.
    pub etcd_tls: bool,
    pub shards: u32,
    pub payload: Payload,
    /// For memory and restart; at least one for each client.
    pub entries: usize,
}

/// The plan, as the report tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub parts: BTreeSet<Part>,
    pub nodes: u32,
    pub shards: u32,
    pub processors: usize,
    pub etcd_tls: bool,
    pub kvarter_tls: bool,
    pub rounds: u32,
    pub entries_rounds: u32,
    pub phase_s: f64,
    pub warm_up_s: f64,
    pub devices: usize,
    pub batch_clients: usize,
    pub records_per_batch: u32,
    /// Of a record for Kvarter, as it is sent: alias, attribute, time and value.
    pub kvarter_record_bytes: usize,
    /// Of a record for etcd, as it is sent: the key with device and attribute.
    pub etcd_key_bytes: usize,
    /// Time and value.
    pub etcd_value_bytes: usize,
}
