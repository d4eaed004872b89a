//! Replicated shards: Raft groups, placement, log and checkpoint stores, transport.
//!
//! Start at [`Cluster::start`]; everything an application needs is in [`ShardHandle`] and [`StateMachine`].
//! Deliberately not here: cities, devices, actors and the public API.

mod id;
mod page;
mod ports;
mod front;

pub use front::*;
pub use id::*;
pub use page::*;
pub use ports::*;
