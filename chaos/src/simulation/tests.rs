//! That a simulation finds what is broken on purpose. The kept seeds are played in `chaos/tests/simulation.rs`.

mod lying_disk;

use std::sync::Arc;

use super::nemesis::Fault;
use super::simulate_on;
use crate::check::Violation;
use lying_disk::LyingDisk;

/// Its power cuts take what a quorum had acknowledged.
const SEED: u64 = 1;

#[test]
fn a_disk_that_acknowledges_what_it_did_not_sync_is_found() {
    let cut_of_all = Fault::PowerCut(vec![1, 2, 3]);
    let outcome = simulate_on(SEED, |disk| Arc::new(LyingDisk::new(disk)), Some(cut_of_all));
    let is_loss = |violation: &Violation| match violation {
        Violation::ReadingLost { .. } | Violation::RegisterBroken { .. } | Violation::CommandBroken { .. } => true,
        Violation::Broken { what } => what.contains("parts were acknowledged, the shard has"),
        _ => false,
    };
    assert!(outcome.violations.first.iter().any(is_loss), "{outcome}");
}
