//! Whom a node refused, and when they may come again: one after another, so that what refusing them costs has a bound however
//! many they are. [`Turns`] is pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Criticality;

/// Between two who come again, of each criticality: a refusal costs about a tenth of it.
const INTERVAL: Duration = Duration::from_millis(1);

/// Nobody is sent away for longer. When as many are away as come again in that time, further ones come between them.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// The refusals of a node since it started.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Criticality::ALL.len()],
    turns: Mutex<Turns>,
}

impl Refusals {
    /// Refuses a request, and returns after which time its caller may try again.
    pub(crate) fn refuse(&self, criticality: Criticality, now: Instant, random: u64) -> Duration {
        self.counts[criticality as usize].fetch_add(1, Ordering::Relaxed);
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).after(criticality, now, random)
    }

    /// How many requests of `criticality` were refused.
    pub(crate) fn of(&self, criticality: Criticality) -> u64 {
        self.counts[criticality as usize].load(Ordering::Relaxed)
    }
}

/// The turns that those who were refused have to come again.
#[derive(Debug, Default)]
struct Turns {
    /// The last turn of each criticality.
    last: [Option<Instant>; Criticality::ALL.len()],
}

impl Turns {
    /// After which time one who is refused `now` may try again; `random` spreads those who come together.
    fn after(&mut self, criticality: Criticality, now: Instant, random: u64) -> Duration {
        let least = least(criticality);
        let last = &mut self.last[criticality as usize];
        let turn = last.map_or(now, |last| last.max(now)) + INTERVAL;
        let spread =
            |time: Duration| Duration::from_micros(random % (u64::try_from(time.as_micros()).unwrap_or(0) + 1));
        if turn - now > AWAY_MAX {
            return least + spread(AWAY_MAX);
        }
        *last = Some(turn);
        least + (turn - now) + spread(least)
    }
}

/// The less critical, the later.
fn least(criticality: Criticality) -> Duration {
    Duration::from_millis(match criticality {
        Criticality::Low => 400,
        Criticality::Normal => 100,
        Criticality::High => 50,
        Criticality::Vital => 25,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_come_again_one_after_another() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let mut after = |now| turns.after(Criticality::High, now, 0);
        let first = after(now);
        let waits: Vec<_> = (0..1_000).map(|_| after(now)).collect();
        assert!(waits.is_sorted());
        assert_eq!(*waits.last().unwrap() - first, INTERVAL * 1_000);
        // All of them are back.
        assert_eq!(after(now + AWAY_MAX), first);
    }

    #[test]
    fn nobody_is_sent_away_for_long() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        for random in 0..100_000 {
            for criticality in Criticality::ALL {
                let after = turns.after(criticality, now, random * 7_919);
                assert!((least(criticality)..=least(criticality) * 2 + AWAY_MAX).contains(&after), "{after:?}");
            }
        }
    }

    #[test]
    fn the_less_critical_come_again_later() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let waits = Criticality::ALL.map(|each| turns.after(each, now, 0));
        assert!(waits.iter().rev().is_sorted(), "{waits:?}");
    }
}
