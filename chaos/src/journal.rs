//! What has to be undone, written down before it is done: whatever a drill that was broken off has left, [`Journal::heal`] undoes.
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fleet::{FleetError, NodeProcess};
use crate::stage::{
    ClockShift, Clocks, DiskError, DiskSwap, Disks, Filler, Networks, SwapError, Throttle, ThrottleError,
};
use crate::tool::ToolFailed;

const FILE: &str = "chaos-journal.json";

/// How one fault is undone. Doing it twice, or without the fault, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Let a stopped process go on.
    Resume { node: u64, pid: i32 },
    /// Mount the node's disk as after a reboot.
    PowerOn { node: u64 },
    /// Let the node's disk write again.
    Thaw { node: u64 },
    /// Give the node its disk's speed back.
    Release { node: u64 },
    /// Set the node's clock right.
    SetClock { node: u64 },
    /// Give the node the room on its disk back.
    Empty { node: u64 },
    /// Put the node's own disk back in place of another one, on which it does not start.
    SwapBack { node: u64 },
    /// Leave the node the disk that it has gone on with.
    KeepSwapped { node: u64 },
    /// Plug a network cable in again.
    Plug { cable: String },
}

/// Why a fault can be neither made nor undone.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    #[error(transparent)]
    Tool(#[from] ToolFailed),
    #[error(transparent)]
    Swap(#[from] SwapError),
    #[error("the disk of node {node} can be neither filled nor emptied")]
    Filler { node: u64, source: io::Error },
    #[error("the clock of node {node} can not be set")]
    Clock { node: u64, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("the journal {} can not be used", file.display())]
    Journal { file: PathBuf, source: io::Error },
}

/// The journal of the cluster in one data directory.
#[derive(Clone, Debug)]
pub struct Journal {
    data: PathBuf,
}

impl Journal {
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// What is to be undone, in the order in which it was done.
    pub fn open(&self) -> Result<Vec<Undo>, UndoError> {
        match std::fs::read(self.file()) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Writes `undo` down; it is on disk when this returns.
    pub fn note(&self, undo: Undo) -> Result<(), UndoError> {
        let mut undos = self.open()?;
        undos.push(undo);
        self.write(&undos)
    }

    /// Undoes `undo`, then strikes it off.
    pub async fn undo(&self, undo: &Undo) -> Result<(), UndoError> {
        undo.carry_out(&self.data).await?;
        let mut undos = self.open()?;
        undos.retain(|noted| noted != undo);
        self.write(&undos)
    }

    /// Undoes all of `undos`, also when some of them fail, and returns the first failure; what failed stays in the journal.
    pub async fn undo_all(&self, undos: &[Undo]) -> Result<(), UndoError> {
        let mut undone = Ok(());
        for undo in undos {
            undone = undone.and(self.undo(undo).await);
        }
        undone
    }

    /// Undoes everything, the last first, and returns it with what went wrong; what failed stays in the journal.
    pub async fn heal(&self) -> Result<Vec<(Undo, Result<(), UndoError>)>, UndoError> {
        let mut healed = Vec::new();
        for undo in self.open()?.into_iter().rev() {
            let outcome = self.undo(&undo).await;
            healed.push((undo, outcome));
        }
        Ok(healed)
    }

    fn write(&self, undos: &[Undo]) -> Result<(), UndoError> {
        let text = serde_json::to_vec_pretty(undos).expect("undos are plain data");
        let fresh = self.file().with_extension("json.new");
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&fresh, self.file())).map_err(|error| self.failed(error))
    }

    fn file(&self) -> PathBuf {
        self.data.join(FILE)
    }

    fn failed(&self, source: io::Error) -> UndoError {
        UndoError::Journal { file: self.file(), source }
    }
}

