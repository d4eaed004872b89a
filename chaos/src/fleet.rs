//! The node processes under test, as the development cluster describes them in its state file, and the signals that end or stop one.
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Deserialize;

/// One node process. The file has more, e.g. its addresses, which clients get from their profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeProcess {
    pub id: u64,
    pub pid: i32,
    /// Host and port of its public API.
    pub api_address: String,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("can not read the state file {}; does the cluster run?", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("the state file {} is not valid", file.display())]
    Malformed { file: PathBuf, source: serde_json::Error },
    #[error("node {id} is not in the state file")]
    UnknownNode { id: u64 },
    #[error("node {id}: {pid} is not the id of a process")]
    NoProcess { id: u64, pid: i32 },
    #[error("can not send {signal} to process {pid} of node {id}")]
    NotSignalled { id: u64, pid: i32, signal: &'static str, source: io::Error },
}

/// The nodes of one cluster on this machine. Process ids are read again for each use: a killed node comes back with a new one.
#[derive(Clone, Debug)]
pub struct Fleet {
    state_file: PathBuf,
}

/// Where the cluster with this state file lives.
pub fn directory_of(state_file: &Path) -> &Path {
    let parent = state_file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

impl Fleet {
    /// `state_file` is a JSON array of nodes with `id`, `pid` and `api_address`.
    pub fn open(state_file: &Path) -> Result<Self, FleetError> {
        let fleet = Self { state_file: state_file.to_owned() };
        fleet.nodes()?;
        Ok(fleet)
    }

    /// Where the cluster lives: the directory of the state file.
    pub fn data_dir(&self) -> &Path {
        directory_of(&self.state_file)
    }

    /// All nodes, in the order of their ids.
    pub fn nodes(&self) -> Result<Vec<NodeProcess>, FleetError> {
        let file = || self.state_file.clone();
        let text = std::fs::read(&self.state_file).map_err(|source| FleetError::Unreadable { file: file(), source })?;
        let mut nodes: Vec<NodeProcess> =
            serde_json::from_slice(&text).map_err(|source| FleetError::Malformed { file: file(), source })?;
        nodes.sort_by_key(|node| node.id);
        Ok(nodes)
    }

    pub fn node(&self, id: u64) -> Result<NodeProcess, FleetError> {
        self.nodes()?.into_iter().find(|node| node.id == id).ok_or(FleetError::UnknownNode { id })
    }

    /// Kills the process of node `id` and returns what was killed.
    pub fn kill(&self, id: u64) -> Result<NodeProcess, FleetError> {
        let node = self.node(id)?;
        node.kill()?;
        Ok(node)
    }
}

impl NodeProcess {
    /// Whether the process still exists; one that ended and was not waited for yet counts as existing.
    pub fn exists(&self) -> bool {
        self.process().is_ok_and(|pid| test_kill_process(pid).is_ok())
    }

    /// The program that it runs, as long as it does.
    pub fn program(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/exe", self.pid))
    }

    /// Ends the process with SIGKILL: it has no chance to react.
    pub fn kill(&self) -> Result<(), FleetError> {
        self.signal(Signal::KILL, "SIGKILL")
    }

    /// Stops the process with SIGSTOP. [`NodeProcess::is_paused`] says when it stands still.
    pub fn pause(&self) -> Result<(), FleetError> {
        self.signal(Signal::STOP, "SIGSTOP")
    }

    /// Lets a paused process go on; another one notices nothing.
    pub fn resume(&self) -> Result<(), FleetError> {
        self.signal(Signal::CONT, "SIGCONT")
    }

    /// Whether the process is stopped by a signal.
    pub fn is_paused(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| process_state(&stat) == Some('T'))
    }

    fn signal(&self, signal: Signal, name: &'static str) -> Result<(), FleetError> {
        let Self { id, pid, .. } = *self;
        let not_signalled = |source: rustix::io::Errno| {
            let source = source.into();
            FleetError::NotSignalled { id, pid, signal: name, source }
        };
        kill_process(self.process()?, signal).map_err(not_signalled)
    }

    fn process(&self) -> Result<Pid, FleetError> {
        // 0, negative numbers and 1 name groups of processes and the system's first: none of them is a node.
        let named = if self.pid > 1 { Pid::from_raw(self.pid) } else { None };
        named.ok_or(FleetError::NoProcess { id: self.id, pid: self.pid })
    }
}

/// The state letter in the text of `/proc/{pid}/stat`. It follows the program's name, which may hold blanks and parentheses.
fn process_state(stat: &str) -> Option<char> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn state_file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let file = dir.path().join("fleet.json");
        std::fs::write(&file, text).unwrap();
        file
    }

    fn fleet_of(dir: &tempfile::TempDir, pid: i64) -> Result<Fleet, FleetError> {
        let text =
            format!(r#"[{{"id": 2, "pid": {pid}, "api_address": "127.0.0.1:1", "admin_address": "127.0.0.1:2"}}]"#);
        Fleet::open(&state_file(dir, &text))
    }

    #[test]
    fn a_state_file_without_a_directory_is_in_the_current_one() {
        assert_eq!(directory_of(Path::new("fleet.json")), Path::new("."));
        assert_eq!(directory_of(Path::new("/data/fleet.json")), Path::new("/data"));
    }

    #[test]
    fn a_killed_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        let fleet = fleet_of(&dir, child.id().into()).unwrap();
        let node = fleet.kill(2).unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "ended by a signal");
        assert!(!node.exists());
        assert!(matches!(fleet.kill(2), Err(FleetError::NotSignalled { id: 2, .. })));
    }

    #[test]
    fn a_paused_process_stands_still_until_it_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
        let node = fleet_of(&dir, child.id().into()).unwrap().node(2).unwrap();
        node.pause().unwrap();
        while !node.is_paused() {
            std::thread::yield_now();
        }
        node.resume().unwrap();
        while node.is_paused() {
            std::thread::yield_now();
        }
        assert!(node.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!node.is_paused());
    }

    #[test]
    fn a_process_state_is_found_behind_any_name() {
        assert_eq!(process_state("77 (kvarter) T 1 77"), Some('T'));
        assert_eq!(process_state("77 (a) S (b) R 1"), Some('R'));
        assert_eq!(process_state("77"), None);
    }

    #[test]
    fn groups_of_processes_are_never_killed() {
        let dir = tempfile::tempdir().unwrap();
        for pid in [0, 1, -1] {
            assert!(matches!(fleet_of(&dir, pid).unwrap().kill(2), Err(FleetError::NoProcess { .. })));
        }
    }

    #[test]
    fn a_wrong_state_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let malformed = Fleet::open(&state_file(&dir, "{}")).unwrap_err().to_string();
        assert!(malformed.contains("fleet.json"), "{malformed}");
        assert!(matches!(Fleet::open(Path::new("/nowhere/fleet.json")), Err(FleetError::Unreadable { .. })));
        assert!(matches!(fleet_of(&dir, 5).unwrap().node(9), Err(FleetError::UnknownNode { id: 9 })));
    }
}
