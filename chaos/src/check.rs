//! Checkers: pure functions over what was seen. They say what is wrong, and fail when they saw too little to say.
//!
//! `feed` holds the devices' own ledgers against the facts, `twins` against the twins, `replicas` compares state hashes;
//! `commands` holds operators, devices and the feed against each other, `registers` what was written against what was read.
mod commands;
mod feed;
mod registers;
mod replicas;
mod twins;

use std::collections::BTreeSet;

use serde::Serialize;

pub use commands::{
    CLOCK_BOUND_US, CommandAudit, CommandCounts, Deed, DeliveredCommand, DeliveredDesired, Deliveries, IssueOutcome,
    IssuedCommand, Receipt, ReceiptState,
};
pub use feed::{FeedAudit, FeedPosition};
pub use registers::{RegisterCounts, RegisterHistory, RegisterRead, RegisterWrite, WriteOutcome, check_registers};
pub use replicas::{ReplicaHash, check_replicas};
pub use twins::{TwinObservation, check_twins};

/// A broken promise, or evidence too thin to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    #[error("{device}, observed at {observed_us} µs: acknowledged and not in the feed")]
    ReadingLost { device: String, observed_us: i64 },
    #[error("{device}, observed at {observed_us} µs: more than once in the feed")]
    ReadingRepeated { device: String, observed_us: i64 },
    #[error("{device}, observed at {observed_us} µs: rejected and yet in the feed")]
    RejectedReadingStored { device: String, observed_us: i64 },
    #[error("{device}, observed at {observed_us} µs: in the feed and never sent")]
    ReadingInvented { device: String, observed_us: i64 },
    #[error("{device}, observed at {observed_us} µs: in the feed behind what it observed later")]
    ReadingOutOfOrder { device: String, observed_us: i64 },
    #[error("{device}, observed at {observed_us} µs: the feed shows {shown:?}, {sent} was sent")]
    ReadingChanged { device: String, observed_us: i64, shown: Option<String>, sent: String },
    #[error("a subscription broke off: {reason}")]
    SubscriptionEnded { reason: String },
    #[error("feed of shard {shard}: {next} follows {last}")]
    PositionNotRising { shard: u32, last: FeedPosition, next: FeedPosition },
    #[error("feed of shard {shard}: facts from {from} to {to} are gone")]
    FeedGap { shard: u32, from: FeedPosition, to: FeedPosition },
    #[error("{device}: the twin shows {twin_us:?} µs, {acknowledged_us} µs was acknowledged")]
    TwinBehind { device: String, twin_us: Option<i64>, acknowledged_us: i64 },
    #[error("{device}: the twin shows {twin_us} µs, which was never sent")]
    TwinInvented { device: String, twin_us: i64 },
    #[error("{device}: the twin shows {shown:?} of {twin_us} µs, {sent} was sent")]
    TwinChanged { device: String, twin_us: i64, shown: Option<String>, sent: String },
    #[error(
        "shard {shard} at index {applied_index}: node {node} has state hash {hash}, node {other_node} has {other_hash}"
    )]
    ReplicasDiffer { shard: u32, applied_index: u64, node: u64, hash: String, other_node: u64, other_hash: String },
    #[error("{command}: accepted and not in the feed")]
    CommandLost { command: String },
    #[error("{command}: the feed has shown {shown}, and shows {again:?} when it is read again")]
    CommandShownOtherwise { command: String, shown: ReceiptState, again: Option<ReceiptState> },
    #[error("{command}: {state} in the end")]
    CommandNotEnded { command: String, state: ReceiptState },
    #[error("{command}: {next} follows {last:?} in the feed")]
    CommandOutOfOrder { command: String, last: Option<ReceiptState>, next: ReceiptState },
    #[error("{command}: certainly not applied, the caller was told, and yet in the feed")]
    RefusedCommandApplied { command: String },
    #[error("{command}: executed more than once")]
    EffectRepeated { command: String },
    #[error("{command}: executed {late_us} µs after its deadline")]
    EffectLate { command: String, late_us: i64 },
    #[error("{command}: executed, and nobody has issued it")]
    EffectWithoutCommand { command: String },
    #[error("{command}: executed for epoch {epoch} of shard {shard}, after epoch {highest} was seen")]
    StaleDeliveryObeyed { command: String, shard: u32, epoch: u64, highest: u64 },
    #[error("{command}: delivered for epoch {epoch} of shard {shard}, on a connection that had seen epoch {highest}")]
    DeliveredStale { command: String, shard: u32, epoch: u64, highest: u64 },
    #[error("{command}: delivered, and nobody has issued it")]
    DeliveredWithoutCommand { command: String },
    #[error(
        "{device}: its desired state came for epoch {epoch} of shard {shard}, on a connection that had seen epoch {highest}"
    )]
    DesiredStale { device: String, shard: u32, epoch: u64, highest: u64 },
    #[error("{command}: delivered {late_us} µs after its deadline")]
    DeliveredLate { command: String, late_us: i64 },
    #[error("{command}: delivered {late_us} µs after its end was told")]
    DeliveredAfterEnd { command: String, late_us: i64 },
    #[error("{command}: the watch shows {next} after {last}")]
    ReceiptWentBack { command: String, last: ReceiptState, next: ReceiptState },
    #[error("{command}: the watch ended with {told}, the feed with {logged:?}")]
    ReceiptDiffers { command: String, told: ReceiptState, logged: Option<ReceiptState> },
    #[error("{command}: {state}, but its device did otherwise")]
    ReceiptWithoutEffect { command: String, state: ReceiptState },
    #[error("{command}: expired {early_us} µs before its time")]
    ExpiredEarly { command: String, early_us: i64 },
    #[error("{device}: {at} was answered after {before} had been")]
    RegisterWentBack { device: String, at: FeedPosition, before: FeedPosition },
    #[error("{device}: at {at} a read shows {shown:?}, the last write was {written}")]
    RegisterShowsWrongValue { device: String, at: FeedPosition, shown: Option<u64>, written: u64 },
    #[error("node {node} did not refuse {what}: {answer}")]
    HostileInputAccepted { node: u64, what: String, answer: String },
    #[error("process {pid} of node {node} has ended")]
    NodeEnded { node: u64, pid: i32 },
    #[error("{factor} times as much: {goodput_per_s} readings/s, {found_per_s} went through before")]
    GoodputLow { factor: u32, goodput_per_s: u64, found_per_s: u64 },
    #[error("overloaded callers were told so {told} times with a time to come back, {bluntly} times without")]
    OverloadNotTold { told: u64, bluntly: u64 },
    #[error("node {node} (0: all together) needed {growth_bytes} bytes more")]
    MemoryUnbounded { node: u64, growth_bytes: u64 },
    #[error("shard {shard} was led by {before:?} and is led by {now:?}, or in another term")]
    LeaderChanged { shard: u32, before: Option<u64>, now: Option<u64> },
    #[error("in quarantine are {found:?}, and not {expected:?} alone")]
    QuarantineWrong { expected: BTreeSet<String>, found: BTreeSet<String> },
    #[error("a poisoned neighbour: p99 of {what} was {before_us} µs before, {during_us} µs with it")]
    NeighboursSlower { what: &'static str, before_us: u64, during_us: u64 },
    #[error("after {resumes} resumes, {unanswered} readings have no answer and {failures} streams or devices failed")]
    ResumeFailed { resumes: u64, unanswered: u64, failures: u64 },
    #[error("{what}: {answer}")]
    StreamAnsweredWrong { what: String, answer: String },
    #[error("{served} of {streams} streams were served; {first}")]
    StreamsNotServed { served: u64, streams: u64, first: String },
    #[error("shard {shard} took no write for {waited_s} s")]
    ShardNotServing { shard: u32, waited_s: u64 },
    #[error("feed of shard {shard}: {reader} has index {other_index:?} where node 1 has {index:?}")]
    FeedsDiffer { shard: u32, reader: String, index: Option<u64>, other_index: Option<u64> },
    #[error("{device} is no linearizable register: {what}")]
    RegisterBroken { device: String, what: String },
    #[error("command {id}: {what}")]
    CommandBroken { id: String, what: String },
    #[error("{what}")]
    Broken { what: String },
    #[error("{count} valid readings of the load were rejected")]
    ValidReadingsRejected { count: u64 },
    #[error("{count} readings of the load were never answered")]
    ReadingsUnanswered { count: u64 },
    #[error("the drill broke off: {reason}")]
    DrillAborted { reason: String },
    #[error("{checker} saw {seen} {what}, expected at least {expected}")]
    TooLittleSeen { checker: &'static str, what: &'static str, seen: u64, expected: u64 },
}

