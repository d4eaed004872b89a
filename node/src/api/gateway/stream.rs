//! A gateway stream as the node sees it: a state machine without clock and without IO.
//!
//! What the client sends goes in through [`Stream::attach`], [`Stream::readings`] and [`Stream::acknowledgements`],
//! what shards say through [`Stream::answered`] and [`Stream::deliver`]; what is to be done comes out as [`Effect`]s.
//! The shell that runs them is `connection.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kvarter_actors::message::{self, Failure, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{ConnectionNumber, StreamDelivery};
use kvarter_api::v1::{
    CommandAcknowledgement, CommandOutcome, ReadingBatch, ReadingsAcknowledged, connect_response::Message,
};
use kvarter_cluster::{NodeId, ShardId, Timestamp};

use super::aliases::{ALIAS_MAX, Aliases};
use super::attach::{AttachAnswers, Attaching};
use super::lane::{AttachShare, AttachingDevice, Lane, LaneDelivery, LaneId, Progress};
use super::outbox::Outbox;
use super::part::{self, OutcomesMismatch};
use super::ticket::StreamTicket;
use crate::api::conversion;

/// Readings that may wait for their acknowledgement. Beyond it no batch is read; the last one read may overshoot.
pub(crate) const READINGS_IN_FLIGHT_MAX: usize = 65_536;
/// Readings in one batch.
pub(crate) const BATCH_READINGS_MAX: usize = 4_096;
/// Devices in one `AttachDevices`; as many may wait to be attached before no further request is read.
pub(crate) const ATTACH_DEVICES_MAX: usize = 10_000;
/// Acknowledgements of commands in one message.
const MESSAGE_ACKNOWLEDGEMENTS_MAX: usize = 1_000;
/// Acknowledgements of commands that may wait for their shards before no further request is read.
const ACKNOWLEDGEMENTS_MAX: usize = 20_000;
/// Bytes of `CommandAcknowledgement.detail`.
const DETAIL_BYTES_MAX: usize = 256;

/// Who a stream is, as its shards are told.
pub(crate) struct StreamIdentity {
    pub(crate) bytes: Bytes,
    pub(crate) client: String,
    pub(crate) node: NodeId,
    pub(crate) issued: Timestamp,
    pub(crate) connection: ConnectionNumber,
}

impl StreamIdentity {
    pub(crate) fn new(ticket: StreamTicket, client: String, node: NodeId, connection: ConnectionNumber) -> Self {
        Self { bytes: ticket.id.to_message(), client, node, issued: ticket.issued, connection }
    }

    /// `unused`: the stream never had a device in the shard.
    pub(crate) fn open(&self, unused: bool) -> message::OpenStream {
        message::OpenStream {
            stream: self.bytes.clone(),
            client: self.client.clone(),
            node: self.node.0,
            issued_us: self.issued.0,
            connection: self.connection.0,
            unused,
        }
    }

    fn close(&self) -> message::CloseStream {
        message::CloseStream { stream: self.bytes.clone(), node: self.node.0, connection: self.connection.0 }
    }
}

/// What the shell has to do.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(Message),
    Call { call: CallId, shard: ShardId, request: Request, pause: Duration },
}

/// A request on its way; its answer goes to [`Stream::answered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallId {
    Lane(LaneId),
    Outbox(LaneId),
}

/// Why the node ends a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client did what the protocol does not allow.
    #[error("{field}: {problem}")]
    Misuse { field: &'static str, problem: String },
    /// A shard refuses the stream.
    #[error("refused: {}", .0.message)]
    Refused(Failure),
    #[error(transparent)]
    OutcomesMismatch(OutcomesMismatch),
    #[error("{shard} gave an answer of another request")]
    UnexpectedReply { shard: ShardId },
}

