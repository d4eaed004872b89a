//! Drills: faults made on a running cluster, and checkers that say whether its promises held.
mod check;
mod fleet;

pub use check::{
    FeedAudit, FeedPosition, ReplicaHash, TwinObservation, Violation, Violations, check_replicas, check_twins,
};
pub use fleet::{Fleet, FleetError, NodeProcess};
