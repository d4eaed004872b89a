//! Open-loop load: readings at a fixed rate whatever the cluster answers, and how long each took until it was acknowledged.
//!
//! Start at [`Load::prepare`]. A load is made of lanes, one gateway stream each, with devices of their own. A reading counts
//! from the moment it was due, so a cluster that stalls can not hide behind a generator that waits for it.
mod lane;
mod ledger;
mod plan;
mod report;
mod schedule;

use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::{ApiError, Client, GatewayOptions, StreamTotals};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::wall_clock;
use crate::enroll::{EnrollError, open_attached, register};
use lane::{Lane, LaneOutcome};
pub use ledger::{Bits, Ledger, Serial};
pub use plan::{LoadPlan, PlanError};
pub(crate) use report::sum_totals;
pub use report::{LoadOutcome, LoadProgress, LoadReport};
use schedule::Schedule;

/// Events of one stream that may wait: some seconds of acknowledgements.
const EVENTS_MAX: usize = 4_096;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error("the cluster's catalog has no attribute {} of kind {}", LoadPlan::ATTRIBUTE, LoadPlan::KIND)]
    CatalogMismatch,
}

/// Devices that are registered and attached, ready to report.
#[derive(Debug)]
pub struct Load {
    plan: LoadPlan,
    lanes: Vec<Lane>,
    shards: BTreeSet<u32>,
}

impl Load {
    /// Registers the devices of `plan`, opens its streams and attaches each device to one.
    pub async fn prepare(client: &Client, plan: LoadPlan) -> Result<Self, LoadError> {
        plan.check()?;
        let attribute = load_attribute(client).await?;
        register(client, plan.registrations().collect()).await?;
        let first_observed_us = wall_clock().as_microsecond();
        let (mut lanes, mut shards) = (Vec::new(), BTreeSet::new());
        for number in 0..plan.lanes {
            let ledger = Ledger::new(plan.lane_devices(number), first_observed_us);
            let options = GatewayOptions { events_max: EVENTS_MAX };
            let (stream, events, of_devices) = open_attached(client, options, ledger.devices()).await?;
            shards.extend(of_devices);
            lanes.push(Lane::new(stream, events, ledger, attribute));
        }
        Ok(Self { plan, lanes, shards })
    }

    /// The shards that the devices belong to.
    pub fn shards(&self) -> &BTreeSet<u32> {
        &self.shards
    }

    /// Sends for the plan's duration or until `stop`, then waits up to `patience` for the acknowledgements that are open.
    /// Tells `progress` about every second.
    pub async fn run(
        self,
        stop: &CancellationToken,
        patience: Duration,
        mut progress: impl FnMut(LoadProgress),
    ) -> LoadOutcome {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        let mut totals = Vec::new();
        for lane in self.lanes {
            let schedule = Schedule::new(self.plan.lane_rate(), self.plan.duration);
            let (totals_tx, totals_rx) = watch::channel(StreamTotals::default());
            totals.push(totals_rx);
            tasks.spawn(lane.run(schedule, self.plan.linger, start, stop.clone(), patience, totals_tx));
        }
        let mut lanes: Vec<LaneOutcome> = Vec::new();
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(outcome) => lanes.push(outcome.expect("a lane does not panic and is not aborted")),
                    None => break,
                },
                _ = ticks.tick() => {
                    progress(LoadProgress::sum(start.elapsed(), totals.iter().map(|totals| *totals.borrow())));
                }
            }
        }
        LoadOutcome::merge(lanes, self.shards.len())
    }
}

/// Number of [`LoadPlan::ATTRIBUTE`] in the cluster's catalog.
pub async fn load_attribute(client: &Client) -> Result<u32, LoadError> {
    let kinds = client.kinds().await?;
    let kind = kinds.iter().find(|kind| kind.name == LoadPlan::KIND);
    let attribute =
        kind.and_then(|kind| kind.attributes.iter().find(|attribute| attribute.name == LoadPlan::ATTRIBUTE));
    attribute.map(|attribute| attribute.number).ok_or(LoadError::CatalogMismatch)
}
