//! The ractor actor of a shard that this node leads: runs what [`WritePath`] says, supervises devices and services.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvarter_cluster::{LogIndex, NodeId, Ports, ProposeError, ShardHandle, Term};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::device::DeviceReport;
use crate::service::ServiceBirth;
use crate::shard::defect::{Defect, Recurrences};
use crate::shard::delivery::Outcome;
use crate::shard::devices::{DeviceSurroundings, Devices};
use crate::shard::inbox::ReplyTo;
use crate::shard::proposals::Proposals;
use crate::shard::services::Services;
use crate::shard::state::{Action, BatchBounds, Event, Ground, Loss, Submission, Work, WritePath};
use crate::shard::time::ShardTime;
use crate::{Catalog, Effect, Limits, ShardState};

/// How often the shard looks at what time does: deadlines, expiry, wakes, restarts.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) enum ShardMessage {
    Submit(Submission<ReplyTo>),
    GatherOver,
    LingerOver,
    Committed(Result<LogIndex, Loss>),
    Confirmed(Result<(), Loss>),
    Sweep,
    /// The leadership is gone, or the node stops: answer what is there and end.
    Depose,
    Device(DeviceReport),
    Sent {
        node: NodeId,
        outcomes: Vec<Outcome>,
    },
}

/// What an actor is given when its leadership begins.
pub(crate) struct ShardBirth {
    pub(crate) node: NodeId,
    pub(crate) term: Term,
    pub(crate) bounds: BatchBounds,
    pub(crate) limits: Arc<Limits>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) proposals: Arc<Proposals>,
    /// Work whose deciding panicked, all shards of the node together.
    pub(crate) defects: Arc<AtomicU64>,
    pub(crate) surroundings: DeviceSurroundings,
}

pub(crate) struct ShardActor;

