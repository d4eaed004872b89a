//! Disks of their own for the nodes of a development cluster, so that a power cut can be rehearsed.
//!
//! Each node's data directory is the mount point of an ext4 file system in a sparse image file beside it. A cut is the file
//! system's shutdown without flushing its log: from that moment nothing reaches the image, and what was not synced is gone. The
//! ioctl needs `unsafe` code, which this workspace forbids, so `xfs_io` (Debian's `xfsprogs`) makes it; it knows ext4 too. What
//! a device keeps in a volatile cache of its own is not rehearsed: the image has none.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kvarter_simulator::wall_clock;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::HostUnable;
use crate::tool::{ToolFailed, run};

/// A node's file that takes up room until it needs that; it lays it anew.
pub(super) const BALLAST: &str = "ballast";
const TOOLS: [&str; 5] = ["fsfreeze", "mkfs.ext4", "mount", "umount", "xfs_io"];
const IMAGE_SUFFIX: &str = ".ext4";
/// Beside a frozen disk, with the name of its freeze; gone once the disk was thawed.
const FREEZE_SUFFIX: &str = ".frozen";
/// Waits, and thaws a disk that is still in the freeze that it was started for.
const WATCHDOG: &str = r#"sleep "$1"; if [ "$(cat "$2")" = "$3" ]; then fsfreeze -u "$4"; fi"#;
/// Written and not synced before a cut; afterwards its bytes must be gone.
const WITNESS: &str = "written-before-the-cut";
const WITNESS_BYTES: [u8; 512] = [0x5a; 512];
/// How long a file system may be in use after its node's process has gone.
const UNMOUNT_MAX: Duration = Duration::from_secs(5);
const UNMOUNT_INTERVAL: Duration = Duration::from_millis(50);
/// A write that takes so long is stuck.
const FREEZE_PROOF: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("node {node} has no disk of its own in {}; `kvarter-chaos stage make` makes one before the cluster's first start", data.display())]
    NotMounted { node: u64, data: PathBuf },
    #[error("{} holds data, which a disk would hide; choose another directory", directory.display())]
    DirectoryInUse { directory: PathBuf },
    #[error(transparent)]
    Tool(#[from] ToolFailed),
    #[error("the disk of node {node} was cut, and yet kept what was not synced")]
    CutWithoutEffect { node: u64 },
    #[error("can not use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The disks in one data directory of `kvarter dev`.
#[derive(Clone, Debug)]
pub struct Disks {
    data: PathBuf,
}

impl Disks {
    /// Says why this host can not give nodes disks of their own, if it can not.
    pub fn host_unable() -> Option<HostUnable> {
        super::unable_as_root(&TOOLS).or_else(|| {
            (!Path::new("/dev/loop-control").exists()).then_some(HostUnable::Lacks { what: "loop devices" })
        })
    }

    /// Of the cluster in `data`, which needs not exist yet.
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Makes and mounts the disks of nodes 1 to `nodes` that are not there yet. A disk of `bytes_max` takes what is written.
    pub async fn make(&self, nodes: u64, bytes_max: u64) -> Result<(), DiskError> {
        for node in 1..=nodes {
            let (image, directory) = (self.image(node), self.directory(node));
            std::fs::create_dir_all(&directory).map_err(on(&directory))?;
            if self.is_mounted(node)? {
                continue;
            }
            if std::fs::read_dir(&directory).map_err(on(&directory))?.next().is_some() {
                return Err(DiskError::DirectoryInUse { directory });
            }
            if !image.exists() {
                File::create(&image).and_then(|file| file.set_len(bytes_max)).map_err(on(&image))?;
                run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image)).await?;
            }
            self.mount(node).await?;
        }
        Ok(())
    }

    /// Unmounts and deletes all disks, whoever made them, with all that is on them. Returns how many there were.
    pub async fn remove(&self) -> Result<usize, DiskError> {
        let nodes = self.nodes()?;
        for node in &nodes {
            if self.is_mounted(*node)? {
                self.unmount(*node).await?;
            }
            for (path, removed) in [
                (self.image(*node), std::fs::remove_file(self.image(*node))),
                (self.directory(*node), std::fs::remove_dir(self.directory(*node))),
            ] {
                removed.map_err(on(&path))?;
            }
        }
        Ok(nodes.len())
    }

    /// Refuses when one of `nodes` is not on a disk of its own.
    pub fn check(&self, nodes: &[u64]) -> Result<(), DiskError> {
        for node in nodes {
            if !self.is_mounted(*node)? {
                return Err(DiskError::NotMounted { node: *node, data: self.data.clone() });
            }
        }
        Ok(())
    }

    /// Cuts the power of the disks of `nodes`, as near to the same moment as starting a program for each allows. Their
    /// processes must be killed next; [`Disks::power_on`] brings back what was synced.
    pub async fn cut(&self, nodes: &[u64]) -> Result<(), DiskError> {
        self.check(nodes)?;
        for node in nodes {
            let witness = self.directory(*node).join(WITNESS);
            std::fs::write(&witness, WITNESS_BYTES).map_err(on(&witness))?;
        }
        let mut cuts = tokio::task::JoinSet::new();
        for node in nodes {
            let directory = self.directory(*node);
            // Without its option -f, the shutdown does not flush the file system's log.
            cuts.spawn(async move { run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&directory)).await });
        }
        let cut: Result<Vec<_>, _> = cuts.join_all().await.into_iter().collect();
        Ok(cut.map(drop)?)
    }

    /// Unmounts the disk of `node` and mounts it again, as after a reboot, and proves that the cut took effect. No process may
    /// use the disk any more.
    pub async fn power_on(&self, node: u64) -> Result<(), DiskError> {
        self.unmount(node).await?;
        self.mount(node).await?;
        let witness = self.directory(node).join(WITNESS);
        let kept = match std::fs::read(&witness) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(DiskError::Io { path: witness, source }),
        };
        // Syncs of other files may have saved its name, but not its bytes.
        std::fs::remove_file(&witness).map_err(on(&witness))?;
        if kept == WITNESS_BYTES { Err(DiskError::CutWithoutEffect { node }) } else { Ok(()) }
    }

    /// Stops every write to the disk of `node`, its syncs included, until [`Disks::thaw`], and for `time_max` at most: a process
    /// that writes meanwhile can not even be killed, so the system itself is told to thaw the disk if nobody does.
    pub async fn freeze_for(&self, node: u64, time_max: Duration) -> Result<(), DiskError> {
        self.check(&[node])?;
        self.watchdog(node, time_max)?.spawn().map_err(on(&self.directory(node)))?;
        self.freeze(node).await
    }

    /// Thaws the disk of `node` after `time_max`, unless [`Disks::thaw`] has done that: a later freeze is none of its business.
    fn watchdog(&self, node: u64, time_max: Duration) -> Result<Command, DiskError> {
        let (file, freeze) = (self.freeze_file(node), wall_clock().as_nanosecond().to_string());
        std::fs::write(&file, &freeze).map_err(on(&file))?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "sh"]).arg(time_max.as_secs().to_string());
        watchdog.arg(file).arg(freeze).arg(self.directory(node));
        watchdog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It outlives this program, whatever happens to it.
        watchdog.process_group(0);
        Ok(watchdog)
    }

    async fn freeze(&self, node: u64) -> Result<(), DiskError> {
        self.check(&[node])?;
        run(Command::new("fsfreeze").arg("-f").arg(self.directory(node))).await?;
        Ok(())
    }

    /// Lets a frozen disk write again; another one is left as it is.
    pub async fn thaw(&self, node: u64) -> Result<(), DiskError> {
        let directory = self.directory(node);
        let mut thaw = Command::new("fsfreeze");
        thaw.arg("-u").arg(&directory);
        if run(&mut thaw).await.is_err() {
            // One that is not frozen can not be thawed; that it can be frozen tells.
            self.freeze(node).await?;
            run(&mut thaw).await?;
        }
        self.dismiss_watchdog(node)
    }

    fn dismiss_watchdog(&self, node: u64) -> Result<(), DiskError> {
        let file = self.freeze_file(node);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(on(&file)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether a write to the disk of `node` gets stuck. The writer is left behind: it ends when the disk thaws.
    pub async fn is_frozen(&self, node: u64) -> bool {
        let file = self.directory(node).join(WITNESS);
        let mut writer = Command::new("sh");
        writer.args(["-c", "echo x > \"$1\" && rm \"$1\"", "sh"]).arg(file);
        let Ok(mut writer) = writer.stdin(Stdio::null()).spawn() else { return false };
        timeout(FREEZE_PROOF, writer.wait()).await.is_err()
    }

    async fn mount(&self, node: u64) -> Result<(), DiskError> {
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "ext4", "-o", "loop"]).arg(self.image(node)).arg(self.directory(node))).await?;
        Ok(())
    }

    async fn unmount(&self, node: u64) -> Result<(), DiskError> {
        let give_up = Instant::now() + UNMOUNT_MAX;
        loop {
            match run(Command::new("umount").arg(self.directory(node))).await {
                Err(_in_use) if Instant::now() < give_up => sleep(UNMOUNT_INTERVAL).await,
                unmounted => return Ok(unmounted.map(drop)?),
            }
        }
    }

    /// Whether the node's directory is on another file system than the data directory.
    fn is_mounted(&self, node: u64) -> Result<bool, DiskError> {
        let device = |path: &Path| match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.dev())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError::Io { path: path.to_owned(), source }),
        };
        let (outer, inner) = (device(&self.data)?, device(&self.directory(node))?);
        Ok(inner.is_some() && inner != outer)
    }

    /// Nodes with an image.
    fn nodes(&self) -> Result<Vec<u64>, DiskError> {
        let mut nodes = Vec::new();
        for entry in std::fs::read_dir(&self.data).map_err(on(&self.data))? {
            let name = entry.map_err(on(&self.data))?.file_name();
            nodes.extend(name.to_str().and_then(node_of_image));
        }
        nodes.sort_unstable();
        Ok(nodes)
    }

    fn image(&self, node: u64) -> PathBuf {
        self.data.join(format!("node{node}{IMAGE_SUFFIX}"))
    }

    fn freeze_file(&self, node: u64) -> PathBuf {
        self.data.join(format!("node{node}{FREEZE_SUFFIX}"))
    }

    /// Where the node has its stores.
    pub(crate) fn directory(&self, node: u64) -> PathBuf {
        self.data.join(format!("node{node}"))
    }
}