/// The server half of a gateway stream.
pub(crate) struct Stream {
    identity: StreamIdentity,
    /// Batches of a resumed stream rise with gaps, since only those with unacknowledged readings are sent again.
    is_resumed: bool,
    sequence: u64,
    aliases: Aliases,
    lanes: Vec<LaneSlot>,
    attaches: AttachAnswers,
    /// A shard was found for every device so far: the stream has no device, of an earlier connection, in a shard that this one
    /// does not know of.
    is_placed: bool,
    readings_in_flight: usize,
    effects: VecDeque<Effect>,
}

struct LaneSlot {
    lane: Lane,
    outbox: Outbox,
}

impl Stream {
    pub(crate) fn new(identity: StreamIdentity, is_resumed: bool) -> Self {
        Self {
            identity,
            is_resumed,
            sequence: 0,
            aliases: Aliases::default(),
            lanes: Vec::new(),
            attaches: AttachAnswers::default(),
            is_placed: true,
            readings_in_flight: 0,
            effects: VecDeque::new(),
        }
    }

    /// Takes the next effect; in order.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether there is room for a further request of the client.
    pub(crate) fn may_read(&self) -> bool {
        let acknowledgements: usize = self.lanes.iter().map(|slot| slot.outbox.acknowledgements_count()).sum();
        self.readings_in_flight < READINGS_IN_FLIGHT_MAX
            && self.attaches.size() < ATTACH_DEVICES_MAX
            && acknowledgements < ACKNOWLEDGEMENTS_MAX
    }

