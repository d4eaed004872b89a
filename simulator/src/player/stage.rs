//! The loop that takes a world through time. It owns everything and waits for nothing but time and events.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kvarter_api::{Admission, BatchAcknowledgement, DeviceName, GatewayEvent, GatewayStream, StreamTotals, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::lane::{Lane, LaneInPlay, LaneTasks};
use super::pace::Pace;
use super::report::{PlayReport, PlayStatus};
use super::steps::{StepDone, StepsInPlay};
use super::{PlayOptions, Seating, order};
use crate::clock::wall_clock;
use crate::device::DeviceIndex;
use crate::dials::Obedience;
use crate::latency::Latencies;
use crate::load::sum_totals;
use crate::order::OrderRefused;
use crate::signal::{SignalCatalog, SimulatedKind, TimedReading};
use crate::world::World;

/// How often the world moves on and outboxes are emptied.
const BEAT: Duration = Duration::from_millis(10);
const STATUS_INTERVAL: Duration = Duration::from_millis(250);
/// Events of all lanes between the listeners and the stage.
const EVENTS_MAX: usize = 1_024;
/// At the end, devices that were left alone for so long have nothing more to do.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Stage {
    world: World,
    catalog: SignalCatalog,
    seating: Seating,
    lanes: Vec<LaneInPlay>,
    heard: mpsc::Receiver<(usize, GatewayEvent)>,
    tasks: LaneTasks,
    pace: Pace,
    /// Whoever leads the play in steps, in place of its pace.
    steps: Option<StepsInPlay>,
    started: Instant,
    patience: Duration,
    /// The moment up to which the world has been measured.
    position: Timestamp,
    ordered_at: Instant,
    latencies: Latencies,
    status: PlayStatus,
    failures: Vec<String>,
    /// Answers that their devices take their time for; the number of open commands bounds them.
    slow: Vec<SlowAnswer>,
}

/// An answer to a command that is given late.
struct SlowAnswer {
    at: Instant,
    lane: usize,
    delivery: v1::CommandDelivery,
}

impl Stage {
    pub(super) fn new(
        world: World,
        catalog: SignalCatalog,
        (lanes, seating): (Vec<Lane>, Seating),
        options: PlayOptions,
    ) -> Self {
        let (heard_tx, heard) = mpsc::channel(EVENTS_MAX);
        let mut tasks = LaneTasks::default();
        let start = |(number, lane): (usize, Lane)| lane.start(number, heard_tx.clone(), &mut tasks);
        let lanes = lanes.into_iter().enumerate().map(start).collect();
        let (now, position) = (Instant::now(), world.start());
        Self {
            pace: Pace::new(position, options.speed),
            steps: None,
            started: now,
            patience: options.patience,
            ordered_at: now,
            latencies: Latencies::default(),
            status: PlayStatus { simulated: position, ..PlayStatus::default() },
            failures: Vec::new(),
            world,
            catalog,
            seating,
            slow: Vec::new(),
            lanes,
            heard,
            tasks,
            position,
        }
    }

