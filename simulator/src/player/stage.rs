//! The loop that takes a world through time. It owns everything and waits for nothing but time and events.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kvarter_api::{Admission, BatchAcknowledgement, GatewayEvent, GatewayStream, StreamTotals, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, LaneInPlay, LaneTasks};
use super::pace::Pace;
use super::report::{PlayReport, PlayStatus};
use super::{PlayOptions, order, places};
use crate::clock::wall_clock;
use crate::device::DeviceIndex;
use crate::lamp::{Order, OrderRefused};
use crate::latency::Latencies;
use crate::load::sum_totals;
use crate::signal::{SignalCatalog, SimulatedKind, TimedReading};
use crate::world::World;

/// How often the world moves on and outboxes are emptied.
const BEAT: Duration = Duration::from_millis(10);
const STATUS_INTERVAL: Duration = Duration::from_millis(250);
/// Events of all lanes between the listeners and the stage.
const EVENTS_MAX: usize = 1_024;
/// At the end, lamps that were left alone for so long have nothing more to do.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Stage {
    world: World,
    catalog: SignalCatalog,
    places: BTreeMap<DeviceIndex, (usize, u32)>,
    lanes: Vec<LaneInPlay>,
    heard: mpsc::Receiver<(usize, GatewayEvent)>,
    tasks: LaneTasks,
    pace: Pace,
    started: Instant,
    patience: Duration,
    /// The moment up to which the world has been measured.
    position: Timestamp,
    ordered_at: Instant,
    latencies: Latencies,
    status: PlayStatus,
    failures: Vec<String>,
}

impl Stage {
    pub(super) fn new(world: World, catalog: SignalCatalog, lanes: Vec<Lane>, options: PlayOptions) -> Self {
        let places = places(&lanes);
        let (heard_tx, heard) = mpsc::channel(EVENTS_MAX);
        let mut tasks = LaneTasks::default();
        let start = |(number, lane): (usize, Lane)| lane.start(number, heard_tx.clone(), &mut tasks);
        let lanes = lanes.into_iter().enumerate().map(start).collect();
        let (now, position) = (Instant::now(), world.start());
        Self {
            pace: Pace::new(position, options.speed),
            started: now,
            patience: options.patience,
            ordered_at: now,
            latencies: Latencies::default(),
            status: PlayStatus { simulated: position, ..PlayStatus::default() },
            failures: Vec::new(),
            world,
            catalog,
            places,
            lanes,
            heard,
            tasks,
            position,
        }
    }

    pub(super) async fn play(mut self, stop: &CancellationToken, status: &watch::Sender<PlayStatus>) -> PlayReport {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut statuses = interval(STATUS_INTERVAL);
        statuses.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut give_up = None;
        while !self.is_over(give_up) {
            tokio::select! {
                _ = beats.tick() => {
                    if give_up.is_none() {
                        self.measure();
                    }
                    self.lanes.iter_mut().for_each(LaneInPlay::flush);
                    let is_ending = stop.is_cancelled() || self.world.next_due().is_none();
                    if give_up.is_none() && is_ending {
                        give_up = Some(Instant::now() + self.patience);
                    }
                }
                Some((lane, event)) = self.heard.recv() => self.hear(lane, event),
                _ = statuses.tick() => {
                    self.refresh_status();
                    status.send_replace(self.status);
                }
                () = sleep_until(give_up.unwrap_or(self.started)), if give_up.is_some() => break,
            }
        }
        let report = self.close(give_up.unwrap_or_else(Instant::now)).await;
        status.send_replace(report.0);
        report.1
    }

    /// Ended, settled and quiet; or no stream is left to play into.
    fn is_over(&self, give_up: Option<Instant>) -> bool {
        let is_done = || self.lanes.iter().all(LaneInPlay::is_settled) && self.ordered_at.elapsed() >= QUIET;
        !self.failures.is_empty() || give_up.is_some() && is_done()
    }

    /// Measures what is due, as long as the lanes keep up.
    fn measure(&mut self) {
        let reached = self.pace.reached(self.started.elapsed(), wall_clock());
        let mut readings = Vec::new();
        loop {
            match self.world.next_due().filter(|due| *due <= reached) {
                Some(_) if self.lanes.iter().any(|lane| lane.outbox.is_full()) => {
                    self.lanes.iter_mut().for_each(LaneInPlay::flush);
                    if self.lanes.iter().any(|lane| lane.outbox.is_full()) {
                        return;
                    }
                }
                Some(due) => {
                    self.world.step(due, &mut readings);
                    self.position = self.position.max(due);
                    self.take(&mut readings);
                }
                None => break,
            }
        }
        // Between two measurements time goes on, but not beyond the end of a replay.
        if self.world.next_due().is_some() {
            self.position = self.position.max(reached);
        }
    }

    /// Puts readings into the outboxes of their lanes.
    fn take(&mut self, readings: &mut Vec<TimedReading>) {
        for reading in readings.drain(..) {
            let (lane, alias) = self.places[&reading.device];
            self.lanes[lane].outbox.push(self.catalog.encode(&reading, alias));
            if reading.signal.kind() == SimulatedKind::Luminaire {
                self.status.lamp_readings += 1;
            } else {
                self.status.sensor_readings += 1;
            }
        }
    }

