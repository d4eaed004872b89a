//! Plays a world into a cluster: registers its devices, sends what they measure, lets them obey.
//!
//! Start at [`Player::prepare`]. Each lane is a gateway stream that speaks for a part of the devices. One loop (`stage`) owns
//! the world and never waits for the cluster, so commands are heard while readings wait for room:
//! ```text
//!   World ── readings ─► Stage ── batches ─► speaker ─► GatewayStream ──► node
//!     ▲                  │ ▲                               │
//!     └──── orders ──────┘ └───────── listener ◄── events ─┘
//! ```
mod lane;
mod order;
mod outbox;
mod pace;
mod report;
mod stage;
mod steps;

use std::time::Duration;

use kvarter_api::{ApiError, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::device::DeviceIndex;
use crate::enroll::{EnrollError, register_each};
use crate::signal::{CatalogMismatch, SignalCatalog};
use crate::world::World;
use lane::Lane;
pub use pace::{NotASpeed, Speed};
pub use report::{PlayReport, PlayStatus};
use stage::Stage;
pub use steps::{PlayEnded, StepDone, Steps, StepsInPlay};

/// How to play a world.
#[derive(Clone, Copy, Debug)]
pub struct PlayOptions {
    pub speed: Speed,
    /// Gateway streams side by side; 0 counts as 1.
    pub lanes: u32,
    /// Bound of the wait for acknowledgements and commands at the end.
    pub patience: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Catalog(#[from] CatalogMismatch),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
}

/// A world whose devices are registered and attached.
#[derive(Debug)]
pub struct Player {
    world: World,
    catalog: SignalCatalog,
    lanes: Vec<Lane>,
    seating: Seating,
    options: PlayOptions,
}

impl Player {
    /// Registers the devices of `world`, opens the streams and attaches each device to one.
    pub async fn prepare(client: &Client, world: World, options: PlayOptions) -> Result<Self, PlayError> {
        let catalog = SignalCatalog::resolve(&client.kinds().await?)?;
        register_each(client, world.devices().map(|device| device.registration())).await?;
        let seating = Seating { lanes: options.lanes.max(1) };
        let mut lanes = Vec::new();
        for number in 0..seating.lanes {
            lanes.push(Lane::open(client, &world, seating, number).await?);
        }
        Ok(Self { world, catalog, lanes, seating, options })
    }

    /// Plays until the world ends or `stop`, then waits, within the patience, until everything that was sent has its outcome
    /// and the devices have been left alone for a second. `status` follows.
    pub async fn run(self, stop: &CancellationToken, status: &watch::Sender<PlayStatus>) -> PlayReport {
        self.stage().play(stop, status).await
    }

    /// The same, as far as `steps` lead it; the speed does not matter then.
    pub async fn run_in_steps(
        self,
        steps: StepsInPlay,
        stop: &CancellationToken,
        status: &watch::Sender<PlayStatus>,
    ) -> PlayReport {
        self.stage().led_by(steps).play(stop, status).await
    }

    fn stage(self) -> Stage {
        Stage::new(self.world, self.catalog, (self.lanes, self.seating), self.options)
    }
}

/// Where each device is attached: the lanes take turns.
#[derive(Clone, Copy, Debug)]
struct Seating {
    /// At least 1.
    lanes: u32,
}

impl Seating {
    /// Number of the lane and alias on its stream.
    fn of(self, device: DeviceIndex) -> (usize, u32) {
        ((device.0 % self.lanes) as usize, device.0 / self.lanes)
    }

    /// The device behind an alias of a lane; none when no world is so large.
    fn device(self, lane: usize, alias: u32) -> Option<DeviceIndex> {
        let lane = u32::try_from(lane).ok()?;
        alias.checked_mul(self.lanes)?.checked_add(lane).map(DeviceIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_found_behind_its_alias() {
        let seating = Seating { lanes: 3 };
        for device in (0..50).map(DeviceIndex) {
            let (lane, alias) = seating.of(device);
            assert!(lane < 3);
            assert_eq!(seating.device(lane, alias), Some(device));
        }
        assert_eq!(seating.device(1, u32::MAX), None);
    }
}