    pub(super) fn led_by(mut self, steps: StepsInPlay) -> Self {
        self.steps = Some(steps);
        self
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
                    self.beat(give_up.is_none());
                    let is_ending = stop.is_cancelled() || self.world.next_due().is_none();
                    if give_up.is_none() && is_ending {
                        give_up = Some(Instant::now() + self.patience);
                    }
                }
                Some((lane, event)) = self.heard.recv() => self.hear(lane, event),
                () = StepsInPlay::moved(&mut self.steps) => self.beat(give_up.is_none()),
                _ = statuses.tick() => {
                    self.refresh_status();
                    status.send_replace(self.status);
                }
                () = sleep_until(give_up.unwrap_or(self.started)), if give_up.is_some() => break,
            }
            self.tell_step();
        }
        let report = self.close(give_up.unwrap_or_else(Instant::now)).await;
        status.send_replace(report.0);
        report.1
    }

    /// Ended, settled and quiet; or no stream is left to play into.
    fn is_over(&self, give_up: Option<Instant>) -> bool {
        let is_answered = || self.slow.is_empty() && self.ordered_at.elapsed() >= QUIET;
        let is_done = || self.lanes.iter().all(LaneInPlay::is_settled) && is_answered();
        !self.failures.is_empty() || give_up.is_some() && is_done()
    }

    /// Moves the world on, unless the play is ending, and hands over what lanes take.
    fn beat(&mut self, moves_on: bool) {
        if moves_on {
            self.measure();
        }
        self.answer_slowly();
        self.lanes.iter_mut().for_each(LaneInPlay::flush);
    }

    /// Tells who leads the play how far it is, once everything that was sent has its outcome.
    fn tell_step(&self) {
        let Some(steps) = &self.steps else { return };
        if self.position >= steps.until() && self.lanes.iter().all(LaneInPlay::is_settled) {
            let PlayStatus { commands_executed, commands_failed, commands_ignored, .. } = self.status;
            steps.tell(StepDone {
                until: self.position,
                orders: commands_executed + commands_failed + commands_ignored,
            });
        }
    }

    /// Measures what is due, as long as the lanes keep up.
    fn measure(&mut self) {
        let reached = match &self.steps {
            Some(steps) => steps.until().min(wall_clock()),
            None => self.pace.reached(self.started.elapsed(), wall_clock()),
        };
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
            let (lane, alias) = self.seating.of(reading.device);
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
            GatewayEvent::Moving => tracing::info!(lane, "the gateway stream moves to another node"),
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
        let Some(device) = self.device_name(lane, delivery.alias) else { return };
        self.ordered_at = Instant::now();
        match self.lanes[lane].commands.admit(&device, &delivery, SystemTime::from(wall_clock())) {
            Admission::Execute => self.carry_out(lane, delivery),
            Admission::Answer(acknowledgement) => self.lanes[lane].outbox.acknowledge(acknowledgement),
            Admission::Executing => {}
            Admission::Refuse(refusal) => {
                tracing::debug!(command = delivery.id, %refusal, "delivery refused");
                self.status.deliveries_refused += 1;
            }
        }
        self.lanes[lane].flush();
    }

    /// Lets the device carry out a command and answer it: at once, late, or never.
    fn carry_out(&mut self, lane: usize, delivery: v1::CommandDelivery) {
        let order = order::from_command(&delivery);
        let unknown = OrderRefused::UnknownAction { action: order.action.clone() };
        let at = self.position;
        let obeyed = self.with_device(lane, delivery.alias, unknown, |world, device, readings| {
            world.execute(device, &order, at, readings)
        });
        match obeyed {
            Ok(Obedience::Ignored) => self.status.commands_ignored += 1,
            Ok(Obedience::Prompt) => {
                self.status.commands_executed += 1;
                self.answer(lane, delivery, v1::CommandOutcome::Succeeded, String::new());
            }
            Ok(Obedience::Slow(delay)) => {
                self.status.commands_executed += 1;
                let delay = Duration::try_from(delay).unwrap_or_default();
                self.slow.push(SlowAnswer { at: Instant::now() + delay, lane, delivery });
            }
            Err(refused) => {
                self.status.commands_failed += 1;
                self.answer(lane, delivery, v1::CommandOutcome::Failed, refused.to_string());
            }
        }
    }

    fn answer(&mut self, lane: usize, delivery: v1::CommandDelivery, outcome: v1::CommandOutcome, detail: String) {
        let Some(device) = self.device_name(lane, delivery.alias) else { return };
        let lane = &mut self.lanes[lane];
        let acknowledgement = lane.commands.complete(&device, delivery.alias, delivery.id, outcome, detail);
        lane.outbox.acknowledge(acknowledgement);
    }

    /// Gives the slow answers whose time has come.
    fn answer_slowly(&mut self) {
        let now = Instant::now();
        let due: Vec<SlowAnswer> = self.slow.extract_if(.., |answer| answer.at <= now).collect();
        for SlowAnswer { lane, delivery, .. } in due {
            self.answer(lane, delivery, v1::CommandOutcome::Succeeded, String::new());
        }
    }

    fn obey_desired(&mut self, lane: usize, desired: &v1::DesiredState) {
        let kind = self.seating.device(lane, desired.alias).filter(|device| device.0 < self.world.device_count());
        let Some(kind) = kind.map(|device| self.world.kind(device)) else { return };
        let wishes = order::from_desired(desired, kind, &self.catalog);
        if wishes.is_empty() {
            return;
        }
        self.ordered_at = Instant::now();
        if let Err(refusal) = self.lanes[lane].commands.fence(desired.shard, desired.epoch) {
            tracing::debug!(%refusal, "desired state refused");
            self.status.deliveries_refused += 1;
            return;
        }
        let at = self.position;
        for (signal, wanted) in wishes {
            let unknown = OrderRefused::NotWritable { attribute: signal.attribute() };
            let followed = self.with_device(lane, desired.alias, unknown, |world, device, readings| {
                world.follow(device, signal, &wanted, at, readings)
            });
            match followed {
                Ok(Obedience::Ignored) => self.status.commands_ignored += 1,
                Ok(Obedience::Prompt | Obedience::Slow(_)) => self.status.commands_executed += 1,
                Err(refused) => {
                    tracing::info!(%refused, "desired state not followed");
                    self.status.commands_failed += 1;
                }
            }
        }
    }

    /// The name of the device behind `alias`; none when there is no such device.
    fn device_name(&self, lane: usize, alias: u32) -> Option<DeviceName> {
        let device = self.seating.device(lane, alias).filter(|device| device.0 < self.world.device_count())?;
        self.world.device(device).name.parse().ok()
    }

    /// Lets the device behind `alias` do something, and takes what it reports; `unknown` when there is no such device.
    fn with_device(
        &mut self,
        lane: usize,
        alias: u32,
        unknown: OrderRefused,
        act: impl FnOnce(&mut World, DeviceIndex, &mut Vec<TimedReading>) -> Result<Obedience, OrderRefused>,
    ) -> Result<Obedience, OrderRefused> {
        let device = self.seating.device(lane, alias).filter(|device| device.0 < self.world.device_count());
        let mut readings = Vec::new();
        let obedience = act(&mut self.world, device.ok_or(unknown)?, &mut readings)?;
        self.take(&mut readings);
        Ok(obedience)
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
        let Self { mut world, lanes, mut tasks, heard, mut status, failures, .. } = self;
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
        let light = world.light(status.simulated);
        let report = PlayReport::new(&status, failures, world.tallies().to_vec(), light);
        (status, report)
    }
}