pub(crate) struct Leading {
    myself: ActorRef<ShardMessage>,
    term: Term,
    limits: Arc<Limits>,
    catalog: watch::Receiver<Arc<Catalog>>,
    handle: ShardHandle<ShardState>,
    ports: Ports,
    tasks: TaskTracker,
    stop: CancellationToken,
    write_path: WritePath<ReplyTo>,
    time: ShardTime,
    /// Sweeps that panicked.
    recurrences: Recurrences,
    proposals: Arc<Proposals>,
    defects: Arc<AtomicU64>,
    devices: Devices,
    services: Services,
    /// The first entry of the leadership is applied, and the end has not come.
    is_acting: bool,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = Leading;
    type Arguments = ShardBirth;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMessage>,
        birth: ShardBirth,
    ) -> Result<Leading, ActorProcessingErr> {
        let surroundings = birth.surroundings;
        let service = ServiceBirth {
            district: String::new(),
            handle: surroundings.handle.clone(),
            catalog: birth.catalog.clone(),
            ports: surroundings.ports.clone(),
            shard: myself.clone(),
        };
        Ok(Leading {
            myself: myself.clone(),
            term: birth.term,
            limits: birth.limits,
            catalog: birth.catalog,
            handle: surroundings.handle.clone(),
            ports: surroundings.ports.clone(),
            tasks: surroundings.tasks.clone(),
            stop: surroundings.stop.clone(),
            write_path: WritePath::new(birth.node, birth.bounds),
            time: ShardTime::default(),
            recurrences: Recurrences::default(),
            proposals: birth.proposals,
            defects: birth.defects,
            devices: Devices::new(surroundings, myself),
            services: Services::new(service),
            is_acting: false,
        })
    }

    async fn post_start(&self, _: ActorRef<ShardMessage>, leading: &mut Leading) -> Result<(), ActorProcessingErr> {
        leading.sweep_later();
        leading.write(Event::Begin);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<ShardMessage>,
        message: ShardMessage,
        leading: &mut Leading,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMessage::Submit(submission) => leading.write(Event::Submitted(submission)),
            ShardMessage::GatherOver => leading.write(Event::GatherOver),
            ShardMessage::LingerOver => leading.write(Event::LingerOver),
            ShardMessage::Committed(outcome) => leading.write(Event::Committed(outcome)),
            ShardMessage::Confirmed(outcome) => leading.write(Event::Confirmed(outcome)),
            ShardMessage::Sweep => leading.sweep(),
            ShardMessage::Depose => leading.write(Event::Deposed),
            ShardMessage::Device(report) if leading.is_acting => leading.devices.reported(report),
            ShardMessage::Sent { node, outcomes } => leading.sent(node, outcomes),
            ShardMessage::Device(_) => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ShardMessage>,
        event: SupervisionEvent,
        leading: &mut Leading,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorStarted(actor) => leading.devices.started(actor.get_id()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                if !leading.devices.stopped(actor.get_id()) {
                    leading.services.ended(actor.get_id(), reason.as_deref().unwrap_or("stopped"));
                }
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                let reason = error.to_string();
                if !leading.devices.failed(actor.get_id(), &reason) {
                    leading.services.ended(actor.get_id(), &reason);
                }
            }
            SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl Leading {
    fn write(&mut self, event: Event<ReplyTo>) {
        let actions = {
            let (view, catalog) = (self.handle.view(), self.catalog.borrow().clone());
            let now = self.time.now(self.ports.clock.now(), view.state.time(), Instant::now());
            let ground = Ground { state: &view.state, catalog: &catalog, limits: &self.limits, now };
            self.write_path.step(event, &ground)
        };
        for action in actions {
            self.run(action);
        }
    }

    fn run(&mut self, action: Action<ReplyTo>) {
        match action {
            Action::Gather => self.tell_myself(ShardMessage::GatherOver),
            Action::Linger(time) => self.tell_myself_after(time, ShardMessage::LingerOver),
            Action::Propose(payload) => {
                let (handle, term) = (self.handle.clone(), self.term);
                let pending = self.proposals.begin(handle.id());
                self.later(async move {
                    let outcome = handle.propose(term, payload).await.map_err(|error| match error {
                        ProposeError::NotLeader { .. } => Loss::NotLeader,
                        ProposeError::Unknown { .. } => Loss::Unknown,
                    });
                    pending.end(&outcome);
                    ShardMessage::Committed(outcome)
                });
            }
            Action::Confirm => {
                let handle = self.handle.clone();
                self.later(async move {
                    ShardMessage::Confirmed(handle.read_index().await.map(|_| ()).map_err(|_lost| Loss::NotLeader))
                });
            }
            Action::Answer(reply_to, answer) => reply_to.send(answer),
            Action::Report(defect) => self.report(&defect),
            Action::Effect(effect) if self.is_acting => match effect {
                Effect::Activate(device) => self.devices.touch(device),
                Effect::CommandEnded { device, .. } | Effect::Retired(device) => self.devices.touch_if_present(device),
            },
            Action::Effect(_) => {}
            Action::Begun(epoch) => {
                self.is_acting = true;
                self.devices.begin(epoch);
                self.services.tick();
            }
            Action::End => {
                self.is_acting = false;
                self.services.kill();
                // What is in the mailbox is still answered; what comes later is handed back to its sender.
                drop(self.myself.drain());
            }
        }
    }

    fn report(&mut self, defect: &Defect) {
        self.defects.fetch_add(1, Ordering::Relaxed);
        let times = if defect.recurs { self.recurrences.count(Instant::now()) } else { Some(1) };
        let Some(times) = times else { return };
        let (shard, panic) = (self.handle.id(), &*defect.panic);
        let view = self.handle.view();
        let names = defect.devices.iter().filter_map(|device| view.state.identity(*device).map(|(name, _)| name));
        let devices: Vec<_> = names.collect();
        let text = "deciding panicked: a defect; the shard goes on without it";
        tracing::error!(%shard, %defect, ?devices, times, panic, "{text}");
    }

    fn sweep(&mut self) {
        if self.is_acting {
            self.devices.tick();
            self.services.tick();
            self.write(Event::Sweep);
        }
        self.sweep_later();
    }

    fn sent(&mut self, node: NodeId, outcomes: Vec<Outcome>) {
        let written = self.devices.sent(node, outcomes);
        if !written.is_empty() {
            let bytes = written.len() * 64;
            let submission = Submission { work: Work::Delivered(written), bytes, reply_to: ReplyTo::default() };
            self.write(Event::Submitted(submission));
        }
    }

    fn sweep_later(&self) {
        self.tell_myself_after(SWEEP_INTERVAL, ShardMessage::Sweep);
    }

    fn tell_myself(&self, message: ShardMessage) {
        // An actor that is on its way out needs no reminders.
        drop(self.myself.send_message(message));
    }

    fn tell_myself_after(&self, time: Duration, message: ShardMessage) {
        self.later(async move {
            tokio::time::sleep(time).await;
            message
        });
    }

    /// Runs `work` as a task of this shard, and sends its outcome back, unless the shard is stopped hard before.
    fn later(&self, work: impl Future<Output = ShardMessage> + Send + 'static) {
        let (myself, stop) = (self.myself.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Some(message) = stop.run_until_cancelled(work).await {
                drop(myself.send_message(message));
            }
        });
    }
}
