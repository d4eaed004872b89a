//! Another disk in place of a node's: damaged, empty, or of another cluster. The node must not run meanwhile.
//!
//! What the node had is set aside on the same disk and put back later, so that the cluster is whole again for the next fault.
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::disks::{BALLAST, Disks};
use crate::fault::Damage;
use crate::fleet::NodeProcess;
use crate::tool::{ToolFailed, run};

/// In the node's directory: what was there.
const ASIDE: &str = ".aside";
const LOG: &str = "log";
const CHECKPOINTS: &str = "state";
/// In the log: behind it stands the number of a round, that is of a sync.
const ROUND: &[u8] = b"round";
/// One byte of so many is flipped in the checkpoints.
const CHECKPOINT_STRIDE: usize = 64 << 10;
/// How long a city is played into the cluster whose disk is to be another's.
const FOREIGN_LIFE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("can not use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the log in {} is too short to be damaged", directory.display())]
    LogTooShort { directory: PathBuf },
    #[error("another cluster can not be formed")]
    NotFormed(#[from] ToolFailed),
}

/// The disk of one node of the cluster in one data directory.
#[derive(Clone, Debug)]
pub(crate) struct DiskSwap {
    data: PathBuf,
    node: u64,
}

impl DiskSwap {
    pub(crate) fn of(data: &Path, node: u64) -> Self {
        Self { data: data.to_owned(), node }
    }

    /// Forms another cluster beside this one, from the program of `process`, for [`Damage::ForeignDisk`].
    pub(crate) async fn form_foreign(&self, process: &NodeProcess) -> Result<(), SwapError> {
        let directory = self.foreign();
        let life = format!("{}s", FOREIGN_LIFE.as_secs());
        let mut dev = Command::new(process.program());
        dev.args(["dev", "--clean", "--for", &life, "--nodes"]).arg(self.node.max(3).to_string());
        run(dev.arg("--data").arg(&directory)).await?;
        Ok(())
    }

    /// Sets aside what the node has, and puts what `damage` makes of it in its place.
    pub(crate) fn swap(&self, damage: Damage) -> Result<(), SwapError> {
        let (directory, aside) = (self.directory(), self.aside());
        fs::create_dir(&aside).map_err(on(&aside))?;
        move_all(&directory, &aside)?;
        match damage {
            Damage::FlippedLog => {
                copy_all(&aside, &directory)?;
                let (file, place) = last_acknowledged(&directory.join(LOG))?;
                flip(&file, place).map_err(on(&file))
            }
            Damage::ShortLog => {
                copy_all(&aside, &directory)?;
                let (file, place) = last_acknowledged(&directory.join(LOG))?;
                let opened = OpenOptions::new().write(true).open(&file);
                opened.and_then(|cut| cut.set_len(place as u64)).map_err(on(&file))
            }
            Damage::FlippedCheckpoint => {
                copy_all(&aside, &directory)?;
                flip_all(&directory.join(CHECKPOINTS))
            }
            Damage::WipedDisk => Ok(()),
            Damage::ForeignDisk => copy_all(&Disks::of(&self.foreign()).directory(self.node), &directory),
        }
    }

    /// Puts back what was set aside, in place of whatever is there now. Does nothing where nothing was set aside.
    pub(crate) fn swap_back(&self) -> Result<(), SwapError> {
        let (directory, aside) = (self.directory(), self.aside());
        if aside.exists() {
            for path in entries(&directory)?.into_iter().filter(|path| *path != aside) {
                remove(&path)?;
            }
            move_all(&aside, &directory)?;
            fs::remove_dir(&aside).map_err(on(&aside))?;
        }
        self.forget_foreign()
    }

    /// The node goes on with what is there now: forgets what was set aside.
    pub(crate) fn keep(&self) -> Result<(), SwapError> {
        if self.aside().exists() {
            remove(&self.aside())?;
        }
        self.forget_foreign()
    }

    fn forget_foreign(&self) -> Result<(), SwapError> {
        if self.foreign().exists() { remove(&self.foreign()) } else { Ok(()) }
    }

    fn directory(&self) -> PathBuf {
        Disks::of(&self.data).directory(self.node)
    }

    fn aside(&self) -> PathBuf {
        self.directory().join(ASIDE)
    }

    fn foreign(&self) -> PathBuf {
        self.data.join(format!("node{}.foreign", self.node))
    }
}

/// Copies the stores in `from` as a process that runs on them leaves them if it is killed while they are copied: the mark of what
/// the log has first, the log last.
pub(crate) fn copy_running(from: &Path, to: &Path) -> Result<(), SwapError> {
    fs::create_dir_all(to).map_err(on(to))?;
    let mut paths = entries(from)?;
    paths.sort_by_key(|path| (path.is_dir(), path.file_name() == Some(LOG.as_ref())));
    paths.iter().try_for_each(|path| copy(path, to))
}

/// What is in `directory`, sorted; a file system's own directory is not counted.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, SwapError> {
    let listed = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<_> = listed.map_err(on(directory))?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "lost+found"));
    paths.sort();
    Ok(paths)
}

