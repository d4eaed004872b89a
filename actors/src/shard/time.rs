//! Shard time while this node leads: what is decided and what is due go by it.

use std::time::Duration;

use kvarter_cluster::Timestamp;
use tokio::time::Instant;

/// The wall clock's time; where the facts of the log are ahead of it, theirs, going on at half the pace until the wall clock
/// has caught up. Time never goes back, and if it stood still meanwhile, nothing that was ordered would expire for as long as
/// some leader's clock was ahead.
#[derive(Default)]
pub(super) struct ShardTime {
    /// As it was told last.
    last: Option<(Timestamp, Instant)>,
}

impl ShardTime {
    /// The time at the moment `at`, when the wall clock shows `wall` and the newest fact that is applied is of `facts`.
    pub(super) fn now(&mut self, wall: Timestamp, facts: Timestamp, at: Instant) -> Timestamp {
        let half = |passed: Duration| i64::try_from(passed.as_micros() / 2).unwrap_or(i64::MAX);
        let went_on =
            self.last.map(|(last, then)| Timestamp(last.0.saturating_add(half(at.saturating_duration_since(then)))));
        let now = wall.max(facts).max(went_on.unwrap_or_default());
        // A fraction of a microsecond that a look loses must not add up: nothing is noted where nothing moved.
        if self.last.is_none_or(|(last, _)| last < now) {
            self.last = Some((now, at));
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_767_225_600_000_000);
    const HOUR_US: i64 = 3_600_000_000;

    fn later(time: Timestamp, us: i64) -> Timestamp {
        Timestamp(time.0 + us)
    }

    #[test]
    fn where_the_wall_clock_is_ahead_of_the_facts_it_is_the_time() {
        let (mut time, start) = (ShardTime::default(), Instant::now());
        assert_eq!(time.now(START, Timestamp::default(), start), START);
        assert_eq!(time.now(later(START, 9), START, start + Duration::from_micros(9)), later(START, 9));
    }

    #[test]
    fn facts_ahead_of_the_wall_clock_are_caught_up_with_while_time_goes_on() {
        let (mut time, start) = (ShardTime::default(), Instant::now());
        let ahead = later(START, HOUR_US);
        let mut facts = ahead;
        for second in 0..=7_200u32 {
            let (passed, at) = (i64::from(second) * 1_000_000, start + Duration::from_secs(second.into()));
            // As when each second something is written.
            facts = time.now(later(START, passed), facts, at);
            assert_eq!(facts, later(ahead, passed / 2));
        }
        assert_eq!(facts, later(START, 2 * HOUR_US), "it is the wall clock's again");
        let at = start + Duration::from_secs(7_300);
        assert_eq!(time.now(later(START, 7_300_000_000), facts, at), later(START, 7_300_000_000));
    }

    #[test]
    fn a_wall_clock_that_goes_back_takes_nothing_back() {
        let (mut time, start) = (ShardTime::default(), Instant::now());
        time.now(START, Timestamp::default(), start);
        let at = |us| start + Duration::from_micros(us);
        assert_eq!(time.now(later(START, -400_000), START, at(10)), later(START, 5));
        assert_eq!((11..=13).map(|us| time.now(later(START, -400_000), START, at(us)).0 - START.0).max(), Some(6));
    }
}
