//! The time of a shard's decisions: the wall clock, but for its jumps.
//!
//! A leader whose wall clock jumps would expire what is not due, or keep what is, until the cluster notices and takes its
//! leaderships away, which takes one to three seconds. So a jump is believed late, and not as long as the clocks of the other nodes
//! contradict it: shard time goes one way, so what a wrong clock says must not get into a log. What guards a delivery at the moment
//! of writing looks at the wall clock itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvarter_cluster::{Clock, Timestamp};
use tokio::time::Instant;

/// A smaller difference is no jump: the bound between a cluster's clocks.
const JUMP_MIN: Duration = Duration::from_millis(500);
/// How long a jump is not believed: longer than a node with a wrong clock may lead.
const DOUBT: Duration = Duration::from_secs(10);

/// A wall clock that goes on at its pace for [`DOUBT`] after it jumped by more than [`JUMP_MIN`], then believes the jump unless
/// it is contradicted.
pub(crate) struct SteadyClock {
    wall: Arc<dyn Clock>,
    /// Whether other clocks say that the wall clock is wrong.
    is_contradicted: Box<dyn Fn() -> bool + Send + Sync>,
    last: Mutex<Option<Reading>>,
}

/// The wall clock as it was believed last.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    at: Instant,
    /// Since when it has contradicted that.
    doubted: Option<Instant>,
}

impl SteadyClock {
    pub(crate) fn new(wall: Arc<dyn Clock>, is_contradicted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { wall, is_contradicted: Box::new(is_contradicted), last: Mutex::new(None) }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let (wall, at) = (self.wall.now(), Instant::now());
        // A reading is one value, so a panic elsewhere leaves nothing half done.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let first = (Reading { wall, at, doubted: None }, wall);
        let (reading, now) = last.map_or(first, |last| last.follow(wall, at, &self.is_contradicted));
        *last = Some(reading);
        now
    }
}

impl Reading {
    /// The reading that follows, and the time to go by.
    fn follow(self, wall: Timestamp, at: Instant, is_contradicted: impl Fn() -> bool) -> (Self, Timestamp) {
        let passed_us = i64::try_from(at.saturating_duration_since(self.at).as_micros()).unwrap_or(i64::MAX);
        let expected = Timestamp(self.wall.0.saturating_add(passed_us));
        let is_near = u128::from(wall.0.abs_diff(expected.0)) <= JUMP_MIN.as_micros();
        let since = self.doubted.unwrap_or(at);
        let is_doubted = || at.saturating_duration_since(since) < DOUBT || is_contradicted();
        if is_near || !is_doubted() {
            (Self { wall, at, doubted: None }, wall)
        } else {
            (Self { doubted: Some(since), ..self }, expected)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp(1_767_225_600_000_000);

    /// The times gone by when the wall clock is this far ahead, microseconds, at these moments, milliseconds.
    fn times(moments: &[(u64, i64)]) -> Vec<i64> {
        times_contradicted(moments, 0)
    }

    /// The same when other clocks contradict it before the moment `until_ms`.
    fn times_contradicted(moments: &[(u64, i64)], until_ms: u64) -> Vec<i64> {
        let start = Instant::now();
        let mut last: Option<Reading> = None;
        let mut times = Vec::new();
        for (ms, ahead_us) in moments {
            let at = start + Duration::from_millis(*ms);
            let wall = Timestamp(START.0 + i64::try_from(*ms).unwrap() * 1_000 + ahead_us);
            let first = (Reading { wall, at, doubted: None }, wall);
            let (reading, now) = last.map_or(first, |last| last.follow(wall, at, || *ms < until_ms));
            last = Some(reading);
            times.push(now.0 - START.0);
        }
        times
    }

    #[test]
    fn a_jump_is_believed_only_after_a_while() {
        let ahead = 600_000_000;
        let jumped =
            times(&[(0, 0), (1_000, ahead), (5_000, ahead), (10_999, ahead), (11_000, ahead), (11_100, ahead)]);
        assert_eq!(jumped, [0, 1_000_000, 5_000_000, 10_999_000, 11_000_000 + ahead, 11_100_000 + ahead]);
        assert_eq!(times(&[(0, 0), (1_000, -ahead), (2_000, -ahead)]), [0, 1_000_000, 2_000_000]);
    }

    #[test]
    fn a_jump_that_other_clocks_contradict_is_not_believed() {
        let ahead = 600_000_000;
        let moments = [(0, 0), (1_000, ahead), (20_000, ahead), (60_000, ahead), (60_100, ahead)];
        let jumped = times_contradicted(&moments, 60_000);
        assert_eq!(jumped, [0, 1_000_000, 20_000_000, 60_000_000 + ahead, 60_100_000 + ahead]);
    }

    #[test]
    fn a_jump_that_is_taken_back_was_none() {
        assert_eq!(
            times(&[(0, 0), (1_000, 600_000_000), (9_000, 7), (12_000, 0)]),
            [0, 1_000_000, 9_000_007, 12_000_000]
        );
    }

    proptest! {
        #[test]
        fn a_clock_that_drifts_is_followed(drifts in proptest::collection::vec(-400_000i64..400_000, 1..50)) {
            let mut ahead = 0;
            let moments: Vec<_> = (0..).zip(&drifts).map(|(tick, drift)| { ahead += drift; (tick * 700, ahead) }).collect();
            let expected: Vec<_> = moments.iter().map(|(ms, ahead)| i64::try_from(*ms).unwrap() * 1_000 + ahead).collect();
            prop_assert_eq!(times(&moments), expected);
        }
    }
}
