//! That a simulation finds what is broken on purpose. The kept seeds are played in `chaos/tests/simulation.rs`.

mod lying_disk;

use std::process::Command;
use std::sync::Arc;

use super::simulate_on;
use lying_disk::LyingDisk;

/// With honest disks it holds.
const SEED: u64 = 5;

/// Set to the seed in the process that plays the life; it may be ended by the Raft library, which panics where a log went back.
const IS_CHILD: &str = "KVARTER_SIMULATE_WITH_LYING_DISKS";

const LOSSES: [&str; 4] = [
    "acknowledged and not in the feed",
    "parts were acknowledged, the shard has",
    "is no linearizable register",
    "follower log reversion is not allowed",
];

#[test]
fn a_disk_that_acknowledges_what_it_did_not_sync_is_found() {
    if let Some(seed) = std::env::var(IS_CHILD).ok().and_then(|seed| seed.parse().ok()) {
        let outcome = simulate_on(seed, |disk| Arc::new(LyingDisk(disk)));
        assert!(outcome.is_passed(), "{outcome}");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", "simulation::tests::a_disk_that_acknowledges_what_it_did_not_sync_is_found"]);
    let output = child.env(IS_CHILD, SEED.to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && LOSSES.iter().any(|loss| told.contains(loss)), "{told}");
}
