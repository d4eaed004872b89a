//! A node that finds another disk than it left: it must come back whole, or end with a word and be taken in by nobody.
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Aftermath, Strike};
use crate::check::Violation;
use crate::drill::health::LOOK_INTERVAL;
use crate::drill::{DrillError, RECOVERY_MAX};
use crate::fault::Damage;
use crate::fleet::NodeProcess;
use crate::journal::FaultError;
use crate::stage::DiskSwap;

/// A process that is refused has ended within this time.
const END_MAX: Duration = Duration::from_secs(60);

impl Strike<'_> {
    /// Kills the struck nodes, once there is another disk for each.
    pub(super) async fn kill_for_damage(&self) -> Result<(), DrillError> {
        for node in &self.struck {
            if Damage::of_round(self.round) == Damage::ForeignDisk {
                self.swap(node.id).form_foreign(node).await.map_err(FaultError::from)?;
            }
        }
        Ok(self.struck.iter().try_for_each(NodeProcess::kill).map_err(FaultError::from)?)
    }

    /// Changes the disks of the killed nodes before their supervisor starts them again, and waits until each is where it has to be.
    pub(super) async fn outlast_damage(&self) -> Result<Aftermath, DrillError> {
        let damage = Damage::of_round(self.round);
        self.wait_until_gone().await?;
        for node in &self.struck {
            self.swap(node.id).swap(damage).map_err(FaultError::from)?;
            if self.has_successor(node) {
                return Err(DrillError::NodeBeforeDisk { id: node.id });
            }
            tracing::info!(node = node.id, %damage, "the node finds another disk");
        }
        let mut aftermath = Aftermath::default();
        for node in &self.struck {
            let successor = self.successor(node).await?;
            if damage.is_refused() {
                self.watch_end(&successor, &mut aftermath).await?;
            } else {
                self.scene.health.wait_until_whole(RECOVERY_MAX).await?;
                self.scene.health.wait_until_in_step(RECOVERY_MAX).await?;
                if !successor.exists() {
                    aftermath.violations.add(Violation::NodeEnded { node: node.id, pid: successor.pid });
                }
            }
        }
        Ok(aftermath)
    }

    /// The process that took the place of `node`.
    pub(super) async fn successor(&self, node: &NodeProcess) -> Result<NodeProcess, DrillError> {
        let give_up = Instant::now() + RECOVERY_MAX;
        while !self.has_successor(node) {
            if Instant::now() >= give_up {
                return Err(DrillError::Overdue { id: node.id, what: "start again", waited: RECOVERY_MAX });
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(self.scene.fleet.node(node.id)?)
    }

    /// Waits for the end of a process that is to be refused, and hears its last word.
    async fn watch_end(&self, process: &NodeProcess, aftermath: &mut Aftermath) -> Result<(), DrillError> {
        let NodeProcess { id, .. } = *process;
        let give_up = Instant::now() + END_MAX;
        let mut was_reached = false;
        while process.exists() && !self.has_successor(process) {
            was_reached |= self.scene.health.is_reached(id).await?;
            if Instant::now() >= give_up {
                return Err(DrillError::Overdue { id, what: "end, which it had to,", waited: END_MAX });
            }
            sleep(LOOK_INTERVAL).await;
        }
        if was_reached {
            let what = format!("node {id} was taken in with {}", Damage::of_round(self.round));
            aftermath.violations.add(Violation::Broken { what });
        }
        let log = self.scene.fleet.data_dir().join(format!("node{id}.log"));
        aftermath.said = std::fs::read_to_string(log).ok().as_deref().and_then(last_line);
        if aftermath.said.is_none() {
            aftermath.violations.add(Violation::Broken { what: format!("node {id} ended without a word") });
        }
        Ok(())
    }

    fn swap(&self, node: u64) -> DiskSwap {
        DiskSwap::of(self.scene.fleet.data_dir(), node)
    }
}

/// The last line of `text` that says anything.
pub(super) fn last_line(text: &str) -> Option<String> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_last_word_is_the_last_line_with_one() {
        assert_eq!(last_line("started\nerror: the log is gone\n\n"), Some("error: the log is gone".to_owned()));
        assert_eq!(last_line("\n \n"), None);
    }
}
