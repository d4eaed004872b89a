//! The whole cluster as real processes: three nodes with their own disks, certificates and ports, called as clients call them.
//!
//! Start at [`fleet::Fleet`], which starts and kills the processes; [`sensors::Sensors`] are the devices, [`feed`] reads
//! back what they sent. The other modules are the scenarios. Everything waits for conditions, with one bound for all.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod calls;
mod cut_off;
mod dev;
mod drain;
mod elsewhere;
mod feed;
mod fleet;
mod gap;
mod history;
mod identity;
mod kinds;
mod members;
mod metrics;
mod node_loss;
mod queries;
mod replicas;
mod restart;
mod routing;
mod sensors;
mod trace;