impl Undo {
    async fn carry_out(&self, data: &Path) -> Result<(), FaultError> {
        match self {
            Self::Resume { node, pid } => {
                let process = NodeProcess { id: *node, pid: *pid, api_address: String::new() };
                if process.exists() { Ok(process.resume()?) } else { Ok(()) }
            }
            Self::PowerOn { node } => Ok(Disks::of(data).power_on(*node).await?),
            Self::Thaw { node } => Ok(Disks::of(data).thaw(*node).await?),
            Self::Release { node } => Ok(Throttle::of(*node).release()?),
            Self::SetClock { node } => {
                let set = Clocks::of(data).set(*node, ClockShift::default());
                set.map_err(|source| FaultError::Clock { node: *node, source })
            }
            Self::Empty { node } => {
                Filler::of(data, *node).remove().map_err(|source| FaultError::Filler { node: *node, source })
            }
            Self::SwapBack { node } => Ok(DiskSwap::of(data, *node).swap_back()?),
            Self::KeepSwapped { node } => Ok(DiskSwap::of(data, *node).keep()?),
            Self::Plug { cable } => Ok(Networks::plug(cable).await?),
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resume { node, pid } => write!(f, "resume process {pid} of node {node}"),
            Self::PowerOn { node } => write!(f, "power the disk of node {node} on"),
            Self::Thaw { node } => write!(f, "thaw the disk of node {node}"),
            Self::Release { node } => write!(f, "give the disk of node {node} its speed back"),
            Self::SetClock { node } => write!(f, "set the clock of node {node} right"),
            Self::Empty { node } => write!(f, "give node {node} the room on its disk back"),
            Self::SwapBack { node } => write!(f, "put the disk of node {node} back"),
            Self::KeepSwapped { node } => write!(f, "leave node {node} the disk that it has"),
            Self::Plug { cable } => write!(f, "plug in {cable}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_noted_is_undone_and_struck_off_last_first() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::of(data.path());
        assert_eq!(journal.open().unwrap(), []);
        let clocks = Clocks::of(data.path());
        for node in [1, 2] {
            journal.note(Undo::SetClock { node }).unwrap();
            clocks.set(node, ClockShift { ahead_s: 600 }).unwrap();
        }
        // Another process finds the same journal.
        let healed = Journal::of(data.path()).heal().await.unwrap();
        let nodes: Vec<_> = healed.iter().map(|(undo, outcome)| (undo.clone(), outcome.is_ok())).collect();
        assert_eq!(nodes, [(Undo::SetClock { node: 2 }, true), (Undo::SetClock { node: 1 }, true)]);
        assert_eq!(journal.open().unwrap(), []);
        assert_eq!(std::fs::read_to_string(data.path().join("node1.clock")).unwrap(), "+0\n");
    }

    #[tokio::test]
    async fn what_can_not_be_undone_leaves_nothing_else_undone() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::of(data.path());
        let lost = Undo::Plug { cable: "no-such-cable".to_owned() };
        let undos = [lost.clone(), Undo::SetClock { node: 1 }];
        for undo in &undos {
            journal.note(undo.clone()).unwrap();
        }
        Clocks::of(data.path()).set(1, ClockShift { ahead_s: 600 }).unwrap();
        let undone = journal.undo_all(&undos).await;
        assert!(matches!(undone, Err(UndoError::Fault(FaultError::Tool(_)))), "{undone:?}");
        assert_eq!(std::fs::read_to_string(data.path().join("node1.clock")).unwrap(), "+0\n");
        assert_eq!(journal.open().unwrap(), [lost]);
    }

    #[tokio::test]
    async fn what_can_not_be_undone_stays_noted() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::of(data.path());
        let lost = Undo::Plug { cable: "no-such-cable".to_owned() };
        journal.note(lost.clone()).unwrap();
        let healed = journal.heal().await.unwrap();
        assert!(matches!(healed[..], [(_, Err(UndoError::Fault(FaultError::Tool(_))))]));
        assert_eq!(journal.open().unwrap(), [lost]);
    }
}
