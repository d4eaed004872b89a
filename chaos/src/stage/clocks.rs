//! Clocks of the nodes' own: `libfaketime` in each node reads from a file how far its wall clock is off.
//!
//! The monotonic clock stays right, as it does when a real clock is set.
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{HostUnable, StageError, remove_if_made};

/// Where distributions put the library for programs with threads.
const LIBRARY_DIRS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib64/faketime",
    "/usr/lib/faketime",
];
/// Far more nodes than one host carries.
const NODES_MAX: u64 = 255;

const LIBRARY: &str = "libfaketimeMT.so.1";

/// How far a clock is off, seconds: ahead is positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockShift {
    pub ahead_s: i64,
}

impl fmt::Display for ClockShift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.ahead_s.unsigned_abs();
        write!(f, "{size} s {}", if self.ahead_s < 0 { "behind" } else { "ahead" })
    }
}

/// The clocks of the nodes in one data directory.
#[derive(Clone, Debug)]
pub struct Clocks {
    data: PathBuf,
}

impl Clocks {
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Makes the files of nodes 1 to `nodes`, all clocks right; returns the library that reads them.
    pub(super) fn make(&self, nodes: u64) -> io::Result<Result<PathBuf, HostUnable>> {
        let mut places = LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(LIBRARY));
        let Some(library) = places.find(|place| place.is_file()) else {
            return Ok(Err(HostUnable::ToolMissing { tool: "libfaketime (Debian's package faketime)" }));
        };
        for node in 1..=nodes {
            self.set(node, ClockShift::default())?;
        }
        Ok(Ok(library))
    }

    /// Removes the files of all nodes that have one. A node without has the right time, one whose file stays may go on with a
    /// wrong one, so that is an error.
    pub(super) fn remove(&self) -> Result<(), StageError> {
        (1..=NODES_MAX).try_for_each(|node| remove_if_made(&self.file(node)))
    }

    /// Sets the clock of `node`; it looks within a second.
    pub fn set(&self, node: u64, shift: ClockShift) -> io::Result<()> {
        // Replaced whole: half a number would be another time.
        let (file, fresh) = (self.file(node), self.file(node).with_extension("clock.new"));
        std::fs::write(&fresh, format!("{:+}\n", shift.ahead_s))?;
        std::fs::rename(fresh, file)
    }

    /// Refuses when the process `pid` of `node` does not read its clock from here.
    pub fn check(&self, node: u64, pid: i32) -> Result<(), HostUnable> {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let file = self.data.canonicalize().unwrap_or_else(|_gone| self.data.clone()).join(file_name(node));
        let setting = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
        let reads = environment.split(|byte| *byte == 0).any(|variable| variable == setting.as_bytes());
        if reads && maps.contains(LIBRARY) { Ok(()) } else { Err(HostUnable::NotStaged { node, what: "clock" }) }
    }

    /// The file of node `$node`, as a shell knows it.
    pub(super) fn file_pattern(data: &Path) -> String {
        data.join("node$node.clock").display().to_string()
    }

    fn file(&self, node: u64) -> PathBuf {
        self.data.join(file_name(node))
    }
}

fn file_name(node: u64) -> String {
    format!("node{node}.clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_written_as_the_library_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let clocks = Clocks::of(data.path());
        for (ahead_s, text, words) in
            [(600, "+600\n", "600 s ahead"), (-600, "-600\n", "600 s behind"), (0, "+0\n", "0 s ahead")]
        {
            let shift = ClockShift { ahead_s };
            clocks.set(2, shift).unwrap();
            assert_eq!(std::fs::read_to_string(clocks.file(2)).unwrap(), text);
            assert_eq!(shift.to_string(), words);
        }
    }

    #[test]
    fn a_clock_that_can_not_be_removed_is_said_and_one_that_was_not_made_is_nothing() {
        let data = tempfile::tempdir().unwrap();
        let clocks = Clocks::of(data.path());
        clocks.set(2, ClockShift { ahead_s: 600 }).unwrap();
        clocks.remove().unwrap();
        assert!(!clocks.file(2).exists());
        std::fs::create_dir(clocks.file(3)).unwrap();
        assert!(matches!(clocks.remove(), Err(StageError::Io { path, .. }) if path == clocks.file(3)));
    }

    #[test]
    fn a_process_with_the_right_time_is_not_taken_for_one_with_a_clock_of_its_own() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let unstaged = HostUnable::NotStaged { node: 1, what: "clock" };
        assert_eq!(Clocks::of(Path::new("/d")).check(1, pid), Err(unstaged));
    }
}
