//! The device actors of a shard: spawns, tells, drains and supervises them as [`Slots`] says, and sends what they deliver.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvarter_cluster::{NodeId, Ports, ShardHandle, ShardId};
use ractor::{ActorId, ActorRef, ActorRuntime};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::device::{
    Delivered, DeviceActor, DeviceBirth, DeviceEvent, DeviceMessage, DeviceReport, Moment, Outlook, Session, Subject,
};
use crate::shard::ShardMessage;
use crate::shard::delivery::{Courier, Outcome};
use crate::shard::outbox::{Outbox, Parcel};
use crate::shard::slots::{SlotAction, Slots};
use crate::{DeviceNumber, Epoch, ShardState, TwinRef, ValueRef, message};

/// What device actors did on this node, all shards together.
#[derive(Debug, Default)]
pub(crate) struct DeviceCounters {
    pub(crate) failed: AtomicU64,
    /// Devices in quarantine now.
    pub(crate) quarantined: watch::Sender<BTreeMap<ShardId, BTreeSet<DeviceNumber>>>,
}

/// Where device actors find what they need.
#[derive(Clone)]
pub(crate) struct DeviceSurroundings {
    pub(crate) handle: ShardHandle<ShardState>,
    pub(crate) ports: Ports,
    pub(crate) courier: Courier,
    /// Room for device actors, shared by all shards of the node.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) counters: Arc<DeviceCounters>,
    /// Of a drill: see [`crate::CityConfig::poison`].
    pub(crate) poison: Option<f64>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct Devices {
    surroundings: DeviceSurroundings,
    shard: ActorRef<ShardMessage>,
    slots: Slots<ActorRef<DeviceMessage>>,
    by_actor: HashMap<ActorId, DeviceNumber>,
    outbox: Outbox,
    /// Of this leadership. Not the view's, which may be a later leader's before this one hears that it is deposed.
    epoch: Epoch,
}

impl Devices {
    pub(crate) fn new(surroundings: DeviceSurroundings, shard: ActorRef<ShardMessage>) -> Self {
        let slots = Slots::new(Arc::clone(&surroundings.room));
        Self {
            surroundings,
            shard,
            slots,
            by_actor: HashMap::new(),
            outbox: Outbox::default(),
            epoch: Epoch::default(),
        }
    }

    /// The leadership begins: every device with work gets its actor.
    pub(crate) fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        let view = self.surroundings.handle.view();
        let live: Vec<_> = view.state.live_devices().collect();
        live.into_iter().for_each(|device| self.touch(device));
    }

    /// The device has something to do.
    pub(crate) fn touch(&mut self, device: DeviceNumber) {
        let actions = self.slots.touch(device);
        self.run(actions);
    }

    /// Something about the device ended.
    pub(crate) fn touch_if_present(&mut self, device: DeviceNumber) {
        let actions = self.slots.touch_if_present(device);
        self.run(actions);
    }

    pub(crate) fn tick(&mut self) {
        let actions = self.slots.tick(self.surroundings.ports.clock.now());
        self.run(actions);
    }

    pub(crate) fn started(&mut self, actor: ActorId) {
        if let Some(device) = self.by_actor.get(&actor) {
            self.slots.started(*device);
        }
    }

    /// `false`: not a device's actor.
    pub(crate) fn stopped(&mut self, actor: ActorId) -> bool {
        let Some(device) = self.by_actor.remove(&actor) else { return false };
        let actions = self.slots.stopped(device);
        self.run(actions);
        true
    }

    /// `false`: not a device's actor.
    pub(crate) fn failed(&mut self, actor: ActorId, reason: &str) -> bool {
        let Some(device) = self.by_actor.remove(&actor) else { return false };
        tracing::warn!(shard = %self.surroundings.handle.id(), %device, reason, "a device's actor failed");
        self.fail(device);
        true
    }

    fn fail(&mut self, device: DeviceNumber) {
        self.surroundings.counters.failed.fetch_add(1, Ordering::Relaxed);
        let moment = self.moment();
        let actions = self.slots.failed(device, moment.now, moment.random);
        self.run(actions);
    }

    pub(crate) fn reported(&mut self, report: DeviceReport) {
        let DeviceReport { device, wishes } = report;
        let now = self.surroundings.ports.clock.now();
        self.slots.reported(device, wishes.wake_at, wishes.is_idle, now);
        if wishes.deliveries.is_empty() {
            return;
        }
        let view = self.surroundings.handle.view();
        let session = view.state.device(device).and_then(|twin| session_of(&view.state, twin));
        for (subject, delivery) in wishes.deliveries {
            match session {
                Some(session) => {
                    let stream = session.stream.to_message();
                    let delivery = message::Delivery { stream, device: device.0, delivery: Some(delivery) };
                    self.outbox.push(session.node, Parcel { device, subject, delivery });
                }
                None => self.tell(device, DeviceEvent::Delivered(subject, Delivered::NotWritten)),
            }
        }
        self.flush();
    }

