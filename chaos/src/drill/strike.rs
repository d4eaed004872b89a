//! Carries out one fault on some nodes: makes it, proves that it took effect, and undoes what does not end by itself.
//!
//! What has to be undone is in the journal before it is done. `assault` has the clients that misbehave, `clock` asks a node for its
//! time; both speak through `wire`, below the client crate. `damage`, `double` and `full` have what is wrong with disks and shows
//! itself later.
mod assault;
mod clock;
mod damage;
mod double;
mod full;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_api::Client;
use kvarter_simulator::Ledger;
use tokio::time::{Instant, sleep, sleep_until};

use super::DrillError;
use super::health::{Health, LOOK_INTERVAL};
use super::subscriber::Subscriber;
use crate::check::Violations;
use crate::fault::{Assault, ClockFault, Damage, Fault};
use crate::fleet::{Fleet, FleetError, NodeProcess};
use crate::journal::{FaultError, Journal, Undo};
use crate::stage::{ClockShift, Clocks, Disks, HostUnable, Networks, Poison, Throttle};

/// A struck process is gone, or stands still, within this time; otherwise the strike had no effect.
const EFFECT_MAX: Duration = Duration::from_secs(5);
/// A node's clock is where it was set to within this time: its library looks once in a second, and the node has to answer.
const CLOCK_EFFECT_MAX: Duration = Duration::from_secs(10);
/// A disk that hangs longer than it should by so much is let go by the system itself.
const FREEZE_SLACK: Duration = Duration::from_secs(20);
/// Between two jumps of a clock; nodes look at theirs once in a second.
const JUMP_INTERVAL: Duration = Duration::from_millis(1_500);

/// Where strikes happen.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) client: &'a Client,
    pub(super) fleet: &'a Fleet,
    pub(super) health: &'a Health<'a>,
    /// Who has readings acknowledged during a strike has it follow them first.
    pub(super) subscriber: &'a Subscriber,
}

/// A fault that was made.
pub(super) struct Strike<'a> {
    fault: Fault,
    round: u32,
    scene: Scene<'a>,
    journal: Journal,
    struck: Vec<NodeProcess>,
    undos: Vec<Undo>,
}

/// What a strike that is over has shown.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// After how long others led all shards of the struck nodes.
    pub(super) taken_over: Option<Duration>,
    /// How many things were done, e.g. inputs that must be refused.
    pub(super) acts: u64,
    /// What was measured, by name and unit.
    pub(super) figures: BTreeMap<&'static str, f64>,
    /// The last word of a process that was refused.
    pub(super) said: Option<String>,
    pub(super) violations: Violations,
    /// What devices of the strike's own remember; judged with everybody's.
    pub(super) ledgers: Vec<Ledger>,
}

/// What the host, or the cluster as it was started, lacks for `fault`.
pub(super) fn unable(fault: Fault, fleet: &Fleet) -> Result<Option<HostUnable>, DrillError> {
    let nodes = fleet.nodes()?;
    let data = fleet.data_dir();
    let staged =
        |check: &dyn Fn(&NodeProcess) -> Result<(), HostUnable>| nodes.iter().find_map(|node| check(node).err());
    Ok(match fault {
        Fault::Assault(Assault::Poison) => staged(&|node| Poison::check(node.id, node.pid)),
        Fault::Kill | Fault::Pause(_) | Fault::Damage | Fault::Double | Fault::Assault(_) => None,
        Fault::PowerCut | Fault::HungDisk(_) | Fault::FullDisk(_) => Disks::host_unable().or_else(|| {
            staged(&|node| match Disks::of(data).check(&[node.id]) {
                Ok(()) => Ok(()),
                Err(_) => Err(HostUnable::NotStaged { node: node.id, what: "disk" }),
            })
        }),
        Fault::SlowDisk(_) => Throttle::host_unable(),
        Fault::Clock(_) => staged(&|node| Clocks::of(data).check(node.id, node.pid)),
        Fault::Cut(..) => staged(&|node| Networks::of(data).check(node.id, node.pid)),
    })
}

impl<'a> Strike<'a> {
    /// Makes `fault` on all `victims`, ids of nodes, at the same moment.
    pub(super) async fn make(fault: Fault, round: u32, scene: Scene<'a>, victims: &[u64]) -> Result<Self, DrillError> {
        let struck = victims.iter().map(|node| scene.fleet.node(*node)).collect::<Result<Vec<_>, _>>()?;
        let undos: Vec<Undo> = struck.iter().flat_map(|node| undos(fault, round, node)).collect();
        let journal = Journal::of(scene.fleet.data_dir());
        for undo in &undos {
            journal.note(undo.clone())?;
        }
        let strike = Self { fault, round, scene, journal, struck, undos };
        let made = strike.hit(victims).await;
        if made.is_err() {
            strike.end().await?;
        }
        made?;
        Ok(strike)
    }

