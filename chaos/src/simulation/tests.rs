//! That a simulation repeats itself, that the kept seeds hold, and that what is broken on purpose is found.

mod lying_disk;

use std::sync::Arc;

use super::{Outcome, simulate, simulate_on};
use crate::check::Violation;
use lying_disk::LyingDisk;

/// One a line, with what it once found or what it stands for.
const KEPT: &str = include_str!("../../seeds.txt");

fn kept_seeds() -> impl Iterator<Item = u64> {
    let lines = KEPT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
}

fn holds(seed: u64) -> Outcome {
    let outcome = simulate(seed);
    assert!(outcome.is_passed(), "{outcome}");
    outcome
}

/// The first two runs also tell whether a seed repeats itself.
#[test]
fn the_kept_seeds_hold_and_a_seed_repeats_itself() {
    let seeds: Vec<u64> = kept_seeds().collect();
    let outcomes: Vec<Outcome> = seeds.iter().map(|seed| holds(*seed)).collect();
    let again = simulate(seeds[0]);
    let differs = again.trace.lines().iter().zip(outcomes[0].trace.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(again.trace_hash, outcomes[0].trace_hash);
    assert_ne!(outcomes[0].trace_hash, outcomes[1].trace_hash, "another seed is another life");
}

#[test]
fn a_disk_that_acknowledges_what_it_did_not_sync_is_found() {
    let outcome = simulate_on(LYING_SEED, |disk| Arc::new(LyingDisk(disk)));
    let is_loss = |violation: &Violation| {
        matches!(
            violation,
            Violation::ReadingLost { .. } | Violation::RegisterBroken { .. } | Violation::CommandBroken { .. }
        )
    };
    assert!(outcome.violations.first.iter().any(is_loss), "{outcome}");
}

/// Its power cuts take entries that a quorum had acknowledged.
const LYING_SEED: u64 = 1;
