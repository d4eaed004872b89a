//! Which entries of a log are older than their retention: told from a few samples of where the group stood when. They are
//! stored, so that the age goes on over a restart.

use std::time::Duration;

use prost::Message as _;

use crate::{LogIndex, Timestamp, wire};

/// Samples kept of a group over the longest age that is asked for. Entries go with the next sample, so later than their age by
/// a sixtieth of that at most.
const SAMPLES_MAX: u32 = 64;

/// Where a group stood when, oldest first.
#[derive(Default)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Clone, Copy)]
struct Sample {
    at: Timestamp,
    applied: LogIndex,
}

impl Samples {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let stored = wire::AppliedSamples::decode(bytes)?.samples.into_iter();
        Ok(Self(stored.map(|each| Sample { at: Timestamp(each.unix_micros), applied: LogIndex(each.index) }).collect()))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let samples = self.0.iter().map(|each| wire::AppliedSample { unix_micros: each.at.0, index: each.applied.0 });
        wire::AppliedSamples { samples: samples.collect() }.encode_to_vec()
    }

    /// When the group was sampled last.
    pub(super) fn newest(&self) -> Timestamp {
        self.0.last().map(|sample| sample.at).unwrap_or_default()
    }

    /// Adds where the group stands `now`, unless the last sample is too near, or not yet passed again by a clock that went
    /// back; returns whether it did.
    pub(super) fn add(&mut self, now: Timestamp, applied: LogIndex, age: Duration) -> bool {
        let distance = age / (SAMPLES_MAX - 2) + Duration::from_micros(1);
        if self.0.last().is_some_and(|last| now < later(last.at, distance)) {
            return false;
        }
        // The newest of the old ones says all that the others say.
        let old = self.old(now, age).count();
        self.0.drain(..old.saturating_sub(1));
        self.0.push(Sample { at: now, applied });
        true
    }

    /// The index up to which all entries were applied at least `age` ago.
    pub(super) fn older_than(&self, now: Timestamp, age: Duration) -> LogIndex {
        self.old(now, age).last().map_or(LogIndex(0), |sample| sample.applied)
    }

    fn old(&self, now: Timestamp, age: Duration) -> impl Iterator<Item = &Sample> {
        self.0.iter().take_while(move |sample| later(sample.at, age) <= now)
    }
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::{LogIndex, SAMPLES_MAX, Samples, Timestamp};
    use std::time::Duration;

    const AGE: Duration = Duration::from_secs(3600);
    const START: i64 = 1_700_000_000;

    /// Lives through `seconds`, one entry a second, on a clock that is off by `offset`, restarted every ten. Returns each time
    /// how many seconds old the newest entry is that may go.
    fn youngest(seconds: i64, offset: impl Fn(i64) -> i64) -> Vec<Option<i64>> {
        let mut stored = Samples::default().encode();
        let mut ages = Vec::new();
        for second in (1..=seconds).step_by(10) {
            let now = Timestamp((START + second + offset(second)) * 1_000_000);
            let mut samples = Samples::decode(&stored).unwrap();
            samples.add(now, LogIndex(u64::try_from(second).unwrap()), AGE);
            assert!(samples.0.len() <= usize::try_from(SAMPLES_MAX).unwrap());
            stored = samples.encode();
            let upto = i64::try_from(samples.older_than(now, AGE).0).unwrap();
            ages.push((upto > 0).then_some(second - upto));
        }
        ages
    }

    #[test]
    fn entries_go_at_their_age_and_not_before() {
        let ages = youngest(20_000, |_second| 0);
        let (before, after) = ages.split_at(360);
        assert!(before.iter().all(Option::is_none));
        assert!(after.iter().all(|age| age.is_some_and(|age| (3600..3600 + 80).contains(&age))), "{after:?}");
    }

    #[test]
    fn a_clock_that_jumps_back_lets_no_entry_go_too_early() {
        for jump in [100, 3_000, 50_000] {
            let ages = youngest(100_000, |second| if second < 4_000 { 0 } else { -jump });
            assert!(ages.iter().flatten().all(|age| *age >= 3600), "back by {jump}");
            assert!(ages.last().unwrap().unwrap() < 3600 + 80, "back by {jump}");
        }
    }
}