    /// Deliveries to `node` have ended; returns the commands that reached their connection.
    pub(crate) fn sent(&mut self, node: NodeId, outcomes: Vec<Outcome>) -> Vec<(DeviceNumber, String)> {
        self.outbox.sent(node);
        let mut written = Vec::new();
        for Outcome { device, subject, delivered } in outcomes {
            if let (Subject::Command(id), Delivered::Written) = (&subject, delivered) {
                written.push((device, id.clone()));
            }
            self.tell(device, DeviceEvent::Delivered(subject, delivered));
        }
        self.flush();
        written
    }

    fn flush(&mut self) {
        let epoch = self.epoch;
        for (node, parcels) in self.outbox.take() {
            let (courier, shard) = (self.surroundings.courier.clone(), self.shard.clone());
            let stop = self.surroundings.stop.clone();
            self.surroundings.tasks.spawn(async move {
                let carried = stop.run_until_cancelled(courier.carry(node, epoch, parcels)).await;
                if let Some(outcomes) = carried {
                    // A shard's actor that is gone has no use for the outcome.
                    drop(shard.send_message(ShardMessage::Sent { node, outcomes }));
                }
            });
        }
    }

    fn run(&mut self, actions: Vec<SlotAction<ActorRef<DeviceMessage>>>) {
        for action in actions {
            match action {
                SlotAction::Activate(device) => self.activate(device),
                SlotAction::Observe(device, _) => self.observe(device),
                // An actor that ended meanwhile is reported by supervision.
                SlotAction::Drain(actor) => drop(actor.drain()),
                SlotAction::Quarantine(device) => {
                    let shard = self.surroundings.handle.id();
                    self.surroundings.counters.quarantined.send_modify(|quarantined| {
                        quarantined.entry(shard).or_default().insert(device);
                    });
                    let view = self.surroundings.handle.view();
                    let name = view.state.identity(device).map_or("", |(name, _)| name);
                    tracing::error!(%shard, name, "the device is in quarantine: its actor keeps failing");
                }
            }
        }
    }

    fn activate(&mut self, device: DeviceNumber) {
        let birth = DeviceBirth { device, shard: self.shard.clone() };
        // The task is owned by its link to the shard's actor, which hears of its end.
        match ActorRuntime::spawn_linked_instant(None, DeviceActor, birth, self.shard.get_cell()) {
            Ok((actor, _task)) => {
                self.by_actor.insert(actor.get_id(), device);
                self.slots.activated(device, actor);
                self.observe(device);
            }
            Err(error) => {
                tracing::warn!(%device, %error, "a device's actor did not start");
                self.fail(device);
            }
        }
    }

    fn observe(&mut self, device: DeviceNumber) {
        let view = self.surroundings.handle.view();
        let twin = view.state.device(device);
        if let (Some(poison), Some(twin)) = (self.surroundings.poison, twin)
            && twin.reported().any(|reported| is_number(reported.value.as_ref(), poison))
        {
            self.tell(device, DeviceEvent::Poisoned);
            return;
        }
        // A device that is gone has nothing to do.
        let outlook = twin.map_or_else(Outlook::default, |twin| outlook_of(&view.state, twin));
        self.tell(device, DeviceEvent::Observed(outlook));
    }

    fn tell(&self, device: DeviceNumber, event: DeviceEvent) {
        if let Some(actor) = self.slots.actor(device) {
            // An actor that ended meanwhile is reported by supervision, and its successor is told all.
            drop(actor.send_message(DeviceMessage { event, moment: self.moment() }));
        }
    }

    fn moment(&self) -> Moment {
        let ports = &self.surroundings.ports;
        Moment { now: ports.clock.now(), random: ports.random.next_u64() }
    }
}

/// Quarantine lasts as long as the leadership.
impl Drop for Devices {
    fn drop(&mut self) {
        let shard = self.surroundings.handle.id();
        self.surroundings.counters.quarantined.send_if_modified(|quarantined| quarantined.remove(&shard).is_some());
    }
}

fn is_number(value: ValueRef<'_>, number: f64) -> bool {
    matches!(value, ValueRef::Number(value) if value.to_bits() == number.to_bits())
}

fn session_of(state: &ShardState, twin: TwinRef<'_>) -> Option<Session> {
    let stream = twin.session()?;
    let record = state.stream(stream).filter(|record| record.is_open)?;
    let (_, since_us) = twin.connectivity();
    Some(Session { stream, node: record.node, since_us })
}

fn outlook_of(state: &ShardState, twin: TwinRef<'_>) -> Outlook {
    let mut open: Vec<_> = twin.open_commands().collect();
    // Stable: commands of equal priority stay in the order of their issue.
    open.sort_by_key(|command| command.priority);
    let commands = open.into_iter().map(|command| message::CommandDelivery {
        id: command.id.clone(),
        action: command.action.clone(),
        arguments: command.arguments.clone(),
        deadline_us: command.deadline_us,
        traceparent: command.traceparent.clone(),
    });
    let desired = twin.diverging().map(|(attribute, value)| message::DesiredAttribute {
        attribute: attribute.to_message(),
        value: Some(value.to_message()),
    });
    Outlook { session: session_of(state, twin), commands: commands.collect(), desired: desired.collect() }
}
