//! Checkers: pure functions over what was seen. They say what is wrong, and fail when they saw too little to say.
//!
//! `feed` holds the devices' own ledgers against the facts, `twins` against the twins, `replicas` compares state hashes.
mod feed;
mod replicas;
mod twins;

use serde::Serialize;

pub use feed::{FeedAudit, FeedPosition};
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
    #[error("feed of shard {shard}: {next} follows {last}")]
    PositionNotRising { shard: u32, last: FeedPosition, next: FeedPosition },
    #[error("feed of shard {shard}: facts from {from} to {to} are gone")]
    FeedGap { shard: u32, from: FeedPosition, to: FeedPosition },
    #[error("{device}: the twin shows {twin_us:?} µs, {acknowledged_us} µs was acknowledged")]
    TwinBehind { device: String, twin_us: Option<i64>, acknowledged_us: i64 },
    #[error("{device}: the twin shows {twin_us} µs, which was never sent")]
    TwinInvented { device: String, twin_us: i64 },
    #[error(
        "shard {shard} at index {applied_index}: node {node} has state hash {hash}, node {other_node} has {other_hash}"
    )]
    ReplicasDiffer { shard: u32, applied_index: u64, node: u64, hash: String, other_node: u64, other_hash: String },
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
