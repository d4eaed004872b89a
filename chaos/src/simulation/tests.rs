//! The simulation of this program's own seeds, that it repeats itself, and that it finds what is broken on purpose.

use super::simulate;

#[test]
fn one_seed() {
    drop(tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_ansi(false).with_writer(std::io::stderr).try_init());
    let begun = std::time::Instant::now();
    let outcome = simulate(std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap()));
    println!("{outcome}");
    println!("took {:?}", begun.elapsed());
    for line in outcome.trace.lines().iter().filter(|line| line.len() < 400) {
        println!("{line}");
    }
    assert!(outcome.is_passed(), "{outcome}");
}
