//! Who may still enter a shard's inbox: bounds on requests and bytes, with room kept for what is more critical.
//!
//! [`Bounds::admits`] is the rule, pure; [`Admission`] keeps the account. Whoever is admitted holds a [`Permit`] until its
//! answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Criticality;

/// The most that may wait at a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) requests_max: usize,
    pub(crate) bytes_max: usize,
}

/// What waits at a shard, or is being committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

impl Bounds {
    /// Whether a request of `bytes` may join what is `waiting`. An empty inbox takes whatever its bounds allow.
    fn admits(self, waiting: Waiting, criticality: Criticality, bytes: usize) -> bool {
        let Self { requests_max, bytes_max } = self;
        if waiting == Waiting::default() {
            return requests_max > 0 && bytes <= bytes_max;
        }
        waiting.requests < criticality.share_of(requests_max)
            && waiting.bytes.checked_add(bytes).is_some_and(|all| all <= criticality.share_of(bytes_max))
    }
}

/// How many requests this node refused, by criticality, since it started.
#[derive(Debug, Default)]
pub(crate) struct RefusalCounters([AtomicU64; Criticality::ALL.len()]);

impl RefusalCounters {
    pub(crate) fn count(&self, criticality: Criticality) {
        self.0[criticality as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, criticality: Criticality) -> u64 {
        self.0[criticality as usize].load(Ordering::Relaxed)
    }
}

/// The account of one inbox.
#[derive(Debug)]
pub(crate) struct Admission {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
}

impl Admission {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: Mutex::default() }
    }

    /// `None`: there is no room for a request like this now. Never waits.
    pub(crate) fn admit(self: &Arc<Self>, criticality: Criticality, bytes: usize) -> Option<Permit> {
        let mut waiting = self.lock();
        if !self.bounds.admits(*waiting, criticality, bytes) {
            return None;
        }
        waiting.requests += 1;
        waiting.bytes += bytes;
        drop(waiting);
        Some(Permit { admission: Arc::clone(self), bytes })
    }

    pub(crate) fn waiting(&self) -> Waiting {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's room in the inbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut waiting = self.admission.lock();
        waiting.requests -= 1;
        waiting.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn criticality() -> impl Strategy<Value = Criticality> {
        prop::sample::select(Criticality::ALL.to_vec())
    }

    #[test]
    fn low_criticality_is_refused_first() {
        let admission = Arc::new(Admission::new(Bounds { requests_max: 20, bytes_max: 1_000_000 }));
        let mut permits = Vec::new();
        let mut fill = |criticality| {
            while let Some(permit) = admission.admit(criticality, 10) {
                permits.push(permit);
            }
            permits.len()
        };
        assert_eq!(Criticality::ALL.map(&mut fill), [10, 15, 18, 20]);
        drop(permits);
        assert_eq!(admission.waiting(), Waiting::default());
    }

    #[test]
    fn an_empty_inbox_takes_the_least_critical() {
        let admission = Arc::new(Admission::new(Bounds { requests_max: 1, bytes_max: 100 }));
        let permit = admission.admit(Criticality::Low, 100).expect("there is room");
        assert!(admission.admit(Criticality::Vital, 1).is_none());
        drop(permit);
        assert!(admission.admit(Criticality::Vital, 101).is_none());
    }

    proptest! {
        /// Whatever comes and goes: the bounds hold, the account is right, and who is refused is never more critical than
        /// somebody as large who would be admitted.
        #[test]
        fn bounds_hold_and_the_more_critical_is_admitted_where_the_less_critical_is(
            requests_max in 1usize..40,
            bytes_max in 1usize..4_000,
            steps in prop::collection::vec((criticality(), 0usize..500, any::<prop::sample::Index>(), any::<bool>()), 1..200),
        ) {
            let bounds = Bounds { requests_max, bytes_max };
            let admission = Arc::new(Admission::new(bounds));
            let mut permits: Vec<Permit> = Vec::new();
            for (criticality, bytes, which, leaves) in steps {
                if leaves && !permits.is_empty() {
                    drop(permits.swap_remove(which.index(permits.len())));
                }
                let before = admission.waiting();
                let admitted = Criticality::ALL.map(|each| bounds.admits(before, each, bytes));
                prop_assert!(admitted.is_sorted(), "{admitted:?}");
                let permit = admission.admit(criticality, bytes);
                prop_assert_eq!(permit.is_some(), admitted[criticality as usize]);
                permits.extend(permit);
                let expected = Waiting { requests: permits.len(), bytes: permits.iter().map(|permit| permit.bytes).sum() };
                prop_assert_eq!(admission.waiting(), expected);
                prop_assert!(expected.requests <= requests_max && expected.bytes <= bytes_max);
            }
        }
    }
}
