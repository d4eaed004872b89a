//! Open-loop load: readings at a fixed rate whatever the cluster answers, and how long each took until it was acknowledged.
//!
//! Start at [`Load::prepare`]. A load is made of lanes, one gateway stream each, with devices of their own. A reading counts
//! from the moment it was due, so a cluster that stalls can not hide behind a generator that waits for it.
mod calls;
mod commands;
mod lane;
mod ledger;
mod plan;
mod reads;
mod report;
mod schedule;
mod search;
mod study;
mod timeline;
mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kvarter_api::{ApiError, Client, GatewayOptions, StreamTotals};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::wall_clock;
use crate::enroll::{EnrollError, open_attached, register};
pub use calls::CallReport;
pub use commands::CommandReport;
use commands::Commands;
use lane::{Lane, LaneOutcome};
pub use ledger::{Bits, Ledger};
pub use plan::{LoadPlan, PlanError};
use reads::Reads;
pub(crate) use report::sum_totals;
pub use report::{LoadOutcome, LoadProgress, LoadReport};
use schedule::Schedule;
pub use search::{RateSearch, Trial};
pub use study::{LoadPhase, LoadStudy, SearchResult};
pub use timeline::LoadSecond;
use timeline::Timeline;
pub use turns::{Serial, Turns};

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
    warm_up: Duration,
    timeline: Timeline,
    reads: Option<Reads>,
    commands: Option<Commands>,
}

impl Load {
    /// Registers the devices of `plan`, opens its streams and attaches each device to one.
    pub async fn prepare(client: &Client, plan: LoadPlan) -> Result<Self, LoadError> {
        plan.check()?;
        let attribute = load_attribute(client).await?;
        register(client, plan.registrations().collect()).await?;
        let first_observed_us = wall_clock().as_microsecond();
        let timeline = Timeline::default();
        let mut attaching = JoinSet::new();
        for number in 0..plan.lanes {
            let ledger = Ledger::new(plan.lane_devices(number), first_observed_us);
            let (client, timeline) = (client.clone(), timeline.clone());
            attaching.spawn(async move {
                let options = GatewayOptions { events_max: EVENTS_MAX };
                let (stream, events, shards) = open_attached(&client, options, ledger.devices()).await?;
                Ok::<_, EnrollError>((Lane::new(stream, events, ledger, attribute, timeline), shards))
            });
        }
        let (mut lanes, mut shards) = (Vec::new(), BTreeSet::new());
        while let Some(attached) = attaching.join_next().await {
            let (lane, of_devices) = attached.expect("an attachment does not panic and is not aborted")?;
            shards.extend(of_devices);
            lanes.push(lane);
        }
        Ok(Self { plan, lanes, shards, warm_up: Duration::ZERO, timeline, reads: None, commands: None })
    }

    /// The latencies of readings that are due within `warm_up` are not in the report, but for its seconds.
    #[must_use]
    pub fn with_warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }

    /// Reads twins of the devices too, linearizable, so many in a second.
    #[must_use]
    pub fn with_reads(self, client: &Client, reads_per_s: f64) -> Self {
        let devices = self.plan.device_names().filter_map(|name| name.parse().ok()).collect();
        let reads = Reads { client: client.clone(), devices, reads_per_s };
        Self { reads: (reads_per_s > 0.0).then_some(reads), ..self }
    }

    /// Issues commands too, so many in a second, to devices that are registered and attached for them.
    pub async fn with_commands(self, client: &Client, commands_per_s: f64) -> Result<Self, LoadError> {
        if commands_per_s <= 0.0 {
            return Ok(self);
        }
        let commands = Commands::prepare(client, &self.plan, commands_per_s).await?;
        Ok(Self { commands: Some(commands), ..self })
    }

    /// The shards that the devices belong to.
    pub fn shards(&self) -> &BTreeSet<u32> {
        &self.shards
    }

    /// What the devices will say, for whoever listens to the feed.
    pub fn turns(&self) -> Vec<Arc<Turns>> {
        self.lanes.iter().map(Lane::turns).collect()
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
            let schedule = Schedule::new(self.plan.lane_rate(), self.plan.duration, self.warm_up);
            let (totals_tx, totals_rx) = watch::channel(StreamTotals::default());
            totals.push(totals_rx);
            tasks.spawn(lane.run(schedule, self.plan.linger, start, stop.clone(), patience, totals_tx));
        }
        let mut reading = JoinSet::new();
        if let Some(reads) = self.reads {
            let schedule = Schedule::new(reads.reads_per_s, self.plan.duration, self.warm_up);
            reading.spawn(reads.run(schedule, start, stop.clone()));
        }
        let mut ordering = JoinSet::new();
        if let Some(commands) = self.commands {
            let schedule = Schedule::new(commands.commands_per_s(), self.plan.duration, self.warm_up);
            ordering.spawn(commands.run(schedule, start, stop.clone(), patience));
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
        let mut outcome = LoadOutcome::merge(lanes, &self.plan, self.shards.len(), self.timeline.summary());
        outcome.reads = reading.join_all().await.pop();
        outcome.commands = ordering.join_all().await.pop();
        outcome
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
