//! The kept seeds of the simulation, each played in a process of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// One a line, with what it once found or what it stands for.
const KEPT: &str = include_str!("../seeds.txt");

fn kept_seeds() -> Vec<&'static str> {
    let lines = KEPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().next().unwrap()).collect()
}

/// Plays `seed`, which must hold, and returns what happened, with its hash.
fn play(seed: &str) -> String {
    let program = env!("CARGO_BIN_EXE_kvarter-chaos");
    let output = Command::new(program).args(["simulate", "--trace", "--seed", seed]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let verdict = told.lines().rev().take(60).collect::<Vec<_>>();
    assert!(output.status.success(), "{verdict:#?} {}", String::from_utf8_lossy(&output.stderr));
    told
}

/// Snapshots that replicas installed in the life that `told` tells of.
fn snapshots(told: &str) -> u32 {
    let (before, _) = told.rsplit_once(" snapshots").unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn the_kept_seeds_hold_and_a_seed_repeats_itself() {
    let seeds = kept_seeds();
    let told: Vec<String> = seeds.iter().map(|seed| play(seed)).collect();
    assert!(told.iter().any(|told| snapshots(told) > 0), "no replica ever installed a snapshot");
    let again = play(seeds[0]);
    let differs = told[0].lines().zip(again.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert_eq!(told[0].lines().count(), again.lines().count());
    assert_ne!(told[0], told[1], "another seed is another life");
}
