//! Who may still enter a shard's inbox: bounds on requests, bytes and time, with room kept for what is more critical.
//!
//! [`Bounds::admits`] is the rule, pure; [`Admission`] keeps the account. Whoever is admitted holds a [`Permit`] until its
//! answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Criticality;

/// The most that may wait at a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) requests_max: usize,
    pub(crate) bytes_max: usize,
    /// Once somebody has waited so long, who comes now would wait about as long, and is told so. The vital waits.
    pub(crate) wait_max: Duration,
}

/// What waits at a shard, or is being committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    /// How long the first of them has waited.
    pub(crate) longest: Duration,
}

impl Bounds {
    /// Whether a request of `bytes` may join what is `waiting`. An empty inbox takes whatever its bounds allow.
    fn admits(self, waiting: Waiting, criticality: Criticality, bytes: usize) -> bool {
        let Self { requests_max, bytes_max, wait_max } = self;
        if waiting.requests == 0 {
            return requests_max > 0 && bytes <= bytes_max;
        }
        waiting.requests < criticality.share_of(requests_max)
            && waiting.bytes.checked_add(bytes).is_some_and(|all| all <= criticality.share_of(bytes_max))
            && (criticality == Criticality::Vital || waiting.longest <= criticality.share_of_time(wait_max))
    }
}

/// The account of one inbox.
#[derive(Debug)]
pub(crate) struct Admission {
    bounds: Bounds,
    line: Mutex<Line>,
}

/// Who waits, in the order of their coming.
#[derive(Debug, Default)]
struct Line {
    /// When each came; `None` has been answered before the first. The first is the `left`th of all that ever came.
    came: VecDeque<Option<Instant>>,
    left: u64,
    requests: usize,
    bytes: usize,
}

impl Line {
    fn waiting(&self, now: Instant) -> Waiting {
        let first = self.came.front().copied().flatten();
        let longest = first.map_or(Duration::ZERO, |came| now.saturating_duration_since(came));
        Waiting { requests: self.requests, bytes: self.bytes, longest }
    }

    /// The place of who comes `now`.
    fn enter(&mut self, now: Instant, bytes: usize) -> u64 {
        self.came.push_back(Some(now));
        self.requests += 1;
        self.bytes += bytes;
        self.left + self.came.len() as u64 - 1
    }

    fn leave(&mut self, place: u64, bytes: usize) {
        let place = usize::try_from(place - self.left).expect("the line is in memory");
        self.came[place] = None;
        while self.came.pop_front_if(|came| came.is_none()).is_some() {
            self.left += 1;
        }
        self.requests -= 1;
        self.bytes -= bytes;
    }
}

impl Admission {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, line: Mutex::default() }
    }

    /// `None`: there is no room for a request like this now. Never waits.
    pub(crate) fn admit(self: &Arc<Self>, criticality: Criticality, bytes: usize, now: Instant) -> Option<Permit> {
        let mut line = self.lock();
        if !self.bounds.admits(line.waiting(now), criticality, bytes) {
            return None;
        }
        let place = line.enter(now, bytes);
        drop(line);
        Some(Permit { admission: Arc::clone(self), place, bytes })
    }

    pub(crate) fn waiting(&self, now: Instant) -> Waiting {
        self.lock().waiting(now)
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's room in the inbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    place: u64,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.lock().leave(self.place, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn criticality() -> impl Strategy<Value = Criticality> {
        prop::sample::select(Criticality::ALL.to_vec())
    }

    const WAIT_MAX: Duration = Duration::from_secs(1);

    fn admission(requests_max: usize, bytes_max: usize) -> Arc<Admission> {
        Arc::new(Admission::new(Bounds { requests_max, bytes_max, wait_max: WAIT_MAX }))
    }

    #[test]
    fn low_criticality_is_refused_first() {
        let (admission, now) = (admission(20, 1_000_000), Instant::now());
        let mut permits = Vec::new();
        let mut fill = |criticality| {
            while let Some(permit) = admission.admit(criticality, 10, now) {
                permits.push(permit);
            }
            permits.len()
        };
        assert_eq!(Criticality::ALL.map(&mut fill), [10, 15, 18, 20]);
        drop(permits);
        assert_eq!(admission.waiting(now), Waiting::default());
    }

    #[test]
    fn an_empty_inbox_takes_the_least_critical() {
        let (admission, now) = (admission(1, 100), Instant::now());
        let permit = admission.admit(Criticality::Low, 100, now).expect("there is room");
        assert!(admission.admit(Criticality::Vital, 1, now).is_none());
        drop(permit);
        assert!(admission.admit(Criticality::Vital, 101, now).is_none());
    }

    #[test]
    fn whoever_would_wait_too_long_is_refused_but_for_the_vital() {
        let (admission, begin) = (admission(20, 100), Instant::now());
        let first = admission.admit(Criticality::Low, 1, begin);
        let second = admission.admit(Criticality::Low, 1, begin + WAIT_MAX / 2);
        assert!(second.is_some());
        let admitted = |now| Criticality::ALL.map(|each| admission.admit(each, 1, now).is_some());
        assert_eq!(admitted(begin + WAIT_MAX * 7 / 10), [false, true, true, true]);
        assert_eq!(admitted(begin + WAIT_MAX * 2), [false, false, false, true]);
        // Now the second is the first.
        drop(first);
        assert_eq!(admitted(begin + WAIT_MAX), [true; 4]);
    }

    proptest! {
        /// Whatever comes and goes: the bounds hold, the account is right, and who is refused is never more critical than
        /// somebody as large who would be admitted.
        #[test]
        fn bounds_hold_and_the_more_critical_is_admitted_where_the_less_critical_is(
            requests_max in 1usize..40,
            bytes_max in 1usize..4_000,
            steps in prop::collection::vec(
                (criticality(), 0usize..500, any::<prop::sample::Index>(), any::<bool>(), 0u64..100),
                1..200,
            ),
        ) {
            let admission = admission(requests_max, bytes_max);
            let mut permits: Vec<(Instant, Permit)> = Vec::new();
            let mut now = Instant::now();
            for (criticality, bytes, which, leaves, pause_ms) in steps {
                now += Duration::from_millis(pause_ms);
                if leaves && !permits.is_empty() {
                    drop(permits.swap_remove(which.index(permits.len())));
                }
                let before = admission.waiting(now);
                let admitted = Criticality::ALL.map(|each| admission.bounds.admits(before, each, bytes));
                prop_assert!(admitted.is_sorted(), "{admitted:?}");
                let permit = admission.admit(criticality, bytes, now);
                prop_assert_eq!(permit.is_some(), admitted[criticality as usize]);
                permits.extend(permit.map(|permit| (now, permit)));
                let longest = permits.iter().map(|(came, _)| now - *came).max().unwrap_or_default();
                let bytes = permits.iter().map(|(_, permit)| permit.bytes).sum();
                let expected = Waiting { requests: permits.len(), bytes, longest };
                prop_assert_eq!(admission.waiting(now), expected);
                prop_assert!(expected.requests <= requests_max && expected.bytes <= bytes_max);
            }
        }
    }
}
