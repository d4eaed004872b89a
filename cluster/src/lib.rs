//! Replicated shards: Raft groups, placement, log and checkpoint stores, transport.
//!
//! Start at [`Cluster::start`]; what an application needs beside it is [`ShardHandle`] and the trait [`StateMachine`].
//! Deliberately not here: cities, devices, actors and the public API.

mod checkpoint;
mod cluster;
mod feed;
#[cfg(fuzzing)]
pub mod fuzzing;
mod id;
mod log;
mod meta;
mod page;
mod peer;
mod placement;
mod ports;
mod raft;
mod replica;
mod shard;
mod state;

/// Generated from `proto/kvarter/cluster/v1`.
#[allow(clippy::all, clippy::allow_attributes_without_reason, clippy::too_many_lines, reason = "generated code")]
#[allow(unreachable_pub, reason = "generated code")]
mod wire {
    tonic::include_proto!("kvarter.cluster.v1");
}

pub use checkpoint::CheckpointError;
pub use cluster::{CallError, Cluster, ClusterConfig, DiskState, InitialNode, StartError};
pub use feed::{FeedEntry, FeedError, FeedReader};
pub use id::{ClusterId, DiskId, LogIndex, NodeId, ShardId, Term};
pub use log::LogError;
pub use meta::{MetaError, MetaView, NodeRecord, Phase, ShardRecord};
pub use page::{Page, PageContent, PageId, PageTable};
pub use peer::server::PeerHandler;
pub use peer::{PortTls, TlsIdentity, TlsRefused};
pub use ports::{
    Batch, ByteStream, Clock, Database, DatabaseError, Execution, Listing, MemoryStorage, Ports, Random, Space,
    Storage, StorageOperation, StoredFile, Timestamp, Transport, Tree,
};
pub use shard::{Leadership, ProposeError, ReadError, ShardHandle};
pub use state::{DamagedBytes, StateMachine, View};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod store_tests;
