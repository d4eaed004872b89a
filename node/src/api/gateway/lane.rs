//! A lane: a stream's way to one shard. Pure; at most one request of a lane is on its way.
//!
//! A lane first opens the stream in its shard, then attaches devices, then submits parts; readings that arrive
//! meanwhile merge into the next part. Whatever fails without an answer is sent again as it is: every request of a lane
//! is idempotent in the shard.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use kvarter_actors::message::{self, Failure, FailureReason, StreamTotals, shard_reply::Reply, shard_request::Request};
use kvarter_api::v1::{Reading, ReadingsAcknowledged};
use kvarter_cluster::ShardId;

use super::aliases::Aliases;
use super::part::Part;
use super::stream::{Ended, StreamIdentity};

/// Position of a lane in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId(pub(crate) u32);

/// First pause after a failure; doubles with each further one up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Deliveries of a lane that are kept for devices which are not attached yet. Beyond it the oldest goes; the shard repeats it.
const EARLY_MAX: usize = 256;

/// A stream's way to one shard.
pub(crate) struct Lane {
    pub(crate) shard: ShardId,
    /// The alias of each attached device number, for deliveries.
    aliases: HashMap<u32, u32>,
    is_opened: bool,
    /// Whether the stream was ever opened here on this connection.
    was_opened: bool,
    /// The stream is to be opened once more, so that the shard does not forget it.
    is_refresh_due: bool,
    /// What the shard has of the stream, as far as it told.
    totals: StreamTotals,
    attaches: VecDeque<AttachShare>,
    parts: VecDeque<Part>,
    in_flight: InFlight,
    failures: u32,
    /// Highest epoch seen in a delivery from the shard.
    epoch: u64,
    /// Deliveries for devices that are not attached yet, oldest first: the shard knows the devices of a resumed stream before
    /// this connection does.
    early: VecDeque<(u64, message::Delivery)>,
}

/// The devices of one `AttachDevices` that live in the lane's shard.
pub(crate) struct AttachShare {
    /// Number of the `AttachDevices` on the stream.
    pub(crate) attach: u64,
    pub(crate) devices: Vec<AttachingDevice>,
}

pub(crate) struct AttachingDevice {
    /// Place in the `AttachDevices`.
    pub(crate) position: usize,
    pub(crate) alias: u32,
    /// `{district}/{device}`
    pub(crate) name: String,
    /// No earlier connection of the stream asked for it, and this one for all that those did.
    pub(crate) is_first: bool,
}

/// What the client is to be delivered.
pub(crate) struct LaneDelivery {
    pub(crate) alias: u32,
    pub(crate) epoch: u64,
    pub(crate) delivery: message::Delivery,
}

enum InFlight {
    Nothing,
    Open,
    Attach(AttachShare),
    Submit(Part),
}

/// What an answer or a step of a lane means for its stream.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) acknowledged: Vec<ReadingsAcknowledged>,
    /// The share is done; per device its error, empty when attached.
    pub(crate) attached: Option<(AttachShare, Vec<String>)>,
    /// What came too early for these devices.
    pub(crate) deliveries: Vec<LaneDelivery>,
    /// What to ask the shard, after a pause.
    pub(crate) request: Option<(Request, Duration)>,
}

