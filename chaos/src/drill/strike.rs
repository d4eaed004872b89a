//! Carries out one fault on some nodes: makes it, proves that it took effect, and undoes what does not end by itself.
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::DrillError;
use super::health::{Health, LOOK_INTERVAL};
use crate::disks::Disks;
use crate::fault::Fault;
use crate::fleet::{Fleet, FleetError, NodeProcess};

/// A struck process is gone, or stands still, within this time; otherwise the strike had no effect.
const EFFECT_MAX: Duration = Duration::from_secs(5);

/// A fault that was made. Dropped before it is undone, it lets paused processes go on all the same.
pub(super) struct Strike<'a> {
    fault: Fault,
    fleet: &'a Fleet,
    health: &'a Health<'a>,
    struck: Vec<NodeProcess>,
}

impl<'a> Strike<'a> {
    /// Makes `fault` on all `victims`, ids of nodes, at the same moment.
    pub(super) async fn make(
        fault: Fault,
        fleet: &'a Fleet,
        health: &'a Health<'a>,
        victims: &[u64],
    ) -> Result<Self, DrillError> {
        let struck = victims.iter().map(|node| fleet.node(*node)).collect::<Result<_, _>>()?;
        let strike = Self { fault, fleet, health, struck };
        match fault {
            Fault::Kill => strike.struck.iter().try_for_each(NodeProcess::kill)?,
            Fault::Pause(_) => strike.struck.iter().try_for_each(NodeProcess::pause)?,
            Fault::PowerCut => {
                strike.disks().cut(victims).await?;
                strike.struck.iter().try_for_each(kill_survivor)?;
            }
        }
        Ok(strike)
    }

    pub(super) fn struck(&self) -> &[NodeProcess] {
        &self.struck
    }

    /// Proves that the strike took effect, and ends it where that is this program's part: killed processes are started again by
    /// their supervisor. A pause ends when its time is over; until then others must have taken over, and after how long they had
    /// is returned.
    pub(super) async fn undo(&self) -> Result<Option<Duration>, DrillError> {
        match self.fault {
            Fault::Kill => self.wait_until_gone().await.map(|()| None),
            Fault::PowerCut => self.power_on().await.map(|()| None),
            Fault::Pause(time) => {
                let outlasted = self.outlast(time).await;
                self.struck.iter().try_for_each(NodeProcess::resume)?;
                outlasted.map(Some)
            }
        }
    }

    /// Brings the disks back before the supervisor starts the processes again: a node that finds an empty directory is a new one.
    async fn power_on(&self) -> Result<(), DrillError> {
        self.wait_until_gone().await?;
        for NodeProcess { id, .. } in &self.struck {
            self.disks().power_on(*id).await?;
        }
        match self.struck.iter().find(|node| self.has_successor(node)) {
            Some(NodeProcess { id, .. }) => Err(DrillError::NodeBeforeDisk { id: *id }),
            None => Ok(()),
        }
    }

    fn disks(&self) -> Disks {
        Disks::of(self.fleet.data_dir())
    }

    /// Waits for the end of a pause of `time`, by which others must lead all shards; returns after how long they did.
    async fn outlast(&self, time: Duration) -> Result<Duration, DrillError> {
        let begin = Instant::now();
        let wake = begin + time;
        self.wait_until(NodeProcess::is_paused).await?;
        while Instant::now() < wake && !matches!(self.left_over().await, Ok(None)) {
            sleep(LOOK_INTERVAL).await;
        }
        let taken_over = begin.elapsed();
        sleep_until(wake).await;
        if let Some((id, shard)) = self.left_over().await? {
            return Err(DrillError::NotTakenOver { id, paused: time, shard });
        }
        self.wait_until(NodeProcess::is_paused).await?;
        Ok(taken_over)
    }

    /// A struck node and a shard that nobody has taken over from it.
    async fn left_over(&self) -> Result<Option<(u64, u32)>, DrillError> {
        for NodeProcess { id, .. } in &self.struck {
            if let Some(shard) = self.health.not_taken_over(*id).await? {
                return Ok(Some((*id, shard)));
            }
        }
        Ok(None)
    }

    /// Each process ended, or another one has taken its place.
    async fn wait_until_gone(&self) -> Result<(), DrillError> {
        self.wait_until(|node| !node.exists() || self.has_successor(node)).await
    }

    fn has_successor(&self, node: &NodeProcess) -> bool {
        self.fleet.node(node.id).is_ok_and(|now| now.pid != node.pid)
    }

    async fn wait_until(&self, is_struck: impl Fn(&NodeProcess) -> bool) -> Result<(), DrillError> {
        let give_up = Instant::now() + EFFECT_MAX;
        for node in &self.struck {
            while !is_struck(node) {
                if Instant::now() >= give_up {
                    return Err(DrillError::StrikeWithoutEffect { id: node.id, pid: node.pid });
                }
                sleep(LOOK_INTERVAL).await;
            }
        }
        Ok(())
    }
}

/// A node whose disk fails ends itself, and may be faster.
fn kill_survivor(node: &NodeProcess) -> Result<(), FleetError> {
    match node.kill() {
        Err(_gone) if !node.exists() => Ok(()),
        killed => killed,
    }
}

impl Drop for Strike<'_> {
    fn drop(&mut self) {
        if matches!(self.fault, Fault::Pause(_)) {
            for node in &self.struck {
                if let Err(error) = node.resume() {
                    tracing::warn!(node = node.id, %error, "a paused node can not be resumed");
                }
            }
        }
    }
}
