//! Plays a world into a cluster: registers its devices, sends what they measure, lets its lamps obey.
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

use std::collections::BTreeMap;
use std::time::Duration;

use kvarter_api::{ApiError, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::device::{DeviceIndex, SimulatedDevice};
use crate::enroll::{EnrollError, register};
use crate::signal::{CatalogMismatch, SignalCatalog};
use crate::world::World;
use lane::Lane;
pub use pace::{NotASpeed, Speed};
pub use report::{PlayReport, PlayStatus};
use stage::Stage;

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
    options: PlayOptions,
}

impl Player {
    /// Registers the devices of `world`, opens the streams and attaches each device to one.
    pub async fn prepare(client: &Client, world: World, options: PlayOptions) -> Result<Self, PlayError> {
        let catalog = SignalCatalog::resolve(&client.kinds().await?)?;
        let devices = world.devices();
        register(client, devices.iter().map(SimulatedDevice::registration).collect()).await?;
        let lane_count = options.lanes.max(1) as usize;
        let mut lanes = Vec::new();
        for number in 0..lane_count {
            let own: Vec<DeviceIndex> =
                (0..).map(DeviceIndex).take(devices.len()).skip(number).step_by(lane_count).collect();
            lanes.push(Lane::open(client, &world, own).await?);
        }
        Ok(Self { world, catalog, lanes, options })
    }

    /// Plays until the world ends or `stop`, then waits, within the patience, until everything that was sent has its outcome
    /// and the lamps have been left alone for a second. `status` follows.
    pub async fn run(self, stop: &CancellationToken, status: &watch::Sender<PlayStatus>) -> PlayReport {
        Stage::new(self.world, self.catalog, self.lanes, self.options).play(stop, status).await
    }
}

/// Where each device is attached: number of the lane and alias on its stream.
fn places(lanes: &[Lane]) -> BTreeMap<DeviceIndex, (usize, u32)> {
    let of_lane = |(number, lane): (usize, &Lane)| {
        let aliases: Vec<_> = (0..).zip(lane.devices()).map(|(alias, device)| (*device, (number, alias))).collect();
        aliases
    };
    lanes.iter().enumerate().flat_map(of_lane).collect()
}
