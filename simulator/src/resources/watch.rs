//! What the nodes use over time, from looks at their processes.
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{NodeProcesses, Usage};

/// What one node used between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct UsagePoint {
    /// Of the second look.
    pub at_s: f64,
    /// Processors busy, on average.
    pub processors: f64,
    pub resident_bytes: u64,
    pub written_bytes_per_s: f64,
}

/// Looks at the nodes again and again.
#[derive(Clone, Debug)]
pub struct UsageWatch {
    processes: NodeProcesses,
    /// By node: its process, and when it had used what.
    last: BTreeMap<u64, (u32, Duration, Usage)>,
    points: BTreeMap<u64, Vec<UsagePoint>>,
}

impl UsageWatch {
    pub fn new(processes: NodeProcesses) -> Self {
        Self { processes, last: BTreeMap::new(), points: BTreeMap::new() }
    }

    /// A node that is down, or has just come back as another process, has no point for this look.
    pub fn look(&mut self, at: Duration) {
        for node in self.processes.current().unwrap_or_default() {
            let Ok(usage) = Usage::of(node.pid) else { continue };
            let last = self.last.insert(node.id, (node.pid, at, usage));
            if let Some((_, before, used)) = last.filter(|(pid, before, _)| *pid == node.pid && *before < at) {
                self.points.entry(node.id).or_default().push(point(before, &used, at, &usage));
            }
        }
    }

    /// By id of the node.
    pub fn points(self) -> BTreeMap<u64, Vec<UsagePoint>> {
        self.points
    }
}

fn point(before: Duration, used: &Usage, at: Duration, usage: &Usage) -> UsagePoint {
    let seconds = (at - before).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 bytes")]
    let written = usage.written_bytes.saturating_sub(used.written_bytes) as f64;
    UsagePoint {
        at_s: at.as_secs_f64(),
        processors: usage.cpu.saturating_sub(used.cpu).as_secs_f64() / seconds,
        resident_bytes: usage.resident_bytes,
        written_bytes_per_s: written / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_told_for_each_second() {
        let (s, kib) = (Duration::from_secs, 1_024);
        let used = Usage { cpu: s(3), resident_bytes: kib, anonymous_bytes: 0, written_bytes: 10 * kib };
        let usage = Usage { cpu: s(6), resident_bytes: 2 * kib, anonymous_bytes: 0, written_bytes: 14 * kib };
        let point = point(s(10), &used, s(12), &usage);
        let expected =
            UsagePoint { at_s: 12.0, processors: 1.5, resident_bytes: 2 * kib, written_bytes_per_s: 2_048.0 };
        assert_eq!(point, expected);
    }

    #[test]
    fn the_first_look_at_a_process_tells_nothing_yet() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.json");
        std::fs::write(&file, format!(r#"[{{"id": 1, "pid": {}, "api_address": "a"}}]"#, std::process::id())).unwrap();
        let mut watch = UsageWatch::new(NodeProcesses::open(&file).unwrap());
        watch.look(Duration::ZERO);
        assert!(watch.clone().points().is_empty());
        watch.look(Duration::from_secs(1));
        assert_eq!(watch.points()[&1].len(), 1);
    }
}