    /// Whether everything that the client sent is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.readings_in_flight == 0
            && self.attaches.size() == 0
            && self.lanes.iter().all(|slot| slot.outbox.acknowledgements_count() == 0)
    }

    /// Whether devices are attached, and none waits for that.
    pub(crate) fn has_attached(&self) -> bool {
        self.attaches.size() == 0 && self.shards().next().is_some()
    }

    /// What the stream's shards are told when its connection has ended.
    pub(crate) fn close(&self) -> message::CloseStream {
        self.identity.close()
    }

    /// The shards that have to hear of the stream's end.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.lanes.iter().filter(|slot| slot.lane.is_touched()).map(|slot| slot.lane.shard)
    }

    /// Takes one `AttachDevices`, its devices already mapped to shards.
    pub(crate) fn attach(&mut self, devices: Vec<Attaching>) -> Result<(), Ended> {
        if devices.len() > ATTACH_DEVICES_MAX {
            let problem = format!("{} devices, at most {ATTACH_DEVICES_MAX} are allowed", devices.len());
            return Err(Ended::Misuse { field: "attach.devices", problem });
        }
        if let Some(device) = devices.iter().find(|device| device.alias > ALIAS_MAX) {
            let problem = format!("{} is above {ALIAS_MAX}", device.alias);
            return Err(Ended::Misuse { field: "attach.devices.alias", problem });
        }
        let mut shares: Vec<Vec<AttachingDevice>> = Vec::new();
        let attach = self.attaches.begin(&devices);
        for (position, device) in devices.into_iter().enumerate() {
            let (shard, name) = match device.place {
                Ok(place) => place,
                Err(error) => {
                    self.attaches.refuse(attach, position, error);
                    self.is_placed = false;
                    continue;
                }
            };
            let lane = self.lane(shard);
            if !self.aliases.claim(device.alias, lane) {
                let problem = format!("{} is attached already", device.alias);
                return Err(Ended::Misuse { field: "attach.devices.alias", problem });
            }
            shares.resize_with(self.lanes.len(), Vec::new);
            shares[lane.0 as usize].push(AttachingDevice {
                position,
                alias: device.alias,
                name,
                is_first: device.is_first && self.is_placed,
            });
        }
        for (lane, devices) in (0..).map(LaneId).zip(shares) {
            if !devices.is_empty() {
                self.slot(lane).lane.push_attach(AttachShare { attach, devices });
                self.advance(lane);
            }
        }
        self.send_attached();
        Ok(())
    }

    /// Takes a batch of readings, splits it into lanes and answers readings of unknown aliases.
    pub(crate) fn readings(&mut self, batch: &ReadingBatch) -> Result<(), Ended> {
        self.check_batch(batch)?;
        self.sequence = batch.sequence;
        let (readings_count, batch_bytes) = (batch.readings.len(), part::batch_bytes(batch));
        let mut unattached = Vec::new();
        for (index, reading) in (0..).zip(&batch.readings) {
            match self.aliases.route(reading.alias) {
                Some((lane, alias)) => {
                    let lane = &mut self.lanes[lane.0 as usize].lane;
                    lane.push_reading(batch.sequence, batch_bytes, index, alias, reading);
                }
                None => unattached.push(index),
            }
        }
        self.readings_in_flight += readings_count - unattached.len();
        if !unattached.is_empty() {
            self.effects.push_back(Effect::Send(Message::Acknowledged(part::unattached(batch.sequence, unattached))));
        }
        for lane in self.lane_ids() {
            self.advance(lane);
        }
        Ok(())
    }

    fn check_batch(&self, batch: &ReadingBatch) -> Result<(), Ended> {
        let expected = self.sequence + 1;
        // The highest number of all is left out: none would be next.
        let after_resume = expected..u64::MAX;
        let is_next = if self.is_resumed { after_resume.contains(&batch.sequence) } else { batch.sequence == expected };
        if !is_next {
            let problem = format!("{} where {expected} is next", batch.sequence);
            return Err(Ended::Misuse { field: "readings.sequence", problem });
        }
        if !(1..=BATCH_READINGS_MAX).contains(&batch.readings.len()) {
            let problem = format!("{} readings, 1 to {BATCH_READINGS_MAX} are allowed", batch.readings.len());
            return Err(Ended::Misuse { field: "readings.readings", problem });
        }
        Ok(())
    }

    /// Takes what devices say about commands. Of aliases that are not attached nothing is kept.
    pub(crate) fn acknowledgements(&mut self, acknowledgements: Vec<CommandAcknowledgement>) -> Result<(), Ended> {
        let field = "acknowledgements.acknowledgements";
        if acknowledgements.len() > MESSAGE_ACKNOWLEDGEMENTS_MAX {
            let problem = format!("{} at once, at most {MESSAGE_ACKNOWLEDGEMENTS_MAX}", acknowledgements.len());
            return Err(Ended::Misuse { field, problem });
        }
        for said in acknowledgements {
            if said.detail.len() > DETAIL_BYTES_MAX {
                let problem = format!("detail of {} is longer than {DETAIL_BYTES_MAX} bytes", said.id);
                return Err(Ended::Misuse { field, problem });
            }
            let outcome = match said.outcome() {
                CommandOutcome::Succeeded => 1,
                CommandOutcome::Failed => 2,
                CommandOutcome::Unspecified => {
                    return Err(Ended::Misuse { field, problem: format!("{} has no known outcome", said.id) });
                }
            };
            if let Some(lane) = self.aliases.lane(said.alias) {
                let acknowledgement = message::Acknowledgement { device: 0, id: said.id, outcome, detail: said.detail };
                self.slot(lane).outbox.push(said.alias, acknowledgement);
            }
        }
        for lane in self.lane_ids() {
            self.advance_outbox(lane);
        }
        Ok(())
    }

    /// Has every shard told that the stream is still connected here.
    pub(crate) fn refresh(&mut self) {
        for lane in self.lane_ids() {
            self.slot(lane).lane.refresh();
            self.advance(lane);
        }
    }

    /// Takes a shard's answer to `call`.
    pub(crate) fn answered(&mut self, call: CallId, answer: Result<Reply, Failure>) -> Result<(), Ended> {
        match call {
            CallId::Lane(lane) => {
                let slot = &mut self.lanes[lane.0 as usize];
                let progress = slot.lane.answered(&self.identity, &mut self.aliases, answer)?;
                self.take(lane, progress);
                self.advance_outbox(lane);
            }
            CallId::Outbox(lane) => {
                let slot = self.slot(lane);
                let shard = slot.lane.shard;
                match slot.outbox.answered(answer) {
                    Some((request, pause)) => self.effects.push_back(Effect::Call { call, shard, request, pause }),
                    None => self.advance_outbox(lane),
                }
            }
        }
        Ok(())
    }

    /// Passes a delivery on to the client once its device is attached, unless it is fenced: those the shard repeats or ends.
    /// Whoever writes it looks at its deadline.
    pub(crate) fn deliver(&mut self, delivery: StreamDelivery) {
        let StreamDelivery { shard, epoch, delivery } = delivery;
        let slot = self.lanes.iter_mut().find(|slot| slot.lane.shard == shard);
        if let Some(delivery) = slot.and_then(|slot| slot.lane.deliver(epoch, delivery)) {
            self.send_delivery(shard, delivery);
        }
    }

    fn send_delivery(&mut self, shard: ShardId, delivery: LaneDelivery) {
        let LaneDelivery { alias, epoch, delivery } = delivery;
        let message = match delivery.delivery {
            Some(message::delivery::Delivery::Command(command)) => {
                Message::Command(conversion::command::delivery(command, alias, shard, epoch))
            }
            Some(message::delivery::Delivery::Desired(desired)) => {
                Message::Desired(conversion::command::desired(desired, alias, shard, epoch))
            }
            None => return,
        };
        self.effects.push_back(Effect::Send(message));
    }

    fn advance(&mut self, lane: LaneId) {
        let progress = self.lanes[lane.0 as usize].lane.advance(&self.identity, &self.aliases);
        self.take(lane, progress);
    }

    fn advance_outbox(&mut self, lane: LaneId) {
        let slot = &mut self.lanes[lane.0 as usize];
        if slot.lane.is_settled()
            && let Some(request) = slot.outbox.advance(&self.aliases)
        {
            let (call, shard, pause) = (CallId::Outbox(lane), slot.lane.shard, Duration::ZERO);
            self.effects.push_back(Effect::Call { call, shard, request, pause });
        }
    }

    fn take(&mut self, lane: LaneId, progress: Progress) {
        let Progress { acknowledged, attached, deliveries, request } = progress;
        if let Some((share, errors)) = attached {
            self.attaches.answered(&share, errors, self.lanes[lane.0 as usize].lane.shard);
            self.send_attached();
        }
        for delivery in deliveries {
            self.send_delivery(self.lanes[lane.0 as usize].lane.shard, delivery);
        }
        for acknowledged in acknowledged {
            self.acknowledge(acknowledged);
        }
        if let Some((request, pause)) = request {
            let (call, shard) = (CallId::Lane(lane), self.lanes[lane.0 as usize].lane.shard);
            self.effects.push_back(Effect::Call { call, shard, request, pause });
        }
    }

    fn acknowledge(&mut self, acknowledged: ReadingsAcknowledged) {
        self.readings_in_flight -= acknowledged.indexes.len();
        self.effects.push_back(Effect::Send(Message::Acknowledged(acknowledged)));
    }

    fn send_attached(&mut self) {
        while let Some(attached) = self.attaches.next_complete() {
            self.effects.push_back(Effect::Send(Message::Attached(attached)));
        }
    }

    fn lane_ids(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..).map(LaneId).take(self.lanes.len())
    }

    fn slot(&mut self, lane: LaneId) -> &mut LaneSlot {
        &mut self.lanes[lane.0 as usize]
    }

    /// The lane to `shard`, made on first use. A stream has as many lanes as its devices have shards.
    fn lane(&mut self, shard: ShardId) -> LaneId {
        match self.lane_ids().zip(&self.lanes).find(|(_, slot)| slot.lane.shard == shard) {
            Some((id, _)) => id,
            None => {
                self.lanes.push(LaneSlot { lane: Lane::new(shard), outbox: Outbox::default() });
                LaneId(u32::try_from(self.lanes.len() - 1).expect("there are fewer shards than u32::MAX"))
            }
        }
    }
}
