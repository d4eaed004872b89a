//! How long to wait before something is tried again.

use std::time::Duration;

/// Delays that double from `first` up to `max`, each drawn from its upper half so that many who wait do not meet again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row (1 or more); `random` decides where in the upper half.
    pub(crate) fn delay(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.max);
        let half_us = u64::try_from(longest.as_micros() / 2).unwrap_or(u64::MAX / 2);
        Duration::from_micros(half_us + random % (half_us + 1))
    }

    /// As [`Backoff::delay`], in microseconds.
    pub(crate) fn delay_us(self, failures: u32, random: u64) -> i64 {
        i64::try_from(self.delay(failures, random).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_stays_in_the_upper_half_of_its_doubling(failures in 1u32..100, random: u64) {
            let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_secs(5) };
            let longest = (0.02 * 2f64.powi(i32::try_from(failures).unwrap() - 1)).min(5.0);
            let delay = backoff.delay(failures, random).as_secs_f64();
            prop_assert!(delay >= longest / 2.0 - 1e-6 && delay <= longest + 1e-6, "{delay} of {longest}");
        }
    }
}
