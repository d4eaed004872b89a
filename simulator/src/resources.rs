//! What processes on this machine use: processor time, memory, bytes written, as Linux tells it below `/proc`.
//!
//! Start at [`NodeProcesses::open`] for the nodes of a development cluster, at [`Usage::of`] for any process, at
//! [`UsageWatch`] for what nodes use over time.
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};
pub use watch::{UsagePoint, UsageWatch};

/// What one process has used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time, user and system, all threads.
    #[serde(rename = "cpu_s", serialize_with = "crate::resources::as_seconds")]
    pub cpu: Duration,
    pub resident_bytes: u64,
    /// Of the resident bytes, those that are no pages of files: they can not be dropped and read again.
    pub anonymous_bytes: u64,
    /// Handed to the file system for writing to a disk.
    pub written_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("can not read {}; has process {pid} ended?", file.display())]
    Unreadable { file: PathBuf, pid: u32, source: io::Error },
    #[error("{} has no {field}", file.display())]
    Incomplete { file: PathBuf, field: &'static str },
    #[error("can not read {}; does the cluster run on this machine?", file.display())]
    NoFleet { file: PathBuf, source: io::Error },
    #[error("{} does not describe the nodes of a cluster", file.display())]
    MalformedFleet { file: PathBuf, source: serde_json::Error },
}

impl Usage {
    /// Fails when the process has ended. Bytes written are 0 for the process of another user.
    pub fn of(pid: u32) -> Result<Self, UsageError> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| {
            let file = dir.join(name);
            fs::read_to_string(&file).map_err(|source| UsageError::Unreadable { file, pid, source })
        };
        let incomplete = |name: &str, field| UsageError::Incomplete { file: dir.join(name), field };
        let (stat, status) = (read("stat")?, read("status")?);
        let io = read("io").unwrap_or_default();
        Ok(Self {
            cpu: cpu(&stat).ok_or_else(|| incomplete("stat", "processor time"))?,
            resident_bytes: kibibytes(&status, "VmRSS:").ok_or_else(|| incomplete("status", "VmRSS"))?,
            anonymous_bytes: kibibytes(&status, "RssAnon:").ok_or_else(|| incomplete("status", "RssAnon"))?,
            written_bytes: number(&io, "write_bytes:").unwrap_or(0),
        })
    }
}

/// Processor time from `/proc/{pid}/stat`: its second field is a name in brackets, which may have blanks and brackets itself.
fn cpu(stat: &str) -> Option<Duration> {
    const USER: usize = 11;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let ticks = ticks(USER)? + ticks(USER + 1)?;
    let per_s = rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000 / per_s.max(1))?))
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    number(text, field)?.checked_mul(1_024)
}

fn number(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The node processes of a cluster on this machine.
#[derive(Clone, Debug)]
pub struct NodeProcesses {
    fleet_file: PathBuf,
}

/// One element of the fleet file; the file has more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeProcess {
    pub id: u64,
    pub pid: u32,
    /// Host and port of its public API.
    pub api_address: String,
}

impl NodeProcesses {
    /// `fleet_file` is what `kvarter dev` writes: a JSON array of nodes with `id`, `pid` and `api_address`.
    pub fn open(fleet_file: &Path) -> Result<Self, UsageError> {
        let processes = Self { fleet_file: fleet_file.to_owned() };
        processes.current()?;
        Ok(processes)
    }

    /// Where the cluster lives: the directory of the fleet file.
    pub fn dir(&self) -> &Path {
        self.fleet_file.parent().unwrap_or(Path::new("."))
    }

    /// The nodes by id. Read again for each use: a node that ended comes back with another process.
    pub fn current(&self) -> Result<Vec<NodeProcess>, UsageError> {
        let file = || self.fleet_file.clone();
        let text = fs::read(&self.fleet_file).map_err(|source| UsageError::NoFleet { file: file(), source })?;
        let mut nodes: Vec<NodeProcess> =
            serde_json::from_slice(&text).map_err(|source| UsageError::MalformedFleet { file: file(), source })?;
        nodes.sort_by_key(|node| node.id);
        Ok(nodes)
    }
}

pub(crate) fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.anonymous_bytes <= usage.resident_bytes, "{usage:?}");
    }

    #[test]
    fn a_process_that_has_ended_is_an_error() {
        // Process ids end at 2^22.
        assert!(matches!(Usage::of(u32::MAX), Err(UsageError::Unreadable { .. })));
    }

    #[test]
    fn processor_time_is_found_behind_a_strange_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 1 2 3 4 250 50 0 0 20 0 1";
        let ticks = 300 * 1_000_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(cpu(stat), Some(Duration::from_nanos(ticks)));
    }

    #[test]
    fn nodes_are_read_from_the_fleet_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fleet.json");
        assert!(matches!(NodeProcesses::open(&file), Err(UsageError::NoFleet { .. })));
        fs::write(&file, r#"[{"id": 2, "pid": 9, "api_address": "a"}, {"id": 1, "pid": 8, "api_address": "b"}]"#)
            .unwrap();
        let processes = NodeProcesses::open(&file).unwrap();
        let node = |id, pid, api_address: &str| NodeProcess { id, pid, api_address: api_address.to_owned() };
        assert_eq!(processes.current().unwrap(), [node(1, 8, "b"), node(2, 9, "a")]);
        assert_eq!(processes.dir(), dir.path());
    }
}
