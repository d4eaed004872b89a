//! The node processes of a development cluster: started, watched, started again when they end, and stopped together.
//!
//! `process` is one node's supervision, `roster` the file that tells other programs which processes there are.
mod process;
mod roster;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use kvarter_cluster::NodeId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::home::Home;
use process::Supervisor;
use roster::Roster;

/// Pause before an ended process is started again, long enough to watch the cluster without it.
pub(super) const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// Changes that wait for the console; supervisors wait beyond.
const CHANGES_MAX: usize = 16;

/// What happened to a node's process.
#[derive(Debug)]
pub(super) enum ProcessChange {
    Started {
        node: NodeId,
        pid: u32,
    },
    NotStarted {
        node: NodeId,
        error: io::Error,
    },
    /// It ended without being asked to; it starts again after [`RESTART_PAUSE`].
    Died {
        node: NodeId,
        status: ExitStatus,
        log: PathBuf,
    },
    /// It ended because it was asked to.
    Stopped {
        node: NodeId,
        status: ExitStatus,
    },
}

impl ProcessChange {
    /// Whether the process failed, as opposed to being started or stopped.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Started { .. } => false,
            Self::NotStarted { .. } | Self::Died { .. } => true,
            Self::Stopped { status, .. } => !status.success(),
        }
    }
}

impl fmt::Display for ProcessChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pause_s = RESTART_PAUSE.as_secs();
        match self {
            Self::Started { node, pid } => write!(f, "{node} started (process {pid})"),
            Self::NotStarted { node, error } => {
                write!(f, "{node} could not be started: {error}; next try in {pause_s} s")
            }
            Self::Died { node, status, log } => {
                write!(f, "{node} ended ({status}), it starts again in {pause_s} s; its log: {}", log.display())
            }
            Self::Stopped { node, status } => write!(f, "{node} stopped ({status})"),
        }
    }
}

/// Owns the supervisors. Dropping it kills the processes.
pub(super) struct Fleet {
    supervisors: JoinSet<()>,
    changes: mpsc::Receiver<ProcessChange>,
    roster: Roster,
    stop: CancellationToken,
}

impl Fleet {
    /// Starts a process of `program` for each node of `home`, through `launcher` where there is one. `kill` ends them at once when
    /// they are to stop.
    pub(super) fn start(home: &Home, program: &Path, launcher: Option<&Path>, kill: &CancellationToken) -> Self {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let stop = CancellationToken::new();
        let mut supervisors = JoinSet::new();
        for node in home.nodes() {
            let supervisor = Supervisor {
                node,
                program: program.to_owned(),
                launcher: launcher.map(Path::to_owned),
                settings: home.node_settings(node),
                log: home.node_log(node),
                changes: sender.clone(),
                stop: stop.clone(),
                kill: kill.clone(),
            };
            supervisors.spawn(supervisor.run());
        }
        Self { supervisors, changes, roster: Roster::new(home), stop }
    }

    /// Waits for the next change, and has written it to the fleet's file when it returns. Cancel safe; ends when all
    /// processes have been stopped.
    pub(super) async fn next_change(&mut self) -> io::Result<Option<ProcessChange>> {
        let Some(change) = self.changes.recv().await else { return Ok(None) };
        match &change {
            ProcessChange::Started { node, pid } => self.roster.started(*node, *pid)?,
            ProcessChange::Died { node, .. } | ProcessChange::Stopped { node, .. } => self.roster.ended(*node),
            ProcessChange::NotStarted { .. } => {}
        }
        Ok(Some(change))
    }

    /// Nodes whose process runs.
    pub(super) fn running(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.roster.running()
    }

    /// Asks all processes to drain and end. Their ends are told by [`Fleet::next_change`].
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the supervisors' end, after the last change.
    pub(super) async fn ended(mut self) -> io::Result<()> {
        while let Some(end) = self.supervisors.join_next().await {
            end.expect("a supervisor neither panics nor is aborted");
        }
        self.roster.close()
    }
}