    pub(super) fn struck(&self) -> &[NodeProcess] {
        &self.struck
    }

    async fn hit(&self, victims: &[u64]) -> Result<(), DrillError> {
        match self.fault {
            Fault::Kill => self.struck.iter().try_for_each(NodeProcess::kill).map_err(FaultError::from)?,
            Fault::Pause(_) => self.struck.iter().try_for_each(NodeProcess::pause).map_err(FaultError::from)?,
            Fault::PowerCut => {
                self.disks().cut(victims).await.map_err(FaultError::from)?;
                self.struck.iter().try_for_each(kill_survivor).map_err(FaultError::from)?;
            }
            Fault::HungDisk(time) => {
                for node in victims {
                    self.disks().freeze_for(*node, time + FREEZE_SLACK).await.map_err(FaultError::from)?;
                }
            }
            Fault::SlowDisk(_) => {
                for node in &self.struck {
                    let slowed = Throttle::of(node.id).slow(node.pid, &self.disks().directory(node.id));
                    slowed.map_err(FaultError::from)?;
                }
            }
            // It takes effect later than it is made, and what is measured begins with the effect.
            Fault::Clock(_) => self.set_clocks(ClockFault::of_round(self.round).first()).await?,
            Fault::Cut(from, _) => {
                for cable in victims.iter().flat_map(|node| Networks::cables(*node, from)) {
                    Networks::pull(&cable).await.map_err(FaultError::from)?;
                }
            }
            Fault::FullDisk(_) => self.fill()?,
            Fault::Damage => self.kill_for_damage().await?,
            Fault::Double | Fault::Assault(_) => {}
        }
        Ok(())
    }

    /// Proves that the strike took effect, and ends it where that is this program's part: killed processes are started again by
    /// their supervisor. What lasts for a time ends when it is over.
    pub(super) async fn undo(&self) -> Result<Aftermath, DrillError> {
        let outlasted = self.outlast().await;
        let ended = self.end().await;
        let aftermath = outlasted?;
        ended?;
        if self.fault == Fault::PowerCut
            && let Some(NodeProcess { id, .. }) = self.struck.iter().find(|node| self.has_successor(node))
        {
            // A node that finds an empty directory is a new one.
            return Err(DrillError::NodeBeforeDisk { id: *id });
        }
        Ok(aftermath)
    }

    async fn outlast(&self) -> Result<Aftermath, DrillError> {
        let begin = Instant::now();
        match self.fault {
            Fault::Kill | Fault::PowerCut => self.wait_until_gone().await.map(|()| Aftermath::default()),
            Fault::Pause(time) => {
                self.wait_until(NodeProcess::is_paused).await?;
                let aftermath = self.taken_over_within(begin, time).await?;
                self.wait_until(NodeProcess::is_paused).await?;
                Ok(aftermath)
            }
            Fault::Cut(from, time) => {
                let is_pulled =
                    |node: &NodeProcess| Networks::cables(node.id, from).iter().all(|it| Networks::is_pulled(it));
                self.wait_until(is_pulled).await?;
                self.taken_over_within(begin, time).await
            }
            Fault::Clock(time) => match ClockFault::of_round(self.round) {
                ClockFault::Off(shift) => {
                    let aftermath = self.taken_over_within(begin, time).await?;
                    self.prove_clocks(shift).await?;
                    Ok(aftermath)
                }
                ClockFault::Jumping => {
                    self.jump_until(begin + time).await?;
                    Ok(Aftermath::default())
                }
            },
            Fault::HungDisk(time) => {
                self.prove_frozen().await?;
                sleep_until(begin + time).await;
                // It hung to the end, too.
                self.prove_frozen().await?;
                Ok(Aftermath::default())
            }
            Fault::SlowDisk(time) => {
                for node in &self.struck {
                    let proven = Throttle::of(node.id).prove(&self.disks().directory(node.id)).await;
                    proven.map_err(FaultError::from)?;
                }
                sleep_until(begin + time).await;
                Ok(Aftermath::default())
            }
            Fault::FullDisk(time) => self.outlast_full(begin, time).await,
            Fault::Damage => self.outlast_damage().await,
            Fault::Double => self.outlast_double().await,
            Fault::Assault(assault) => assault::carry_out(assault, self.round, self.scene).await,
        }
    }

