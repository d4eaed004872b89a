//! When the readings of a lane are due: evenly, whatever the cluster answers.
use std::time::Duration;

use super::Serial;

/// A lane's share of the rate. Times count from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    readings_per_s: f64,
    duration: Duration,
    warm_up: Duration,
}

impl Schedule {
    /// `readings_per_s` must be above zero and finite. The latencies of what is due within the `warm_up` do not count.
    pub(super) fn new(readings_per_s: f64, duration: Duration, warm_up: Duration) -> Self {
        Self { readings_per_s, duration, warm_up }
    }

    pub(super) fn is_measured(&self, serial: Serial) -> bool {
        self.due(serial) >= self.warm_up
    }

    pub(super) fn due(&self, serial: Serial) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a load has far fewer than 2^53 readings")]
        let number = serial.0 as f64;
        Duration::try_from_secs_f64(number / self.readings_per_s).unwrap_or(Duration::MAX)
    }

    /// Readings that are due by `elapsed`, from the first on; no more after the load's duration.
    pub(super) fn due_count(&self, elapsed: Duration) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
        let count = (elapsed.min(self.duration).as_secs_f64() * self.readings_per_s) as u64;
        count
    }

    pub(super) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed >= self.duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_counted_once_its_time_has_come() {
        let schedule = Schedule::new(2_500.0, Duration::from_secs(4), Duration::from_secs(1));
        for serial in [0, 1, 999, 5_000] {
            let due = schedule.due(Serial(serial));
            assert!(schedule.due_count(due + Duration::from_micros(1)) >= serial);
            assert!(schedule.due_count(due.saturating_sub(Duration::from_micros(1))) <= serial);
        }
    }

    #[test]
    fn a_warm_up_is_not_measured() {
        let schedule = Schedule::new(2_500.0, Duration::from_secs(4), Duration::from_secs(1));
        assert!(!schedule.is_measured(Serial(2_499)) && schedule.is_measured(Serial(2_500)));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let schedule = Schedule::new(2_500.0, Duration::from_secs(4), Duration::from_secs(1));
        assert_eq!(schedule.due_count(Duration::from_secs(900)), 10_000);
        assert!(schedule.is_over(Duration::from_secs(4)) && !schedule.is_over(Duration::from_millis(3_999)));
    }
}
