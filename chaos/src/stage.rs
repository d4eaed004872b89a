//! What a cluster needs under it so that faults can be made: disks, networks and clocks of the nodes' own.
//!
//! Start at [`Stage::make`], before the cluster's first start. Each part is made where the host can; what it lacks is said. The
//! parts come into the nodes through a launcher, a script through which `kvarter dev --launcher` starts each node.
mod clocks;
mod disks;
mod filler;
mod networks;
mod poison;
mod swap;
mod throttle;

use std::fmt::Write;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

pub use clocks::{ClockShift, Clocks};
pub use disks::{DiskError, Disks};
pub(crate) use filler::{Filler, Room};
pub use networks::{CutOff, Networks};
pub use poison::Poison;
pub use swap::SwapError;
pub(crate) use swap::{DiskSwap, copy_running};
pub use throttle::{Throttle, ThrottleError};

use crate::tool::{self, ToolFailed};

/// Through which `kvarter dev --launcher` starts each node; in the data directory.
pub(crate) const LAUNCHER: &str = "launch";

/// Why a host can not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostUnable {
    #[error("it needs root")]
    NotRoot,
    #[error("there are no {what} here")]
    Lacks { what: &'static str },
    #[error("{tool} is not installed")]
    ToolMissing { tool: &'static str },
    #[error("the kernel refuses: {reason}")]
    Refused { reason: String },
    /// The cluster was started without what the fault needs.
    #[error("node {node} has no {what} of its own; see `stage make`")]
    NotStaged { node: u64, what: &'static str },
}

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Tool(#[from] ToolFailed),
    #[error("{} holds a cluster with addresses of its own; choose another directory, or remove it", data.display())]
    AlreadyUsed { data: PathBuf },
    #[error("can not use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The ground under the cluster in one data directory.
#[derive(Clone, Debug)]
pub struct Stage {
    data: PathBuf,
}

/// What was made, and what was not and why.
#[derive(Debug)]
pub struct StageParts {
    pub launcher: PathBuf,
    pub disks: Result<(), HostUnable>,
    pub networks: Result<(), HostUnable>,
    pub clocks: Result<(), HostUnable>,
}

impl Stage {
    /// Of the cluster in `data`, which needs not exist yet.
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Makes what the host can for nodes 1 to `nodes`. A disk of `disk_bytes_max` takes what is written.
    pub async fn make(&self, nodes: u64, disk_bytes_max: u64) -> Result<StageParts, StageError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StageError::Io { path, source }
        };
        std::fs::create_dir_all(&self.data).map_err(at(&self.data))?;
        let data = self.data.canonicalize().map_err(at(&self.data))?;
        let disks = match Disks::host_unable() {
            Some(unable) => Err(unable),
            None => Ok(Disks::of(&data).make(nodes, disk_bytes_max).await?),
        };
        let networks = match networks::host_unable().await {
            Some(unable) => Err(unable),
            None => Ok(Networks::of(&data).make(nodes).await?),
        };
        let clocks = Clocks::of(&data).make(nodes).map_err(at(&data))?;
        let launcher = data.join(LAUNCHER);
        let script = script(&data, networks.is_ok(), clocks.as_ref().ok().map(PathBuf::as_path));
        std::fs::write(&launcher, script).map_err(at(&launcher))?;
        std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).map_err(at(&launcher))?;
        Ok(StageParts { launcher, disks, networks, clocks: clocks.map(drop) })
    }

    /// Takes everything down that [`Stage::make`] has made, the disks with all that is on them.
    pub async fn remove(&self) -> Result<(), StageError> {
        Disks::of(&self.data).remove().await?;
        Networks::of(&self.data).remove().await?;
        Clocks::of(&self.data).remove()?;
        remove_if_made(&self.data.join(LAUNCHER))
    }
}

fn remove_if_made(file: &Path) -> Result<(), StageError> {
    match std::fs::remove_file(file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StageError::Io { path: file.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Puts node `$1` where it belongs, then becomes the rest of the command line.
fn script(data: &Path, has_networks: bool, clock_library: Option<&Path>) -> String {
    let mut script = "#!/bin/sh\nnode=$1; shift\n".to_owned();
    let mut prefix = String::new();
    if has_networks {
        // The network alone: in a mount namespace of its own, a node would hold on to disks that are to be unmounted.
        prefix += &format!("nsenter --net={} ", Networks::namespace_file("$node"));
    }
    if let Some(library) = clock_library {
        let (library, file) = (library.display(), Clocks::file_pattern(data));
        write!(
            prefix,
            "env LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=\"{file}\" FAKETIME_CACHE_DURATION=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1 "
        )
        .expect("a string takes what is written to it");
    }
    script += &format!("exec {prefix}env {} \"$@\"\n", Poison::setting());
    script
}

/// What keeps this process from using `tools` as root.
fn unable_as_root(tools: &[&'static str]) -> Option<HostUnable> {
    unable(geteuid().is_root(), tools, tool::is_installed)
}

fn unable(is_root: bool, tools: &[&'static str], is_installed: impl Fn(&str) -> bool) -> Option<HostUnable> {
    if !is_root {
        return Some(HostUnable::NotRoot);
    }
    tools.iter().find(|tool| !is_installed(tool)).map(|tool| HostUnable::ToolMissing { tool })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_what_it_lacks() {
        let tools = ["mount", "xfs_io"];
        assert_eq!(unable(false, &tools, |_| true), Some(HostUnable::NotRoot));
        let without = |tool: &str| tool != "xfs_io";
        assert_eq!(unable(true, &tools, without), Some(HostUnable::ToolMissing { tool: "xfs_io" }));
        assert_eq!(unable(true, &tools, |_| true), None);
    }

    #[test]
    fn what_can_not_be_removed_is_said_and_what_was_not_made_is_nothing() {
        let data = tempfile::tempdir().unwrap();
        let launcher = data.path().join(LAUNCHER);
        remove_if_made(&launcher).unwrap();
        std::fs::write(&launcher, "").unwrap();
        remove_if_made(&launcher).unwrap();
        assert!(!launcher.exists());
        std::fs::create_dir(&launcher).unwrap();
        assert!(matches!(remove_if_made(&launcher), Err(StageError::Io { path, .. }) if path == launcher));
    }

    #[test]
    fn a_launcher_puts_nodes_where_the_host_can() {
        let data = Path::new("/d");
        assert!(
            script(data, false, None).ends_with("\nexec env KVARTER_NODE__DRILL__POISON_NUMBER=33.312345 \"$@\"\n")
        );
        let all = script(data, true, Some(Path::new("/lib/faketime.so")));
        assert!(all.contains("exec nsenter --net=/run/netns/kvarter-$node env LD_PRELOAD=/lib/faketime.so "), "{all}");
        assert!(all.contains("FAKETIME_TIMESTAMP_FILE=\"/d/node$node.clock\""), "{all}");
    }
}
