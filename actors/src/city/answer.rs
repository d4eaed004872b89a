//! Answering a request on this node, without asking another: as leader, or from a replica where that suffices.

use std::time::Duration;

use kvarter_cluster::{FeedError, ShardHandle, ShardId};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::city::Inner;
use crate::city::keeper::LedShard;
use crate::lighting::Lighting;
use crate::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use crate::service::Service as _;
use crate::shard::{Answer, Refusal, Unconfirmed, Work};
use crate::{Criticality, Reader, Service, ServiceFigures, ShardState};

/// Entries of one answer, and about how long they may be, bytes.
const FEED_ENTRIES_MAX: usize = 256;
const FEED_BYTES_MAX: usize = 1024 * 1024;

/// When a caller who found the disk full may try again: leaderships move away within seconds, if anybody has room.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// What this node can say to a request.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is answered: a box would be an allocation for each"
)]
pub(crate) enum Here {
    Answered(Reply),
    /// Not led here, and no replica here suffices: certainly not applied. The request comes back.
    NotHere(Box<message::ShardRequest>),
}

fn failed(reason: FailureReason, text: impl Into<String>) -> Here {
    Here::Answered(Reply::Failure(Failure::new(reason, text)))
}

impl Inner {
    /// Answers `request` here if this node can, until `deadline`.
    pub(super) async fn answer_here(&self, request: Box<message::ShardRequest>, deadline: Instant) -> Here {
        let shard = ShardId(request.shard);
        match &request.request {
            None => return Here::Answered(Reply::Failure(Failure::invalid("request", "the request asks for nothing"))),
            Some(Request::ReadFeed(read)) => {
                return match self.cluster.shard(shard) {
                    Some(handle) => Here::Answered(read_feed(&handle, *read, deadline).await),
                    None => Here::NotHere(request),
                };
            }
            Some(asked) => {
                if let Some(reply) = self.read_stale(shard, asked) {
                    return Here::Answered(reply);
                }
            }
        }
        let Some(led) = self.led.get(shard) else { return Here::NotHere(request) };
        if let Some(Request::CountDevices(count)) = &request.request
            && let Err(failure) = self.catalog_reached(count.documents_version, deadline).await
        {
            return Here::Answered(Reply::Failure(failure));
        }
        if request.request.as_ref().is_some_and(is_read) {
            self.read_confirmed(shard, &led, request, deadline).await
        } else if self.cluster.disk().borrow().is_full && request.request.as_ref().is_some_and(is_intake) {
            let retry_after_ms = u32::try_from(DISK_FULL_RETRY.as_millis()).unwrap_or(u32::MAX);
            let text = format!("{shard}: the disk of {} is nearly full: nothing is taken in", self.cluster.node());
            let failure = Failure { retry_after_ms, ..Failure::new(FailureReason::DiskFull, text) };
            Here::Answered(Reply::Failure(failure))
        } else {
            self.write(&led, request, deadline).await
        }
    }

