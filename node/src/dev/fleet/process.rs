//! Keeps the process of one node running.
//!
//! A node's process hangs on a leash: it drains and ends when its standard input ends. So it ends with this program
//! however this program ends, and Ctrl-C in the terminal, which it does not hear, can not get ahead of an orderly stop.
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use kvarter_cluster::NodeId;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{ProcessChange, RESTART_PAUSE};

/// Longest time for a process to drain before it is killed; above the node's own limit for its drain.
const DRAIN_MAX: Duration = Duration::from_secs(30);

pub(super) struct Supervisor {
    pub(super) node: NodeId,
    pub(super) program: PathBuf,
    /// Called with the node's number and the command line, which it becomes; `None`: the process is started as it is.
    pub(super) launcher: Option<PathBuf>,
    pub(super) settings: PathBuf,
    pub(super) log: PathBuf,
    pub(super) changes: mpsc::Sender<ProcessChange>,
    /// Asks the process to end and keeps it from being started again.
    pub(super) stop: CancellationToken,
    /// Shortens a stop.
    pub(super) kill: CancellationToken,
}

/// A running process and its leash.
struct Life {
    child: Child,
    leash: ChildStdin,
}

impl Supervisor {
    /// Starts the process, and again after each end, until it is stopped.
    pub(super) async fn run(self) {
        while !self.stop.is_cancelled() {
            let change = match self.start() {
                Ok(life) => {
                    let pid = life.child.id().expect("the process was not waited for yet");
                    self.tell(ProcessChange::Started { node: self.node, pid }).await;
                    self.live(life).await
                }
                Err(error) => ProcessChange::NotStarted { node: self.node, error },
            };
            self.tell(change).await;
            self.stop.run_until_cancelled(sleep(RESTART_PAUSE)).await;
        }
    }

    fn start(&self) -> io::Result<Life> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = match &self.launcher {
            None => Command::new(&self.program),
            Some(launcher) => {
                let mut command = Command::new(launcher);
                command.arg(self.node.0.to_string()).arg(&self.program);
                command
            }
        };
        let mut child = command
            .args(["node", "--stop-with-stdin", "--config"])
            .arg(&self.settings)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let leash = child.stdin.take().expect("standard input is piped");
        Ok(Life { child, leash })
    }

    /// Waits for the end of `life`, which comes by itself or because of `stop`.
    async fn live(&self, mut life: Life) -> ProcessChange {
        let node = self.node;
        match self.stop.run_until_cancelled(ended(&mut life.child)).await {
            Some(status) => ProcessChange::Died { node, status, log: self.log.clone() },
            None => ProcessChange::Stopped { node, status: self.drain(life).await },
        }
    }

    /// Lets the process go: it drains, and is killed when that takes too long.
    async fn drain(&self, life: Life) -> ExitStatus {
        let Life { mut child, leash } = life;
        drop(leash);
        tokio::select! {
            status = ended(&mut child) => return status,
            () = sleep(DRAIN_MAX) => {}
            () = self.kill.cancelled() => {}
        }
        child.start_kill().expect("a process that was not waited for can be killed");
        ended(&mut child).await
    }

    async fn tell(&self, change: ProcessChange) {
        // Nobody listens any more when the fleet is being dropped, and then nobody misses it.
        self.changes.send(change).await.ok();
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    child.wait().await.expect("nobody else waits for this process")
}
