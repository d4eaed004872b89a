//! What is played: the built-in town, which goes on where it stopped, or real readings from files.
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kvarter_api::Client;
use kvarter_simulator::{
    PlayOptions, PlayReport, PlayStatus, Player, ReplaySpan, Speed, World, WorldClock, town_start, wall_clock,
};
use tokio::sync::watch;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// Gateway streams: one for each node.
const LANES: u32 = 3;
/// Time for the last readings to be acknowledged, when the play is over.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the town's clock is written down: so much of its past is played again after a crash, and counted as duplicate.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// A world and how to play it.
pub(super) struct Play {
    world: World,
    options: PlayOptions,
    scene: String,
    /// Of the town; a replay has none.
    clock: Option<PathBuf>,
}

impl Play {
    /// The town of `seed`, from where `clock` says that it stopped.
    pub(super) fn town(seed: u64, speed: Speed, clock: PathBuf) -> anyhow::Result<Self> {
        let scene = format!("town {seed}");
        let stored = WorldClock::load(&clock)
            .with_context(|| format!("{} is not the clock of a town; begin anew with --clean", clock.display()))?;
        let start = match stored {
            Some(stored) if stored.world == scene => stored.simulated,
            Some(_) | None => town_start(wall_clock()),
        };
        let world = World::town(seed, start);
        Ok(Self { world, options: options(speed), scene, clock: Some(clock) })
    }

    /// The readings of `span` in the files in `dir`, by default all.
    pub(super) fn replay(dir: &Path, span: Option<ReplaySpan>, speed: Speed) -> anyhow::Result<Self> {
        let world = World::replay(dir, span)?;
        let scene = "replay of Aarhus".to_owned();
        Ok(Self { world, options: options(speed), scene, clock: None })
    }

    pub(super) fn scene(&self) -> &str {
        &self.scene
    }

    pub(super) fn device_count(&self) -> usize {
        self.world.devices().len()
    }

    /// Registers the devices and connects them.
    pub(super) async fn prepare(self, client: &Client) -> anyhow::Result<PreparedPlay> {
        let player = Player::prepare(client, self.world, self.options).await?;
        Ok(PreparedPlay { player, scene: self.scene, clock: self.clock })
    }
}

/// A play whose devices are in the cluster.
pub(super) struct PreparedPlay {
    player: Player,
    scene: String,
    clock: Option<PathBuf>,
}

impl PreparedPlay {
    /// Plays until the world ends or `stop`.
    pub(super) async fn run(
        self,
        stop: &CancellationToken,
        status: &watch::Sender<PlayStatus>,
    ) -> anyhow::Result<PlayReport> {
        let mut playing = Box::pin(self.player.run(stop, status));
        let mut clock_ticks = interval(CLOCK_INTERVAL);
        let report = loop {
            tokio::select! {
                report = &mut playing => break report,
                _ = clock_ticks.tick() => save_clock(self.clock.as_deref(), &self.scene, status)?,
            }
        };
        save_clock(self.clock.as_deref(), &self.scene, status)?;
        Ok(report)
    }
}

fn options(speed: Speed) -> PlayOptions {
    PlayOptions { speed, lanes: LANES, patience: PATIENCE }
}

/// Writes down how far the town has come; nothing before its first moment.
fn save_clock(file: Option<&Path>, scene: &str, status: &watch::Sender<PlayStatus>) -> anyhow::Result<()> {
    let simulated = status.borrow().simulated;
    let Some(file) = file.filter(|_| simulated != PlayStatus::default().simulated) else { return Ok(()) };
    let clock = WorldClock { world: scene.to_owned(), simulated };
    clock.save(file).with_context(|| format!("can not write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_town_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock.json");
        let first = Play::town(7, Speed::Max, file.clone()).unwrap();
        let simulated = "2025-03-03T05:00:00Z".parse().unwrap();
        let status = watch::Sender::new(PlayStatus { simulated, ..PlayStatus::default() });
        save_clock(first.clock.as_deref(), first.scene(), &status).unwrap();
        assert_eq!(Play::town(7, Speed::Max, file.clone()).unwrap().world.start(), simulated);
        assert_eq!(Play::town(8, Speed::Max, file).unwrap().world.start(), first.world.start());
    }
}