fn move_all(from: &Path, to: &Path) -> Result<(), SwapError> {
    for path in entries(from)?.into_iter().filter(|path| path != to) {
        let Some(name) = path.file_name() else { continue };
        fs::rename(&path, to.join(name)).map_err(on(&path))?;
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<(), SwapError> {
    entries(from)?.iter().try_for_each(|path| copy(path, to))
}

/// Copies a file, or a directory with all that is in it, into `to`, but for the ballast. What is gone meanwhile is left out.
fn copy(path: &Path, to: &Path) -> Result<(), SwapError> {
    let Some(name) = path.file_name().filter(|name| *name != BALLAST) else { return Ok(()) };
    let copy = to.join(name);
    if path.is_dir() {
        fs::create_dir_all(&copy).map_err(on(&copy))?;
        return copy_all(path, &copy);
    }
    match fs::copy(path, &copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(on(path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), SwapError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(on(path))
}

/// The file that the log was appended to last, and where in it stands what was certainly acknowledged: the number of the last
/// round but one, whose checksum every start compares.
fn last_acknowledged(log: &Path) -> Result<(PathBuf, usize), SwapError> {
    let files = entries(log)?.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "raftlog"));
    let too_short = || SwapError::LogTooShort { directory: log.to_owned() };
    let file = files.max().ok_or_else(too_short)?;
    let bytes = fs::read(&file).map_err(on(&file))?;
    let rounds = bytes.windows(ROUND.len()).enumerate().rev().filter(|(_, window)| *window == ROUND);
    let place = rounds.map(|(place, _)| place).nth(1).ok_or_else(too_short)?;
    Ok((file, place))
}

fn flip(path: &Path, place: usize) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place as u64)?;
    file.write_all_at(&[byte[0] ^ 1], place as u64)
}

/// Flips one byte of each [`CHECKPOINT_STRIDE`] in every file below `directory`.
fn flip_all(directory: &Path) -> Result<(), SwapError> {
    for path in entries(directory)? {
        if path.is_dir() {
            flip_all(&path)?;
            continue;
        }
        let mut bytes = fs::read(&path).map_err(on(&path))?;
        bytes.iter_mut().skip(CHECKPOINT_STRIDE / 2).step_by(CHECKPOINT_STRIDE).for_each(|byte| *byte ^= 1);
        File::create(&path).and_then(|mut file| io::Write::write_all(&mut file, &bytes)).map_err(on(&path))?;
    }
    Ok(())
}

fn on(path: &Path) -> impl FnOnce(io::Error) -> SwapError + use<> {
    let path = path.to_owned();
    move |source| SwapError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 2;

    /// A data directory in which node 2 has stores.
    fn data() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("node2");
        for name in ["log", "state/blobs"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        for (name, bytes) in [("identity.json", 10), ("log.round", 16), ("ballast", 99), ("state/db", 200_000)] {
            fs::write(directory.join(name), vec![7; bytes]).unwrap();
        }
        for number in [1, 2] {
            let file = directory.join(format!("log/000{number}.raftlog"));
            fs::write(file, [b"an entry round 1 another round 2 and round 3".as_slice(), &[0; 300]].concat()).unwrap();
        }
        data
    }

    fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let below = |path: PathBuf| {
            if path.is_dir() { snapshot(&path) } else { vec![(path.clone(), fs::read(path).unwrap())] }
        };
        entries(directory).unwrap().into_iter().flat_map(below).collect()
    }

    /// Files that `damage` changed or took away, as paths below the node's directory.
    fn changed(damage: Damage) -> Vec<String> {
        let data = data();
        let (swap, directory) = (DiskSwap::of(data.path(), NODE), data.path().join("node2"));
        let before = snapshot(&directory);
        swap.swap(damage).unwrap();
        let is_changed = |(path, bytes): &&(PathBuf, Vec<u8>)| fs::read(path).ok().as_ref() != Some(bytes);
        let changed = before.iter().filter(is_changed);
        let changed = changed.map(|(path, _)| path.strip_prefix(&directory).unwrap().display().to_string()).collect();
        for _twice in 0..2 {
            swap.swap_back().unwrap();
            assert_eq!(snapshot(&directory), before, "{damage:?}");
        }
        changed
    }

    #[test]
    fn each_damage_is_where_it_should_be_and_all_comes_back() {
        assert_eq!(changed(Damage::FlippedLog), ["ballast", "log/0002.raftlog"]);
        assert_eq!(changed(Damage::ShortLog), ["ballast", "log/0002.raftlog"]);
        assert_eq!(changed(Damage::FlippedCheckpoint), ["ballast", "state/db"]);
        assert_eq!(changed(Damage::WipedDisk).len(), 6);
    }

    #[test]
    fn what_is_damaged_was_acknowledged() {
        let damaged = |damage| {
            let data = data();
            DiskSwap::of(data.path(), NODE).swap(damage).unwrap();
            fs::read(data.path().join("node2/log/0002.raftlog")).unwrap()
        };
        assert!(damaged(Damage::FlippedLog).starts_with(b"an entry round 1 another sound 2 and round 3"));
        assert_eq!(damaged(Damage::ShortLog), b"an entry round 1 another ");
    }

    #[test]
    fn a_disk_that_is_kept_is_not_swapped_back() {
        let data = data();
        let swap = DiskSwap::of(data.path(), NODE);
        swap.swap(Damage::WipedDisk).unwrap();
        fs::write(data.path().join("node2/fresh"), "of a later life").unwrap();
        swap.keep().unwrap();
        swap.swap_back().unwrap();
        let left = entries(&data.path().join("node2")).unwrap();
        assert_eq!(left, [data.path().join("node2/fresh")]);
    }

    #[test]
    fn a_running_nodes_stores_are_copied_without_the_ballast() {
        let (data, to) = (data(), tempfile::tempdir().unwrap());
        copy_running(&data.path().join("node2"), to.path()).unwrap();
        assert!(!to.path().join(BALLAST).exists());
        assert!(fs::read(to.path().join("log/0001.raftlog")).unwrap().starts_with(b"an entry"));
    }
}
