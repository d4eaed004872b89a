//! A second process with a node's id, while the node runs: it must end, and the node must not.
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::assault::judge_unharmed;
use super::damage::last_line;
use super::{Aftermath, Strike};
use crate::check::Violation;
use crate::drill::DrillError;
use crate::fleet::NodeProcess;
use crate::journal::FaultError;
use crate::stage::{Disks, LAUNCHER, copy_running};

/// The second process has ended within this time.
const END_MAX: Duration = Duration::from_secs(60);
/// The exit code of a node that its cluster refuses: `kvarter node --help`.
const REFUSED: i32 = 4;

impl Strike<'_> {
    pub(super) async fn outlast_double(&self) -> Result<Aftermath, DrillError> {
        let mut aftermath = Aftermath::default();
        let before = self.scene.fleet.nodes()?;
        for node in &self.struck {
            self.double(node, &mut aftermath).await?;
        }
        judge_unharmed(&before, &self.scene.fleet.nodes()?, &mut aftermath.violations);
        Ok(aftermath)
    }

    async fn double(&self, node: &NodeProcess, aftermath: &mut Aftermath) -> Result<(), DrillError> {
        let id = node.id;
        let data = self.scene.fleet.data_dir();
        let no_second = |reason: String| DrillError::NoSecond { id, reason };
        let disk = tempfile::Builder::new().prefix(&format!("node{id}.second")).tempdir_in(data);
        let disk = disk.map_err(|error| no_second(error.to_string()))?;
        if self.round.is_multiple_of(2) {
            copy_running(&Disks::of(data).directory(id), disk.path()).map_err(FaultError::from)?;
        }
        let program = node.program();
        let launcher = data.join(LAUNCHER);
        let mut second = if launcher.exists() {
            let mut second = Command::new(launcher);
            second.arg(id.to_string()).arg(program);
            second
        } else {
            Command::new(program)
        };
        second.args(["node", "--config"]).arg(data.join(format!("node{id}.toml")));
        second.env("KVARTER_NODE__DATA_DIR", disk.path());
        for port in ["PEER", "API", "ADMIN"] {
            // One that is free.
            second.env(format!("KVARTER_NODE__{port}__LISTEN"), "0.0.0.0:0");
        }
        second.stdin(Stdio::null()).kill_on_drop(true);
        let Ok(ended) = timeout(END_MAX, second.output()).await else {
            return Err(DrillError::Overdue { id, what: "get rid of a second process", waited: END_MAX });
        };
        let ended = ended.map_err(|error| no_second(error.to_string()))?;
        aftermath.acts += 1;
        aftermath.said = last_line(&String::from_utf8_lossy(&ended.stderr));
        if ended.status.code() != Some(REFUSED) {
            let what = format!("a second process of node {id} ended with {}: {:?}", ended.status, aftermath.said);
            aftermath.violations.add(Violation::Broken { what });
        }
        Ok(())
    }
}
