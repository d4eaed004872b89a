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

use kvarter_api::ApiError;

use crate::enroll::EnrollError;
use crate::resources::UsageError;
use drive::WriteError;
pub use entries::EntriesFigures;
use etcd::EtcdCluster;
use kvarter::KvarterCluster;
pub use payload::Payload;
pub use plan::{ComparePlan, Setting};
pub use report::{Comparison, Contrast, Round};
use system::{Clients, System};
pub use turn::{PhaseFigures, RequestShape, RequestShapes, TurnFigures};

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
        // Kvarter first: its certificates are etcd's too.
        tell.tell("seeking the best way to use each");
        let mut system = self.kvarter().await?;
        let kvarter_shapes = turn::search(&mut system, self, false, tell).await?;
        system.pause().await?;
        drop(system);
        let certificates = self.keep_certificates()?;
        let mut system = self.etcd(&certificates).await?;
        let etcd_shapes = turn::search(&mut system, self, true, tell).await?;
        system.pause().await?;
        drop(system);
        for number in 1..=self.rounds {
            tell.tell(&format!("round {number} of {}", self.rounds));
            let mut system = self.etcd(&certificates).await?;
            let etcd = turn::take(&mut system, self, &etcd_shapes, tell).await?;
            system.pause().await?;
            drop(system);
            let mut system = self.kvarter().await?;
            let kvarter = turn::take(&mut system, self, &kvarter_shapes, tell).await?;
            system.pause().await?;
            comparison.rounds.push(Round { etcd, kvarter });
        }
        (comparison.etcd_shapes, comparison.kvarter_shapes) = (Some(etcd_shapes), Some(kvarter_shapes));
        if self.entries > 0 {
            let clients = Clients::new(plan::BATCH_CLIENTS, self.entries, self.payload);
            tell.tell(&format!("{} entries", clients.devices));
            let mut system = self.etcd(&certificates).await?;
            let etcd = entries::measure(&mut system, &clients).await?;
            tell.tell(&format!("etcd: {etcd}"));
            system.pause().await?;
            drop(system);
            let mut system = self.kvarter().await?;
            let kvarter = entries::measure(&mut system, &clients).await?;
            tell.tell(&format!("kvarter: {kvarter}"));
            system.pause().await?;
            comparison.entries = Some(Contrast { etcd, kvarter });
        }
        Ok(comparison)
    }

    async fn kvarter(&self) -> Result<KvarterCluster, CompareError> {
        KvarterCluster::start(&self.kvarter, &self.dir.join(KvarterCluster::NAME), self.shards).await
    }

    async fn etcd(&self, certificates: &Path) -> Result<EtcdCluster, CompareError> {
        let certificates = self.tls.then_some(certificates);
        EtcdCluster::start(&self.etcd, &self.dir.join(EtcdCluster::NAME), certificates).await
    }

    /// A copy of the certificates of Kvarter, which makes new ones in every turn.
    fn keep_certificates(&self) -> Result<PathBuf, CompareError> {
        let from = KvarterCluster::certificates(&self.dir.join(KvarterCluster::NAME));
        let kept = self.dir.join("tls");
        make_empty(&kept)?;
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