    fn hear(&mut self, lane: usize, event: GatewayEvent) {
        match event {
            GatewayEvent::Acknowledged(acknowledgement) => self.measure_latency(&acknowledgement),
            GatewayEvent::Command(delivery) => self.obey_command(lane, delivery),
            GatewayEvent::Desired(desired) => self.obey_desired(lane, &desired),
            GatewayEvent::Disconnected(error) => {
                tracing::info!(lane, %error, "gateway stream lost, it will be resumed");
                self.status.disconnects += 1;
            }
            GatewayEvent::Resumed { endpoint } => tracing::info!(lane, endpoint, "gateway stream resumed"),
            GatewayEvent::Moving => tracing::info!(lane, "the node drains, the gateway stream moves"),
            GatewayEvent::Detached { alias, error } => {
                tracing::warn!(lane, alias, error, "a device could not be attached again");
                self.status.errors += 1;
            }
            GatewayEvent::Failed(error) => {
                self.status.errors += 1;
                self.failures.push(error.to_string());
            }
        }
    }

    fn measure_latency(&mut self, acknowledgement: &BatchAcknowledgement) {
        self.latencies.record_many(acknowledgement.elapsed, acknowledgement.readings.len() as u64);
    }

    fn obey_command(&mut self, lane: usize, delivery: v1::CommandDelivery) {
        self.ordered_at = Instant::now();
        match self.lanes[lane].commands.admit(&delivery, SystemTime::from(wall_clock())) {
            Admission::Execute => {
                let (outcome, detail) = match self.execute(lane, delivery.alias, &order::from_command(&delivery)) {
                    Ok(()) => {
                        self.status.commands_executed += 1;
                        (v1::CommandOutcome::Succeeded, String::new())
                    }
                    Err(refused) => {
                        self.status.commands_failed += 1;
                        (v1::CommandOutcome::Failed, refused.to_string())
                    }
                };
                let lane = &mut self.lanes[lane];
                let acknowledgement = lane.commands.complete(delivery.alias, delivery.id, outcome, detail);
                lane.outbox.acknowledge(acknowledgement);
            }
            Admission::Answer(acknowledgement) => self.lanes[lane].outbox.acknowledge(acknowledgement),
            Admission::Executing => {}
            Admission::Refuse(refusal) => {
                tracing::debug!(command = delivery.id, %refusal, "delivery refused");
                self.status.deliveries_refused += 1;
            }
        }
        self.lanes[lane].flush();
    }

    fn obey_desired(&mut self, lane: usize, desired: &v1::DesiredState) {
        let Some(order) = order::from_desired(desired, &self.catalog) else { return };
        self.ordered_at = Instant::now();
        if let Err(refusal) = self.lanes[lane].commands.fence(desired.shard, desired.epoch) {
            tracing::debug!(%refusal, "desired state refused");
            self.status.deliveries_refused += 1;
            return;
        }
        match self.execute(lane, desired.alias, &order) {
            Ok(()) => self.status.commands_executed += 1,
            Err(refused) => {
                tracing::info!(%refused, "desired state not followed");
                self.status.commands_failed += 1;
            }
        }
    }

    /// Lets the device behind `alias` carry out `order` now, in simulated time.
    fn execute(&mut self, lane: usize, alias: u32, order: &Order) -> Result<(), OrderRefused> {
        let unknown = || OrderRefused::UnknownAction { action: order.action.clone() };
        let device = *self.lanes[lane].devices.get(alias as usize).ok_or_else(unknown)?;
        let mut readings = Vec::new();
        self.world.execute(device, order, self.position, &mut readings)?;
        self.take(&mut readings);
        Ok(())
    }

    fn refresh_status(&mut self) {
        let totals = self.lanes.iter().map(LaneInPlay::totals).fold(StreamTotals::default(), sum_totals);
        self.status.totals = totals;
        self.status.simulated = self.position;
        self.status.latency = self.latencies.summary();
    }

    /// Ends the streams in order, those that do not answer by `give_up` at once.
    async fn close(mut self, give_up: Instant) -> (PlayStatus, PlayReport) {
        self.refresh_status();
        let Self { world, lanes, mut tasks, heard, mut status, failures, .. } = self;
        drop(heard);
        tasks.listeners.shutdown().await;
        // The speakers end when their lanes hang up, and give back their share of the streams.
        let streams: Vec<Arc<GatewayStream>> = lanes.into_iter().map(LaneInPlay::into_stream).collect();
        let ended = async { while tasks.speakers.join_next().await.is_some() {} };
        if timeout_at(give_up, ended).await.is_err() {
            tasks.speakers.shutdown().await;
        }
        let mut totals = StreamTotals::default();
        for stream in streams.into_iter().filter_map(Arc::into_inner) {
            let patience = give_up.saturating_duration_since(Instant::now());
            totals = sum_totals(totals, stream.close(patience.max(QUIET)).await);
        }
        status.totals = totals;
        let report = PlayReport::new(&status, failures, world.tallies().to_vec());
        (status, report)
    }
}