    async fn prove_frozen(&self) -> Result<(), DrillError> {
        for NodeProcess { id, pid, .. } in &self.struck {
            if !self.disks().is_frozen(*id).await {
                return Err(DrillError::StrikeWithoutEffect { id: *id, pid: *pid });
            }
        }
        Ok(())
    }

    /// Undoes what is in the journal.
    async fn end(&self) -> Result<(), DrillError> {
        Ok(self.journal.undo_all(&self.undos).await?)
    }

    fn disks(&self) -> Disks {
        Disks::of(self.scene.fleet.data_dir())
    }

    /// Sets the clocks of the struck nodes, and returns once each tells the time that it was given.
    async fn set_clocks(&self, shift: ClockShift) -> Result<(), DrillError> {
        let clocks = Clocks::of(self.scene.fleet.data_dir());
        for NodeProcess { id, .. } in &self.struck {
            clocks.set(*id, shift).map_err(|source| FaultError::Clock { node: *id, source })?;
        }
        self.prove_clocks(shift).await
    }

    async fn prove_clocks(&self, shift: ClockShift) -> Result<(), DrillError> {
        let give_up = Instant::now() + CLOCK_EFFECT_MAX;
        for NodeProcess { id, api_address, .. } in &self.struck {
            loop {
                let told = match clock::ahead_us(api_address, &self.scene.client.config().tls).await {
                    Ok(ahead_us) if clock::shows(shift, ahead_us) => break,
                    Ok(ahead_us) => ClockShift { ahead_s: ahead_us / 1_000_000 }.to_string(),
                    Err(untold) => untold.to_string(),
                };
                if Instant::now() >= give_up {
                    return Err(DrillError::ClockNotSet { id: *id, wanted: shift, told });
                }
                sleep(LOOK_INTERVAL).await;
            }
        }
        Ok(())
    }

    async fn jump_until(&self, end: Instant) -> Result<(), DrillError> {
        let mut shift = ClockFault::of_round(self.round).first();
        let mut next = Instant::now() + JUMP_INTERVAL;
        while next < end {
            sleep_until(next).await;
            next += JUMP_INTERVAL;
            shift = ClockShift { ahead_s: -shift.ahead_s };
            self.set_clocks(shift).await?;
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Waits for the end of a fault that began at `begin` and lasts for `time`, by which others must lead all shards.
    async fn taken_over_within(&self, begin: Instant, time: Duration) -> Result<Aftermath, DrillError> {
        let end = begin + time;
        while Instant::now() < end && !matches!(self.left_over().await, Ok(None)) {
            sleep(LOOK_INTERVAL).await;
        }
        let taken_over = Some(begin.elapsed());
        sleep_until(end).await;
        match self.left_over().await? {
            Some((id, shard)) => Err(DrillError::NotTakenOver { id, fault: self.fault, shard }),
            None => Ok(Aftermath { taken_over, ..Aftermath::default() }),
        }
    }

    /// A struck node and a shard that nobody has taken over from it.
    async fn left_over(&self) -> Result<Option<(u64, u32)>, DrillError> {
        for NodeProcess { id, .. } in &self.struck {
            if let Some(shard) = self.scene.health.not_taken_over(*id).await? {
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
        self.scene.fleet.node(node.id).is_ok_and(|now| now.pid != node.pid)
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

/// What will have to be undone on `node`.
fn undos(fault: Fault, round: u32, node: &NodeProcess) -> Vec<Undo> {
    let NodeProcess { id, pid, .. } = *node;
    match fault {
        Fault::Kill | Fault::Double | Fault::Assault(_) => Vec::new(),
        Fault::Pause(_) => vec![Undo::Resume { node: id, pid }],
        Fault::PowerCut => vec![Undo::PowerOn { node: id }],
        Fault::HungDisk(_) => vec![Undo::Thaw { node: id }],
        Fault::FullDisk(_) => vec![Undo::Empty { node: id }],
        Fault::Damage if Damage::of_round(round).is_refused() => vec![Undo::SwapBack { node: id }],
        Fault::Damage => vec![Undo::KeepSwapped { node: id }],
        Fault::SlowDisk(_) => vec![Undo::Release { node: id }],
        Fault::Clock(_) => vec![Undo::SetClock { node: id }],
        Fault::Cut(from, _) => Networks::cables(id, from).into_iter().map(|cable| Undo::Plug { cable }).collect(),
    }
}

/// A node whose disk fails ends itself, and may be faster.
fn kill_survivor(node: &NodeProcess) -> Result<(), FleetError> {
    match node.kill() {
        Err(_gone) if !node.exists() => Ok(()),
        killed => killed,
    }
}
