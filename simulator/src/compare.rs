//! Kvarter beside etcd on this machine: the same clients, the same payload, the same durability, one after the other.
//!
//! Start at [`ComparePlan::run`]. `system` is what the comparison does to both, `drive` the clients, schedule and stop watch that
//! both share, `turn` the phases of one turn, `failover` and `entries` what else is measured; `etcd` and `kvarter` are the two,
//! `report` the medians and ratios.
pub(crate) mod drive;
mod entries;
mod etcd;
mod failover;
pub(crate) mod kvarter;
mod payload;
mod plan;
mod process;
mod report;
pub(crate) mod system;
pub(crate) mod turn;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_api::{ApiError, ConnectError};

use crate::enroll::EnrollError;
use crate::resources::UsageError;
use drive::WriteError;
pub use entries::EntriesFigures;
use etcd::EtcdCluster;
use kvarter::{ClusterSize, KvarterCluster};
pub use payload::Payload;
pub use plan::{ComparePlan, Part, Setting};
pub use report::{Comparison, Contrast, Round};
use system::{Clients, System};
pub use turn::{PhaseFigures, RateFigures, RequestShape, RequestShapes, TurnFigures};

/// Time for a system to write after its processes were started.
const START_MAX: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("there is no program {}; {hint}", program.display())]
    NoProgram { program: PathBuf, hint: &'static str },
    #[error("can not start {}", program.display())]
    NotStarted { program: PathBuf, source: io::Error },
    #[error("a process has ended that should run; its last words are in {}", log.display())]
    Ended { log: PathBuf },
    #[error("{system} does not write after {} s; its logs are in {}", START_MAX.as_secs(), log.display())]
    NotReady { system: &'static str, log: PathBuf },
    #[error("can not kill process {pid}")]
    NotKilled { pid: u32, source: io::Error },
    #[error("can not use {}", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("an address or a certificate of etcd can not be used")]
    Channel(#[source] tonic::transport::Error),
    #[error("{system} acknowledged nothing")]
    NoWrites { system: &'static str },
    #[error("kvarter's catalog does not have the devices of the comparison")]
    CatalogMismatch,
    #[error("a write failed: {0}")]
    Write(#[from] WriteFailed),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Usage(#[from] UsageError),
}

/// What a client said of a request that had to succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WriteFailed(String);

impl From<WriteError> for CompareError {
    fn from(error: WriteError) -> Self {
        Self::Write(WriteFailed(error.0))
    }
}

/// Hears how far a comparison is.
pub trait Tell {
    fn tell(&mut self, news: &str);
}

impl<F: FnMut(&str)> Tell for F {
    fn tell(&mut self, news: &str) {
        self(news);
    }
}

impl ComparePlan {
    /// Runs the comparison; some minutes. All processes that it started have ended when it returns.
    pub async fn run(&self, tell: &mut impl Tell) -> Result<Comparison, CompareError> {
        process::find(&self.kvarter, kvarter::HINT).await?;
        process::find(&self.etcd, etcd::HINT).await?;
        let mut comparison = Comparison::new(self);
        let certificates = self.certificates().await?;
        let has_turns = self.measures(Part::Rates) || self.measures(Part::Failover);
        if self.measures(Part::Rates) {
            tell.tell("seeking the best way to use each");
            let mut system = self.kvarter().await?;
            let kvarter = turn::search(&mut system, self, false, tell).await?;
            system.pause().await?;
            drop(system);
            let mut system = self.etcd(&certificates).await?;
            let etcd = turn::search(&mut system, self, true, tell).await?;
            system.pause().await?;
            drop(system);
            comparison.shapes = Some(Contrast { kvarter, etcd });
        }
        for number in 1..=if has_turns { self.rounds } else { 0 } {
            tell.tell(&format!("round {number} of {}", self.rounds));
            let shapes = comparison.shapes.as_ref();
            let mut system = self.etcd(&certificates).await?;
            let etcd = turn::take(&mut system, self, shapes.map(|shapes| &shapes.etcd), tell).await?;
            system.pause().await?;
            drop(system);
            let mut system = self.kvarter().await?;
            let kvarter = turn::take(&mut system, self, shapes.map(|shapes| &shapes.kvarter), tell).await?;
            system.pause().await?;
            drop(system);
            comparison.rounds.push(Round { etcd, kvarter });
        }
        for number in 1..=if self.measures(Part::Entries) { self.entries_rounds() } else { 0 } {
            let clients = Clients::new(plan::BATCH_CLIENTS, self.entries, self.payload);
            tell.tell(&format!("{} entries, round {number} of {}", clients.devices, self.entries_rounds()));
            let mut system = self.etcd(&certificates).await?;
            let etcd = entries::measure(&mut system, &clients).await?;
            tell.tell(&format!("etcd: {etcd}"));
            system.pause().await?;
            drop(system);
            let mut system = self.kvarter().await?;
            let kvarter = entries::measure(&mut system, &clients).await?;
            tell.tell(&format!("kvarter: {kvarter}"));
            system.pause().await?;
            drop(system);
            comparison.entries.push(Contrast { etcd, kvarter });
        }
        Ok(comparison)
    }

    fn measures(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    fn entries_rounds(&self) -> u32 {
        self.rounds.min(plan::ENTRIES_ROUNDS_MAX)
    }

    async fn kvarter(&self) -> Result<KvarterCluster, CompareError> {
        let size = ClusterSize { nodes: plan::NODES, shards: self.shards };
        KvarterCluster::start(&self.kvarter, &self.dir.join(KvarterCluster::NAME), size).await
    }

    async fn etcd(&self, certificates: &Path) -> Result<EtcdCluster, CompareError> {
        let certificates = self.etcd_tls.then_some(certificates);
        EtcdCluster::start(&self.etcd, &self.dir.join(EtcdCluster::NAME), certificates).await
    }

    /// Certificates for etcd: a copy of those of a Kvarter that is started for them alone, since it makes new ones in every
    /// turn.
    async fn certificates(&self) -> Result<PathBuf, CompareError> {
        let kept = self.dir.join("tls");
        make_empty(&kept)?;
        if !self.etcd_tls {
            return Ok(kept);
        }
        let mut system = self.kvarter().await?;
        system.pause().await?;
        let from = KvarterCluster::certificates(&self.dir.join(KvarterCluster::NAME));
        let copy = || {
            for file in std::fs::read_dir(&from)? {
                let file = file?;
                std::fs::copy(file.path(), kept.join(file.file_name()))?;
            }
            Ok(())
        };
        copy().map_err(|source| CompareError::Directory { dir: from.clone(), source })?;
        Ok(kept)
    }
}

/// Makes `dir`, or removes what is in it.
pub(crate) fn make_empty(dir: &Path) -> Result<(), CompareError> {
    let failed = |source| CompareError::Directory { dir: dir.to_owned(), source };
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(failed)?;
    }
    std::fs::create_dir_all(dir).map_err(failed)
}
