//! A slow disk for one process: the kernel's block IO controller lets it write a few times in a second, and no more.
//!
//! It needs cgroup version 1, whose limits hold for a process that is moved there while it runs.
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::{HostUnable, unable_as_root};
use crate::tool::{ToolFailed, run};

const CONTROLLER: &str = "/sys/fs/cgroup/blkio";
const LIMIT: &str = "blkio.throttle.write_iops_device";
const PROCESSES: &str = "cgroup.procs";
/// Writes in a second. A sync takes two or more, so it lasts some tenths of a second.
const WRITES_PER_S: u32 = 10;
/// Synced writes that prove the limit, and the shortest time that so many take under it.
const PROOF_WRITES: u32 = 5;
const PROOF_MIN: Duration = Duration::from_millis(400);
const WITNESS: &str = "written-slowly";

#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    #[error(transparent)]
    Tool(#[from] ToolFailed),
    #[error("can not use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{writes} synced writes of a throttled process took {took:?} only")]
    WithoutEffect { writes: u32, took: Duration },
}

/// The group of one node's process.
#[derive(Clone, Debug)]
pub struct Throttle {
    group: PathBuf,
}

impl Throttle {
    /// Says why this host can not slow a disk down, if it can not.
    pub fn host_unable() -> Option<HostUnable> {
        unable_as_root(&["dd", "sh"]).or_else(|| {
            let limit = Path::new(CONTROLLER).join(LIMIT);
            (!limit.exists()).then_some(HostUnable::Lacks { what: "block IO limits of cgroup version 1" })
        })
    }

    pub fn of(node: u64) -> Self {
        Self { group: Path::new(CONTROLLER).join(format!("kvarter-{node}")) }
    }

    /// Slows the writes of process `pid` to the disk of `directory`.
    pub fn slow(&self, pid: i32, directory: &Path) -> Result<(), ThrottleError> {
        let (major, minor) = device(std::fs::metadata(directory).map_err(on(directory))?.dev());
        std::fs::create_dir_all(&self.group).map_err(on(&self.group))?;
        self.write(LIMIT, &format!("{major}:{minor} {WRITES_PER_S}"))?;
        self.write(PROCESSES, &pid.to_string())
    }

    /// Measures synced writes to `directory` by another process of the group.
    pub async fn prove(&self, directory: &Path) -> Result<(), ThrottleError> {
        let witness = directory.join(WITNESS);
        let begin = Instant::now();
        let script = "echo $$ > \"$1\" && exec dd if=/dev/zero of=\"$2\" bs=4096 count=\"$3\" oflag=dsync status=none";
        let mut dd = Command::new("sh");
        dd.args(["-c", script, "sh"]).arg(self.group.join(PROCESSES)).arg(&witness).arg(PROOF_WRITES.to_string());
        run(&mut dd).await?;
        let took = begin.elapsed();
        std::fs::remove_file(&witness).map_err(on(&witness))?;
        if took < PROOF_MIN { Err(ThrottleError::WithoutEffect { writes: PROOF_WRITES, took }) } else { Ok(()) }
    }

    /// Gives all processes of the group the disk's speed back. Idempotent.
    pub fn release(&self) -> Result<(), ThrottleError> {
        let Ok(processes) = std::fs::read_to_string(self.group.join(PROCESSES)) else { return Ok(()) };
        let outside = Path::new(CONTROLLER).join(PROCESSES);
        for pid in processes.lines() {
            // One that has ended meanwhile needs nothing.
            std::fs::write(&outside, pid).ok();
        }
        std::fs::remove_dir(&self.group).map_err(on(&self.group))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ThrottleError> {
        let path = self.group.join(name);
        std::fs::write(&path, text).map_err(on(&path))
    }
}

/// Major and minor number, as Linux packs them.
fn device(packed: u64) -> (u64, u64) {
    let major = ((packed >> 8) & 0xfff) | ((packed >> 32) & !0xfff);
    (major, (packed & 0xff) | ((packed >> 12) & !0xff))
}

fn on(path: &Path) -> impl FnOnce(io::Error) -> ThrottleError + use<> {
    let path = path.to_owned();
    move |source| ThrottleError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_unpacked() {
        assert_eq!(device(65_024), (254, 0));
        assert_eq!(device((7 << 8) | 3), (7, 3));
        assert_eq!(device((259 << 8) | (1 << 20) | 2), (259, 258));
    }
}
