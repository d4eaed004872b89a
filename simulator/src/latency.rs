//! Latencies from 1 µs to ten minutes, with three digits: small enough to keep all, merged between lanes.
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Above this a latency is counted as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

const DIGITS: u8 = 3;
/// Where many are kept side by side.
const COARSE_DIGITS: u8 = 2;

#[derive(Clone, Debug)]
pub struct Latencies {
    /// Microseconds.
    histogram: Histogram<u64>,
}

/// Milliseconds; zero where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::with_digits(DIGITS)
    }
}

impl Latencies {
    /// Tells values apart that differ by a hundredth: a fraction of the memory.
    pub(crate) fn coarse() -> Self {
        Self::with_digits(COARSE_DIGITS)
    }

    fn with_digits(digits: u8) -> Self {
        let histogram = Histogram::new_with_bounds(1, micros(LATENCY_MAX), digits).expect("the bounds are valid");
        Self { histogram }
    }

    pub fn record(&mut self, latency: Duration) {
        self.histogram.saturating_record(micros(latency));
    }

    /// Records the same latency for `count` readings.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        self.histogram.saturating_record_n(micros(latency), count);
    }

    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            max_ms: milliseconds(self.histogram.max()),
        }
    }

    /// How many in how many are slower, with the latency that the others stay below: from one in one to the slowest alone.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 latencies")]
        let count = self.count() as f64;
        let one_in = (0..).map(|step| 10_f64.powf(f64::from(step) / 8.0)).take_while(|one_in| *one_in <= count);
        one_in.map(|one_in| (one_in, self.quantile_ms(1.0 - 1.0 / one_in))).collect()
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        milliseconds(self.histogram.value_at_quantile(quantile))
    }
}

fn milliseconds(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "bounded by ten minutes in microseconds")]
    let micros = micros as f64;
    micros / 1e3
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let (mut left, mut right) = (Latencies::default(), Latencies::default());
        for ms in 1..=500 {
            left.record(Duration::from_millis(ms));
            right.record(Duration::from_millis(500 + ms));
        }
        left.merge(&right);
        let LatencySummary { p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = left.summary();
        assert!((p90_ms - 900.0).abs() < 1.0 && (p999_ms - 999.0).abs() < 1.0);
        assert!((p50_ms - 500.0).abs() < 1.0 && (p99_ms - 990.0).abs() < 1.0 && (max_ms - 1_000.0).abs() < 1.0);
        assert_eq!(left.count(), 1_000);
    }

    #[test]
    fn a_distribution_goes_as_far_as_there_are_latencies() {
        let mut latencies = Latencies::coarse();
        assert_eq!(latencies.distribution(), []);
        (1..=1_000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let distribution = latencies.distribution();
        let (one_in, ms) = *distribution.last().unwrap();
        assert!((one_in - 1_000.0).abs() < 1.0 && (ms - 999.0).abs() < 10.0, "{distribution:?}");
        assert!(distribution.is_sorted_by(|left, right| left.1 <= right.1));
    }

    #[test]
    fn nothing_measured_is_zero_and_ages_are_capped() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), LatencySummary::default());
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.summary().max_ms <= 601_000.0);
    }
}
