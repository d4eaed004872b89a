//! What happened in a simulation, line by line: two runs of one seed have the same lines.

use xxhash_rust::xxh3::xxh3_128;

/// Lines in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn note(&mut self, elapsed_us: i64, what: &str) {
        self.lines.push(format!("{:>10.3} {what}", elapsed_us as f64 / 1e6));
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// XXH3-128 over all lines.
    pub fn hash(&self) -> u128 {
        xxh3_128(self.lines.join("\n").as_bytes())
    }
}
