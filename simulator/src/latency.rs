//! Latencies from 1 µs to ten minutes, with three digits: small enough to keep all, merged between lanes.
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Above this a latency is counted as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct Latencies {
    /// Microseconds.
    histogram: Histogram<u64>,
}

/// Milliseconds; zero where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, micros(LATENCY_MAX), 3).expect("the bounds are valid");
        Self { histogram }
    }
}

impl Latencies {
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
        #[expect(clippy::cast_precision_loss, reason = "bounded by ten minutes in microseconds")]
        let ms = |micros: u64| micros as f64 / 1e3;
        LatencySummary {
            p50_ms: ms(self.histogram.value_at_quantile(0.5)),
            p99_ms: ms(self.histogram.value_at_quantile(0.99)),
            max_ms: ms(self.histogram.max()),
        }
    }
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
        let LatencySummary { p50_ms, p99_ms, max_ms } = left.summary();
        assert!((p50_ms - 500.0).abs() < 1.0 && (p99_ms - 990.0).abs() < 1.0 && (max_ms - 1_000.0).abs() < 1.0);
        assert_eq!(left.count(), 1_000);
    }

    #[test]
    fn nothing_measured_is_zero_and_ages_are_capped() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), LatencySummary::default());
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.summary().max_ms <= 601_000.0);
    }
}
