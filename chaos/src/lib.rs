//! Drills: faults made on a running cluster, and checkers that say whether its promises held; and the simulation of whole
//! clusters, faults and all, from a seed.
//!
//! Start at [`Drill::run`] and [`simulate`]; at [`Stage`] for what a cluster needs under it so that all faults can be made; at
//! [`Journal`] for how what was left behind is undone. The checkers (`check`) are pure; a checker that saw too little fails.
mod check;
mod drill;
mod fault;
mod fleet;
mod journal;
mod simulation;
mod stage;
mod suite;
mod tool;

pub use check::{
    CLOCK_BOUND_US, CommandAudit, CommandCounts, Deed, DeliveredCommand, DeliveredDesired, Deliveries, FeedAudit,
    FeedPosition, IssueOutcome, IssuedCommand, Receipt, ReceiptState, RegisterCounts, RegisterHistory, RegisterRead,
    RegisterWrite, ReplicaHash, TwinObservation, Violation, Violations, WriteOutcome, check_registers, check_replicas,
    check_twins,
};
pub use drill::{Checked, Drill, DrillError, DrillReport, Figures, StrikeRecord, Verdict};
pub use fault::{Assault, ClockFault, Fault, Victims};
pub use fleet::{Fleet, FleetError, NodeProcess, directory_of};
pub use journal::{FaultError, Journal, Undo, UndoError};
pub use simulation::{Outcome, Trace, simulate};
pub use stage::{
    ClockShift, Clocks, CutOff, DiskError, Disks, HostUnable, Networks, Poison, Stage, StageError, StageParts,
    SwapError, Throttle, ThrottleError,
};
pub use suite::{SUITE, Suite, SuiteDrill, SuiteOutcome, SuiteRow};
pub use tool::ToolFailed;
