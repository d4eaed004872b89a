//! The program `kvarter`: one node of the cluster, the development cluster, and the command line.
//!
//! Start at [`Node::start`] for the node and at [`cli::run`] for the commands. Deliberately not here: the rules of the
//! city (`kvarter-actors`), consensus and disks (`kvarter-cluster`), and what clients link (`kvarter-api`).

mod admin;
mod api;
pub mod cli;
pub mod config;
pub mod dev;
mod history;
mod metrics;
mod node;
mod telemetry;
mod tls;

#[cfg(fuzzing)]
pub use api::fuzz_gateway;
pub use config::Config;
pub use node::{Node, NodeError, StopSignals};