    /// Waits until registrations are decided here by the meta group's documents of `version`, or later ones.
    async fn catalog_reached(&self, version: u64, deadline: Instant) -> Result<(), Failure> {
        let mut catalog = self.catalog.clone();
        let reached = timeout_at(deadline, catalog.wait_for(|catalog| catalog.documents_version() >= version)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let text = format!("{} does not have the catalog of version {version} yet", self.cluster.node());
                Err(Failure::new(FailureReason::NotLeader, text))
            }
        }
    }

    /// Answers a read that allows staleness from the local replica, if that is fresh enough.
    fn read_stale(&self, shard: ShardId, request: &Request) -> Option<Reply> {
        let staleness_max = staleness_max(request)?;
        let handle = self.cluster.shard(shard)?;
        // Before the view is taken, so that the age is an upper bound.
        let age = handle.staleness()?;
        (age <= staleness_max).then(|| self.read(&handle, request, age))
    }

    async fn read_confirmed(
        &self,
        shard: ShardId,
        led: &LedShard,
        request: Box<message::ShardRequest>,
        deadline: Instant,
    ) -> Here {
        let (Some(handle), Some(asked)) = (self.cluster.shard(shard), request.request.as_ref()) else {
            return Here::NotHere(request);
        };
        let criticality = Criticality::of(&request);
        match timeout_at(deadline, led.confirmations.confirm(criticality)).await {
            Ok(Ok(())) => Here::Answered(self.read(&handle, asked, Duration::ZERO)),
            Ok(Err(Unconfirmed::Overloaded)) => self.overloaded(shard, criticality, "reads"),
            Ok(Err(Unconfirmed::NotLeader | Unconfirmed::NoQuorum)) => Here::NotHere(request),
            Err(_elapsed) => {
                failed(FailureReason::NotLeader, format!("{shard}: the leadership was not confirmed in time"))
            }
        }
    }

    /// Answers a read from the replica's view.
    fn read(&self, handle: &ShardHandle<ShardState>, request: &Request, age: Duration) -> Reply {
        let (view, catalog) = (handle.view(), self.catalog.borrow().clone());
        let now = self.cluster.ports().clock.now();
        let reader = Reader { state: &view.state, catalog: &catalog, applied: view.applied, now, age };
        if let Request::ReadServices(request) = request {
            return Reply::ServicesRead(reader.services(request, figures));
        }
        reader.read(request).unwrap_or_else(|| Reply::Failure(Failure::invalid("request", "this is no read")))
    }

    async fn write(&self, led: &LedShard, request: Box<message::ShardRequest>, deadline: Instant) -> Here {
        let shard = ShardId(request.shard);
        let unknown = || failed(FailureReason::Unknown, format!("{shard}: whether the request was applied is unknown"));
        let answer = match led.inbox.submit(request) {
            Ok(answer) => answer,
            Err(Refusal::Overloaded(criticality)) => return self.overloaded(shard, criticality, "requests"),
            Err(Refusal::NotLed(request)) => return Here::NotHere(request),
        };
        match timeout_at(deadline, answer).await {
            Ok(Ok(Answer::Reply(reply))) => Here::Answered(reply),
            Ok(Ok(Answer::NotLed(Work::Request(request)))) => Here::NotHere(request),
            Ok(Ok(Answer::Unknown)) | Ok(Err(_)) | Err(_) => unknown(),
            Ok(Ok(Answer::NotLed(_) | Answer::Stepped(_) | Answer::Noted)) => {
                unreachable!("a request is answered as a request")
            }
        }
    }

    fn overloaded(&self, shard: ShardId, criticality: Criticality, what: &str) -> Here {
        let text = format!("{shard}: too many {what} wait for one of {} criticality", criticality.name());
        let retry_after = self.refused.refuse(criticality, Instant::now(), self.cluster.ports().random.next_u64());
        Here::Answered(Reply::Failure(Failure::overloaded(text, retry_after)))
    }
}

/// Whether the request only reads the state.
pub(super) fn is_read(request: &Request) -> bool {
    match request {
        Request::ReadTwin(_)
        | Request::ListTwins(_)
        | Request::ReadTwins(_)
        | Request::ReadCommand(_)
        | Request::ReadServices(_)
        | Request::ReadStream(_) => true,
        Request::RegisterDevices(_)
        | Request::RetireDevice(_)
        | Request::PatchDesired(_)
        | Request::OpenStream(_)
        | Request::AttachDevices(_)
        | Request::SubmitReadings(_)
        | Request::CloseStream(_)
        | Request::IssueCommand(_)
        | Request::AcknowledgeCommands(_)
        | Request::CancelCommand(_)
        | Request::SetServiceMode(_)
        | Request::CountDevices(_)
        | Request::ReadFeed(_) => false,
    }
}