/// What the checkers found: every violation is counted, the first ones are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    pub count: u64,
    pub first: Vec<Violation>,
}

impl Violations {
    const KEPT_MAX: usize = 50;

    pub fn add(&mut self, violation: Violation) {
        self.count += 1;
        if self.first.len() < Self::KEPT_MAX {
            self.first.push(violation);
        }
    }

    pub fn append(&mut self, other: Violations) {
        let (others, unkept) = (other.first.len() as u64, other.count);
        for violation in other.first {
            self.add(violation);
        }
        self.count += unkept - others;
    }

    /// Whether replicas differ, and not only were seen too seldom.
    pub(crate) fn shows_difference(&self) -> bool {
        self.first.iter().any(|violation| matches!(violation, Violation::ReplicasDiffer { .. }))
    }

    /// Fails a checker that saw less than it had to.
    pub(crate) fn require(&mut self, checker: &'static str, what: &'static str, seen: u64, expected: u64) {
        if seen < expected {
            self.add(Violation::TooLittleSeen { checker, what, seen, expected });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_beyond_the_kept_ones_still_count() {
        let lost = |observed_us| Violation::ReadingLost { device: "d".to_owned(), observed_us };
        let (mut left, mut right) = (Violations::default(), Violations::default());
        (0..70).for_each(|at| left.add(lost(at)));
        (0..80).for_each(|at| right.add(lost(at)));
        left.append(right);
        assert_eq!((left.count, left.first.len()), (150, 50));
    }
}
