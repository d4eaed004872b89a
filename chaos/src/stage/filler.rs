//! A file that takes the room on a node's disk, so that a full disk can be rehearsed. The disk must be the node's own.
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::disks::{BALLAST, Disks};

const FILLER: &str = "filler";
/// As nodes have it: with less than so much of the disk free, they are full.
const FREE_MIN_PERCENT: u64 = 5;
/// Room that is taken byte by byte, since the file system needs some for itself.
const LAST_BYTES: u64 = 4 << 20;
const PIECE_BYTES: usize = 4096;

/// What is left free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Less than a node needs to take anything in.
    Little,
    Nothing,
}

/// The filler on the disk of one node of the cluster in one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Filler {
    directory: PathBuf,
}

impl Filler {
    pub(crate) fn of(data: &Path, node: u64) -> Self {
        Self { directory: Disks::of(data).directory(node) }
    }

    /// Takes all but `room`.
    pub(crate) fn fill(&self, room: Room) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(self.file())?;
        let (free, total) = self.space()?;
        let left = match room {
            Room::Little => total / 100 * (FREE_MIN_PERCENT - 2),
            Room::Nothing => LAST_BYTES,
        };
        if free > left {
            fallocate(&file, FallocateFlags::empty(), file.metadata()?.len(), free - left)?;
        }
        match room {
            Room::Little => Ok(()),
            Room::Nothing => write_until_full(file),
        }
    }

    /// Whether the disk has less room than a node needs.
    pub(crate) fn is_full(&self) -> io::Result<bool> {
        let (free, total) = self.space()?;
        Ok(free < total / 100 * FREE_MIN_PERCENT)
    }

    /// Gives the room back. Idempotent.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(self.file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether the node has its ballast.
    pub(crate) fn has_ballast(&self) -> bool {
        self.directory.join(BALLAST).exists()
    }

    /// Free and total bytes.
    fn space(&self) -> io::Result<(u64, u64)> {
        let disk = statvfs(&self.directory)?;
        Ok((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILLER)
    }
}

fn write_until_full(mut file: File) -> io::Result<()> {
    loop {
        match file.write_all(&[0; PIECE_BYTES]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