/// Whether the request brings in something new. What brings something to its end needs little room, and is always taken.
fn is_intake(request: &Request) -> bool {
    match request {
        Request::RegisterDevices(_)
        | Request::PatchDesired(_)
        | Request::OpenStream(_)
        | Request::AttachDevices(_)
        | Request::SubmitReadings(_)
        | Request::IssueCommand(_) => true,
        Request::RetireDevice(_)
        | Request::CloseStream(_)
        | Request::AcknowledgeCommands(_)
        | Request::CancelCommand(_)
        | Request::SetServiceMode(_)
        | Request::CountDevices(_)
        | Request::ReadTwin(_)
        | Request::ListTwins(_)
        | Request::ReadTwins(_)
        | Request::ReadCommand(_)
        | Request::ReadServices(_)
        | Request::ReadStream(_)
        | Request::ReadFeed(_) => false,
    }
}

/// How stale the answer may be; `None`: not at all.
pub(super) fn staleness_max(request: &Request) -> Option<Duration> {
    let consistency = match request {
        Request::ReadTwin(read) => read.consistency,
        Request::ReadTwins(read) => read.consistency,
        Request::ListTwins(list) => list.consistency,
        _ => None,
    };
    let staleness_max_ms = consistency.map(|consistency| consistency.staleness_max_ms).filter(|bound_ms| *bound_ms > 0);
    staleness_max_ms.map(|bound_ms| Duration::from_millis(u64::from(bound_ms)))
}

fn figures(service: &Service) -> ServiceFigures {
    let figures = match service.name.rsplit_once('/') {
        Some((_, Lighting::NAME)) if !service.state.is_empty() => Lighting::figures(&service.state),
        _ => return ServiceFigures::default(),
    };
    figures.unwrap_or_else(|error| {
        tracing::warn!(service = &*service.name, %error, "the service's figures can not be read");
        ServiceFigures::default()
    })
}

pub(super) async fn read_feed(handle: &ShardHandle<ShardState>, read: message::ReadFeed, deadline: Instant) -> Reply {
    let applied = handle.view().applied;
    if read.only_bounds {
        // A replica that has nothing yet keeps nothing.
        let first = handle.first_index().0.max(1);
        let bounds = (applied.0 >= first).then_some(message::FeedBounds { first, applied: applied.0 });
        return Reply::FeedRead(message::FeedRead { bounds, ..message::FeedRead::default() });
    }
    if applied.0 < read.after {
        // It would wait here for what others have already, for long where the replica is still being filled.
        let text = format!("{}: this replica is at {applied}, the reader at {}", handle.id(), read.after);
        return Reply::Failure(Failure::new(FailureReason::NotLeader, text));
    }
    let mut reader = handle.feed(kvarter_cluster::LogIndex(read.after));
    let until = deadline.min(Instant::now() + Duration::from_millis(u64::from(read.wait_ms)));
    let entries = match timeout_at(until, reader.next(FEED_ENTRIES_MAX)).await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => return Reply::Failure(failure_of(&error)),
        Err(_nothing_came) => {
            return Reply::FeedRead(message::FeedRead { through: reader.position().0, ..message::FeedRead::default() });
        }
    };
    let mut answer = message::FeedRead {
        entries: Vec::with_capacity(entries.len()),
        through: reader.position().0,
        ..message::FeedRead::default()
    };
    let mut bytes = 0;
    for entry in entries {
        if bytes > FEED_BYTES_MAX {
            answer.through = answer.entries.last().map_or(read.after, |last: &message::FeedEntry| last.index);
            break;
        }
        let facts = entry.entry.encode_to_vec();
        bytes += facts.len();
        answer.entries.push(message::FeedEntry { index: entry.index.0, facts: facts.into() });
    }
    Reply::FeedRead(answer)
}

/// What a reader of the feed hears when this replica can not serve it.
pub(super) fn failure_of(error: &FeedError) -> Failure {
    let reason = match error {
        FeedError::Gone { .. } => FailureReason::Gone,
        FeedError::Storage { .. } | FeedError::Stopped { .. } => FailureReason::NotLeader,
    };
    Failure::new(reason, error.to_string())
}
