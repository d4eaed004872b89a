//! What to compare, and how long.
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::payload::Payload;

/// etcd refuses transactions of more puts by default, and nobody calls 128 a small batch.
pub(super) const RECORDS_PER_BATCH: u32 = 128;
/// Clients that write one record at a time: what etcd does best with is chosen among these.
pub(super) const SINGLE_CLIENTS: [usize; 2] = [256, 1_000];
/// Clients that write batches, and of every phase with a given rate.
pub(super) const BATCH_CLIENTS: usize = 256;
/// Enough for each client to have a batch of different devices: a transaction of etcd puts a key once.
pub(super) const DEVICES: usize = BATCH_CLIENTS * RECORDS_PER_BATCH as usize;

#[derive(Clone, Debug)]
pub struct ComparePlan {
    pub etcd: PathBuf,
    pub kvarter: PathBuf,
    /// For the data of both; what is in its folders `etcd` and `kvarter` is removed.
    pub dir: PathBuf,
    /// Of each measured phase, after its warm-up.
    pub duration: Duration,
    pub warm_up: Duration,
    pub rounds: u32,
    /// etcd talks mutual TLS too; Kvarter always does.
    pub tls: bool,
    pub shards: u32,
    pub payload: Payload,
    /// For memory and restart; 0 leaves them out.
    pub entries: usize,
}

/// The plan, as the report tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub nodes: usize,
    pub shards: u32,
    pub processors: usize,
    pub etcd_tls: bool,
    pub rounds: u32,
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