fn node_of_image(name: &str) -> Option<u64> {
    name.strip_prefix("node")?.strip_suffix(IMAGE_SUFFIX)?.parse().ok()
}

fn on(path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn images_are_known_by_their_names() {
        let disks = Disks::of(Path::new("data"));
        let name = disks.image(12).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(node_of_image(&name), Some(12));
        assert_eq!(["node1", "node1.log", "nodex.ext4", "other.ext4"].map(node_of_image), [None; 4]);
    }

    #[tokio::test]
    async fn a_watchdog_thaws_the_freeze_that_it_was_started_for_and_no_later_one() {
        let data = tempfile::tempdir().unwrap();
        let (disks, tools) = (Disks::of(data.path()), data.path().join("tools"));
        std::fs::create_dir(&tools).unwrap();
        let fsfreeze = tools.join("fsfreeze");
        std::fs::write(&fsfreeze, "#!/bin/sh\necho thawed > \"$2.thawed\"\n").unwrap();
        std::fs::set_permissions(&fsfreeze, Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let has_thawed = async |mut watchdog: Command| {
            watchdog.env("PATH", &path).status().await.unwrap();
            std::fs::remove_file(data.path().join("node1.thawed")).is_ok()
        };
        assert!(has_thawed(disks.watchdog(1, Duration::ZERO).unwrap()).await, "nobody else did");
        let dismissed = disks.watchdog(1, Duration::ZERO).unwrap();
        disks.dismiss_watchdog(1).unwrap();
        assert!(!has_thawed(dismissed).await, "the disk was thawed");
        let earlier = disks.watchdog(1, Duration::ZERO).unwrap();
        disks.dismiss_watchdog(1).unwrap();
        let later = disks.watchdog(1, Duration::ZERO).unwrap();
        assert!(!has_thawed(earlier).await, "another freeze has begun");
        assert!(has_thawed(later).await);
    }

    #[tokio::test]
    async fn a_plain_directory_is_neither_a_disk_nor_hidden_by_one() {
        let data = tempfile::tempdir().unwrap();
        let disks = Disks::of(data.path());
        assert!(matches!(disks.check(&[1]), Err(DiskError::NotMounted { node: 1, .. })));
        std::fs::create_dir(disks.directory(1)).unwrap();
        assert!(matches!(disks.cut(&[1]).await, Err(DiskError::NotMounted { node: 1, .. })));
        std::fs::write(disks.directory(1).join("log"), "data").unwrap();
        assert!(matches!(disks.make(1, 1 << 20).await, Err(DiskError::DirectoryInUse { .. })));
        assert_eq!(disks.remove().await.unwrap(), 0);
        assert!(disks.directory(1).join("log").exists());
    }
}
