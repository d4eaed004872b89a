//! What a load saw second by second.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::latency::{Latencies, LatencySummary};

/// One second of a load. Answers count in the second in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LoadSecond {
    /// Its end, from the start of the load.
    pub until_s: u32,
    pub acknowledged: u64,
    pub rejected: u64,
    /// Connections that were lost.
    pub disconnects: u64,
    #[serde(flatten)]
    pub latency: LatencySummary,
}

/// Takes what all lanes of a load hear; clones share it. It is locked for moments only.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    seconds: Arc<Mutex<Vec<Second>>>,
}

#[derive(Debug)]
struct Second {
    latencies: Latencies,
    rejected: u64,
    disconnects: u64,
}

impl Timeline {
    /// Readings were answered `elapsed` after the start of the load, so many of them with a rejection.
    pub(super) fn answered(&self, elapsed: Duration, latencies: impl Iterator<Item = Duration>, rejected: u64) {
        let mut seconds = self.seconds();
        let second = second(&mut seconds, elapsed);
        latencies.for_each(|latency| second.latencies.record(latency));
        second.rejected += rejected;
    }

    pub(super) fn disconnected(&self, elapsed: Duration) {
        second(&mut self.seconds(), elapsed).disconnects += 1;
    }

    pub(super) fn summary(&self) -> Vec<LoadSecond> {
        let seconds = self.seconds();
        let summary = |(until_s, second): (u32, &Second)| LoadSecond {
            until_s,
            acknowledged: second.latencies.count(),
            rejected: second.rejected,
            disconnects: second.disconnects,
            latency: second.latencies.summary(),
        };
        (1..).zip(seconds.iter()).map(summary).collect()
    }

    fn seconds(&self) -> MutexGuard<'_, Vec<Second>> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second(seconds: &mut Vec<Second>, elapsed: Duration) -> &mut Second {
    let place = usize::try_from(elapsed.as_secs()).expect("a load ends before memory does");
    while seconds.len() <= place {
        seconds.push(Second { latencies: Latencies::coarse(), rejected: 0, disconnects: 0 });
    }
    &mut seconds[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_answers_stands_in_the_line_too() {
        let timeline = Timeline::default();
        let ms = Duration::from_millis;
        timeline.clone().answered(ms(200), [ms(7), ms(7)].into_iter(), 1);
        timeline.disconnected(ms(2_999));
        let seconds = timeline.summary();
        let counts: Vec<_> = seconds.iter().map(|second| (second.until_s, second.acknowledged)).collect();
        assert_eq!(counts, [(1, 2), (2, 0), (3, 0)]);
        assert_eq!((seconds[0].rejected, seconds[2].disconnects), (1, 1));
        assert!((seconds[0].latency.p50_ms - 7.0).abs() < 0.1);
    }
}