impl Lane {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            aliases: HashMap::new(),
            is_opened: false,
            was_opened: false,
            is_refresh_due: false,
            totals: StreamTotals::default(),
            attaches: VecDeque::new(),
            parts: VecDeque::new(),
            in_flight: InFlight::Nothing,
            failures: 0,
            epoch: 0,
            early: VecDeque::new(),
        }
    }

    pub(crate) fn push_attach(&mut self, share: AttachShare) {
        self.attaches.push_back(share);
    }

    /// Adds the reading numbered `index` of the batch `sequence`, which takes `batch_bytes` at most.
    #[inline]
    pub(crate) fn push_reading(
        &mut self,
        sequence: u64,
        batch_bytes: usize,
        index: u32,
        alias: u32,
        reading: &Reading,
    ) {
        if !self.parts.back().is_some_and(|part| part.takes(sequence, batch_bytes)) {
            self.parts.push_back(Part::default());
        }
        if let Some(part) = self.parts.back_mut() {
            part.push(sequence, index, alias, reading);
        }
    }

    /// Has an open stream opened once more when the request that is on its way is answered.
    pub(crate) fn refresh(&mut self) {
        self.is_refresh_due = self.is_opened;
    }

    /// Whether the stream is open in the shard and no device waits to be attached.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_opened && self.attaches.is_empty() && !matches!(self.in_flight, InFlight::Attach(_) | InFlight::Open)
    }

    /// Whether the shard may know of the stream, so that it has to hear of its end.
    pub(crate) fn is_touched(&self) -> bool {
        self.is_opened || !matches!(self.in_flight, InFlight::Nothing)
    }

    /// Takes a delivery from the shard: `None` when its epoch is below the highest seen, or until its device is attached.
    pub(crate) fn deliver(&mut self, epoch: u64, delivery: message::Delivery) -> Option<LaneDelivery> {
        if epoch < self.epoch {
            return None;
        }
        self.epoch = epoch;
        let Some(alias) = self.aliases.get(&delivery.device).copied() else {
            if self.early.len() == EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back((epoch, delivery));
            return None;
        };
        Some(LaneDelivery { alias, epoch, delivery })
    }

    /// Delivers what came before its device was attached.
    fn deliver_early(&mut self) -> Vec<LaneDelivery> {
        let early = std::mem::take(&mut self.early);
        early.into_iter().filter_map(|(epoch, delivery)| self.deliver(epoch, delivery)).collect()
    }

    /// Starts the next request when none is on its way.
    pub(crate) fn advance(&mut self, stream: &StreamIdentity, aliases: &Aliases) -> Progress {
        let mut progress = Progress::default();
        if matches!(self.in_flight, InFlight::Nothing) {
            self.in_flight = self.next_in_flight(aliases, &mut progress.acknowledged);
            progress.request = self.request(stream).map(|request| (request, Duration::ZERO));
        }
        progress
    }

    fn next_in_flight(&mut self, aliases: &Aliases, acknowledged: &mut Vec<ReadingsAcknowledged>) -> InFlight {
        if !self.is_opened {
            return if self.attaches.is_empty() && self.parts.is_empty() { InFlight::Nothing } else { InFlight::Open };
        }
        if std::mem::take(&mut self.is_refresh_due) {
            return InFlight::Open;
        }
        if let Some(share) = self.attaches.pop_front() {
            return InFlight::Attach(share);
        }
        while let Some(mut part) = self.parts.pop_front() {
            acknowledged.extend(part.trim(self.shard, self.totals.sequence, &self.totals));
            if !part.is_empty() {
                part.resolve(aliases);
                return InFlight::Submit(part);
            }
        }
        InFlight::Nothing
    }

    fn request(&self, stream: &StreamIdentity) -> Option<Request> {
        match &self.in_flight {
            InFlight::Nothing => None,
            InFlight::Open => Some(Request::OpenStream(stream.open(self.is_unused()))),
            InFlight::Attach(share) => Some(Request::AttachDevices(message::AttachDevices {
                stream: stream.bytes.clone(),
                names: share.devices.iter().map(|device| device.name.clone()).collect(),
            })),
            InFlight::Submit(part) => Some(Request::SubmitReadings(message::SubmitReadings {
                stream: stream.bytes.clone(),
                previous: self.totals.sequence,
                sequence: part.sequence(),
                readings: Some(part.readings().clone()),
            })),
        }
    }

    /// Whether the shard never heard of the stream. Whatever an earlier connection had there is attached before what is new.
    fn is_unused(&self) -> bool {
        !self.was_opened && self.attaches.iter().flat_map(|share| &share.devices).all(|device| device.is_first)
    }

    /// Takes the answer to the request that is on its way.
    pub(crate) fn answered(
        &mut self,
        stream: &StreamIdentity,
        aliases: &mut Aliases,
        answer: Result<Reply, Failure>,
    ) -> Result<Progress, Ended> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(failure) => return self.failed(stream, aliases, failure),
        };
        self.failures = 0;
        let mut done = Progress::default();
        match (std::mem::replace(&mut self.in_flight, InFlight::Nothing), reply) {
            (InFlight::Open, Reply::StreamOpened(totals)) => {
                (self.is_opened, self.was_opened) = (true, true);
                self.totals = totals;
            }
            (InFlight::Attach(share), Reply::DevicesAttached(attached)) => {
                done = self.attached(share, attached, aliases)?;
            }
            (InFlight::Submit(part), Reply::ReadingsSubmitted(submitted)) => {
                let sequence = part.sequence();
                done.acknowledged = part.acknowledge(self.shard, &submitted).map_err(Ended::OutcomesMismatch)?;
                self.totals = submitted.totals.unwrap_or_default();
                self.totals.sequence = sequence;
            }
            _ => return Err(Ended::UnexpectedReply { shard: self.shard }),
        }
        Ok(self.go_on(done, stream, aliases))
    }

    fn attached(
        &mut self,
        share: AttachShare,
        attached: message::DevicesAttached,
        aliases: &mut Aliases,
    ) -> Result<Progress, Ended> {
        if attached.devices.len() != share.devices.len() {
            return Err(Ended::UnexpectedReply { shard: self.shard });
        }
        let mut refused = HashSet::new();
        let mut errors = Vec::with_capacity(share.devices.len());
        for (asked, answer) in share.devices.iter().zip(attached.devices) {
            if answer.error.is_empty() {
                aliases.attach(asked.alias, answer.device);
                self.aliases.insert(answer.device, asked.alias);
            } else {
                refused.insert(asked.alias);
            }
            errors.push(answer.error);
        }
        self.refuse(&refused, aliases);
        Ok(Progress { attached: Some((share, errors)), deliveries: self.deliver_early(), ..Progress::default() })
    }

    /// Readings that came for these aliases meanwhile are of no device, even when an alias is soon used for another one.
    fn refuse(&mut self, refused: &HashSet<u32>, aliases: &mut Aliases) {
        if !refused.is_empty() {
            refused.iter().for_each(|alias| aliases.refuse(*alias));
            self.parts.iter_mut().for_each(|part| part.refuse(refused));
        }
    }

    fn failed(&mut self, stream: &StreamIdentity, aliases: &mut Aliases, failure: Failure) -> Result<Progress, Ended> {
        self.failures = self.failures.saturating_add(1);
        match failure.reason() {
            reason if is_passing(reason) => {
                let pause = backoff(self.failures).max(Duration::from_millis(u64::from(failure.retry_after_ms)));
                Ok(Progress { request: self.request(stream).map(|request| (request, pause)), ..Progress::default() })
            }
            FailureReason::SequenceGap | FailureReason::AlreadyAccepted => self.overtaken(stream, aliases, failure),
            FailureReason::StreamExpired | FailureReason::Forbidden | FailureReason::Superseded => {
                Err(Ended::Refused(failure))
            }
            _ => match std::mem::replace(&mut self.in_flight, InFlight::Nothing) {
                InFlight::Attach(share) => {
                    self.refuse(&share.devices.iter().map(|device| device.alias).collect(), aliases);
                    let errors = vec![failure.message; share.devices.len()];
                    let done = Progress { attached: Some((share, errors)), ..Progress::default() };
                    Ok(self.go_on(done, stream, aliases))
                }
                InFlight::Nothing | InFlight::Open | InFlight::Submit(_) => Err(Ended::Refused(failure)),
            },
        }
    }

    /// The shard has more of the stream than this lane knew: an earlier try, or an earlier connection, got through.
    fn overtaken(&mut self, stream: &StreamIdentity, aliases: &Aliases, failure: Failure) -> Result<Progress, Ended> {
        let InFlight::Submit(part) = std::mem::replace(&mut self.in_flight, InFlight::Nothing) else {
            return Err(Ended::Refused(failure));
        };
        match failure.totals {
            Some(totals) if totals.sequence > self.totals.sequence => self.totals = totals,
            // The shard can not have less than it acknowledged: going on would hide a loss.
            Some(_) => return Err(Ended::Refused(failure)),
            // Opening the stream again tells.
            None => self.is_opened = false,
        }
        self.parts.push_front(part);
        Ok(self.go_on(Progress::default(), stream, aliases))
    }

    fn go_on(&mut self, done: Progress, stream: &StreamIdentity, aliases: &Aliases) -> Progress {
        let mut progress = self.advance(stream, aliases);
        progress.attached = done.attached;
        progress.deliveries = done.deliveries;
        progress.acknowledged.splice(..0, done.acknowledged);
        progress
    }
}

/// Whether the same request may succeed later.
pub(crate) fn is_passing(reason: FailureReason) -> bool {
    match reason {
        FailureReason::Unspecified
        | FailureReason::NotLeader
        | FailureReason::Unknown
        | FailureReason::Overloaded
        | FailureReason::DiskFull => true,
        FailureReason::NotFound
        | FailureReason::Invalid
        | FailureReason::Conflict
        | FailureReason::StreamExpired
        | FailureReason::Forbidden
        | FailureReason::SequenceGap
        | FailureReason::AlreadyAccepted
        | FailureReason::Limit
        | FailureReason::InUse
        | FailureReason::Gone
        | FailureReason::Defect
        | FailureReason::Superseded => false,
    }
}

/// The pause after that many failures in a row, before jitter.
pub(crate) fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(BACKOFF_MAX)
}
