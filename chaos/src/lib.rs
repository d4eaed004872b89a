//! Drills: faults made on a running cluster, and checkers that say whether its promises held; and the simulation of whole
//! clusters, faults and all, from a seed.
//!
//! Start at [`Drill::run`] and [`simulate`]. The checkers (`check`) are pure; a checker that saw too little fails.
mod check;
mod disks;
mod drill;
mod fault;
mod fleet;
mod simulation;

pub use check::{
    FeedAudit, FeedPosition, ReplicaHash, TwinObservation, Violation, Violations, check_replicas, check_twins,
};
pub use disks::{DiskError, Disks, HostUnable, host_unable};
pub use drill::{Checked, Drill, DrillError, DrillReport, Figures, StrikeRecord, Verdict};
pub use fault::{Fault, Victims};
pub use fleet::{Fleet, FleetError, NodeProcess};
pub use simulation::{Outcome, Trace, simulate};
