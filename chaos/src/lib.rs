//! Drills: faults made on a running cluster, and checkers that say whether its promises held.
//!
//! Start at [`KillDrill::run`]. The checkers (`check`) are pure; a checker that saw too little fails.
mod check;
mod drill;
mod fleet;

pub use check::{
    FeedAudit, FeedPosition, ReplicaHash, TwinObservation, Violation, Violations, check_replicas, check_twins,
};
pub use drill::{DrillError, DrillReport, Figures, KillDrill, KillRecord, Verdict};
pub use fleet::{Fleet, FleetError, NodeProcess};
