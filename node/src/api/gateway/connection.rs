//! One connection of a gateway stream: the shell that runs the effects of [`Stream`].
//!
//! One task reads the client's requests, has at most one request a lane on its way, and writes answers. It stops
//! reading while too much waits to be answered or while the client does not take its answers, so that a stream's memory
//! is bounded whatever its client and its shards do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use kvarter_actors::message::{CloseStream, Failure, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{CallContext, City, Criticality, StreamMailbox};
use kvarter_api::v1::{
    AttachDevices, ConnectRequest, ConnectResponse, LeaderElsewhere, StreamMoving, StreamOpened, connect_request,
    connect_response,
};
use kvarter_cluster::{MetaView, ShardId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::attach::Attaching;
use super::registry::StreamClaim;
use super::stream::{BATCH_READINGS_MAX, CallId, Effect, Ended, READINGS_IN_FLIGHT_MAX, Stream, StreamIdentity};
use super::ticket::StreamTicket;
use crate::api::{ask, name, route, status};

/// One try of a lane's request; it is repeated until the stream ends.
const TRY_DEADLINE: Duration = Duration::from_secs(2);
/// For telling a shard that a stream has ended. Without it the shard learns when the stream is resumed or expires.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Between telling a client to move and ending its connection: so long for what it has already sent ...
const MOVE_MIN: Duration = Duration::from_millis(500);
/// ... and so long at most for what is not answered yet.
const MOVE_MAX: Duration = Duration::from_secs(5);
/// Between two hints that another node leads, with jitter: leaderships come and go for a while after a node does.
const HINT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Between two times that a stream is opened again in its shards, with jitter, so that they keep it where it sends nothing ...
const REFRESH_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// ... and at most this part of the age at which they forget it.
const REFRESH_PART: u32 = 8;
/// Between two looks whether the node is cut off from the others.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Answers that wait for a slow client before nothing new is read or delivered.
const BACKLOG_MAX: usize = 256;

/// A stream while it is connected to this node.
pub(crate) struct Connection {
    city: City,
    ticket: StreamTicket,
    /// Of the readings, as the client says.
    criticality: Option<Criticality>,
    stream: Stream,
    requests: Streaming<ConnectRequest>,
    responses: mpsc::Sender<ConnectResponse>,
    /// What does not fit in `responses` yet: at most [`BACKLOG_MAX`] and the answers of what was read before.
    backlog: VecDeque<ConnectResponse>,
    calls: FuturesUnordered<BoxFuture<'static, (CallId, Result<Reply, Failure>)>>,
    mailbox: Option<StreamMailbox>,
    meta: watch::Receiver<Arc<MetaView>>,
    /// Devices of districts that this node does not know yet, and until when it waits for them.
    waiting: Option<(AttachDevices, Instant)>,
    /// When it is due to look where the leaders are.
    hint_at: Instant,
    /// When the shards are due to hear that the stream is still there.
    refresh_at: Instant,
    /// When it is due to look whether this node can still do anything for it.
    look_at: Instant,
    /// When the client was told to move.
    moving_since: Option<Instant>,
}

/// Why a connection ends.
enum End {
    /// The client sent all that it wanted and has its answers.
    Finished,
    /// The client, or the way to it, is gone.
    Lost,
    Superseded,
    Stopping,
    CutOff(ShardId),
    Ended(Ended),
    Refused(Status),
}

impl Connection {
    pub(crate) fn new(
        city: City,
        ticket: StreamTicket,
        identity: StreamIdentity,
        is_resumed: bool,
        criticality: Option<Criticality>,
        requests: Streaming<ConnectRequest>,
        responses: mpsc::Sender<ConnectResponse>,
    ) -> Self {
        let mut connection = Self {
            mailbox: Some(city.open_mailbox(ticket.id.0)),
            meta: city.cluster().meta_changes(),
            stream: Stream::new(identity, is_resumed),
            city,
            ticket,
            criticality,
            requests,
            responses,
            backlog: VecDeque::new(),
            calls: FuturesUnordered::new(),
            waiting: None,
            hint_at: Instant::now(),
            refresh_at: Instant::now(),
            look_at: Instant::now() + LOOK_PAUSE_MAX,
            moving_since: None,
        };
        connection.refresh_later();
        connection
    }

    /// Runs the stream until it ends, tells its shards unless a newer connection took over, and returns the status that
    /// the client is to see, if any.
    pub(crate) async fn run(
        mut self,
        claim: &StreamClaim,
        drain: &CancellationToken,
        stop: &CancellationToken,
    ) -> Option<Status> {
        self.respond(connect_response::Message::Opened(StreamOpened {
            stream: self.ticket.to_string(),
            readings_in_flight_max: u32::try_from(READINGS_IN_FLIGHT_MAX).expect("a small constant"),
            batch_readings_max: u32::try_from(BATCH_READINGS_MAX).expect("a small constant"),
        }));
        let end = self.run_until_end(claim, drain, stop).await;
        let shards: Vec<_> = self.stream.shards().collect();
        let (city, ticket, request) = (self.city.clone(), self.ticket, self.stream.close());
        // Withdraws what is on its way, and the place where deliveries arrive, before shards hear of the end.
        drop(self);
        // Nobody is told who can not be reached.
        if !matches!(end, End::Superseded | End::CutOff(_)) {
            tokio::select! {
                () = claim.superseded.cancelled() => {}
                () = close(&city, ticket, &request, shards) => {}
            }
        }
        end.status()
    }

    async fn run_until_end(&mut self, claim: &StreamClaim, drain: &CancellationToken, stop: &CancellationToken) -> End {
        let mut is_open = true;
        loop {
            let has_room = self.backlog.len() < BACKLOG_MAX;
            let may_read = is_open && has_room && self.waiting.is_none() && self.stream.may_read();
            let is_answered = self.backlog.is_empty() && self.waiting.is_none() && self.stream.is_idle();
            if is_answered && !is_open {
                return End::Finished;
            }
            let moves_at = self.moving_since.map(|since| since + if is_answered { MOVE_MIN } else { MOVE_MAX });
            if moves_at.is_some_and(|at| at <= Instant::now()) {
                return End::Stopping;
            }
            let waits_until = self.waiting.as_ref().map(|(_, until)| *until);
            let may_hint = has_room && self.moving_since.is_none() && self.stream.has_attached();
            let outcome = tokio::select! {
                () = claim.superseded.cancelled() => return End::Superseded,
                () = stop.cancelled() => return End::Stopping,
                () = drain.cancelled(), if self.moving_since.is_none() => {
                    self.moving_since = Some(Instant::now());
                    self.respond(connect_response::Message::Moving(StreamMoving {}));
                    Ok(())
                }
                () = sleep_until(self.look_at) => match self.cut_off() {
                    Some(shard) => return End::CutOff(shard),
                    None => Ok(()),
                },
                sent = send_first(&self.responses, &mut self.backlog), if !self.backlog.is_empty() => match sent {
                    Ok(()) => Ok(()),
                    Err(Lost) => return End::Lost,
                },
                () = self.responses.closed() => return End::Lost,
                request = self.requests.message(), if may_read => match request {
                    Ok(Some(request)) => match self.take(request) {
                        Ok(outcome) => outcome,
                        Err(refused) => return End::Refused(refused),
                    },
                    Ok(None) => {
                        is_open = false;
                        Ok(())
                    }
                    Err(_) => return End::Lost,
                },
                Some((call, answer)) = self.calls.next() => self.stream.answered(call, answer),
                delivery = receive(self.mailbox.as_mut()), if has_room && self.mailbox.is_some() => {
                    match delivery {
                        Some(delivery) => self.stream.deliver(delivery),
                        None => self.mailbox = None,
                    }
                    Ok(())
                }
                _ = self.meta.changed(), if waits_until.is_some() => self.retry_attach(),
                () = sleep_until(waits_until.unwrap_or_else(Instant::now)), if waits_until.is_some() => {
                    self.retry_attach()
                }
                () = sleep_until(self.hint_at), if may_hint => {
                    self.hint();
                    Ok(())
                }
                () = sleep_until(self.refresh_at) => {
                    self.stream.refresh();
                    self.refresh_later();
                    Ok(())
                }
                () = sleep_until(moves_at.unwrap_or_else(Instant::now)), if moves_at.is_some() => return End::Stopping,
            };
            if let Err(ended) = outcome {
                return End::Ended(ended);
            }
            self.run_effects();
        }
    }

    /// Tells the client when it had better be elsewhere.
    fn hint(&mut self) {
        self.hint_at = Instant::now() + jittered(HINT_PAUSE_MAX, self.city.cluster().ports().random.next_u64());
        let leader = route::leader_elsewhere(&self.city, self.stream.shards());
        if let Some(endpoint) = leader.and_then(|leader| route::api_address(&self.city, leader)) {
            self.respond(connect_response::Message::LeaderElsewhere(LeaderElsewhere { endpoint }));
        }
    }

    /// One of the stream's shards, if this node is cut off from the other replicas of all of them: the client does better elsewhere.
    fn cut_off(&mut self) -> Option<ShardId> {
        self.look_at = Instant::now() + jittered(LOOK_PAUSE_MAX, self.city.cluster().ports().random.next_u64());
        let first = self.stream.shards().next()?;
        self.stream.shards().all(|shard| self.city.is_cut_off(shard)).then_some(first)
    }

    fn refresh_later(&mut self) {
        let pause = REFRESH_PAUSE_MAX.min(self.city.stream_age_max() / REFRESH_PART);
        self.refresh_at = Instant::now() + jittered(pause, self.city.cluster().ports().random.next_u64());
    }

    /// Hands a request to the stream; the outer error is a request that is none.
    fn take(&mut self, request: ConnectRequest) -> Result<Result<(), Ended>, Status> {
        match request.message {
            Some(connect_request::Message::Readings(batch)) => Ok(self.stream.readings(&batch)),
            Some(connect_request::Message::Acknowledgements(said)) => {
                Ok(self.stream.acknowledgements(said.acknowledgements))
            }
            Some(connect_request::Message::Attach(attach)) => {
                self.waiting = Some((attach, Instant::now() + route::DISTRICT_WAIT));
                Ok(self.retry_attach())
            }
            Some(connect_request::Message::Open(_)) => Err(status::invalid("open", "the stream is open already")),
            None => Err(status::invalid("message", "empty, or of a version that this node does not know")),
        }
    }

    /// Attaches the waiting devices once all their districts are known, or it is in vain to wait on.
    fn retry_attach(&mut self) -> Result<(), Ended> {
        let Some((attach, until)) = self.waiting.take() else { return Ok(()) };
        let places: Vec<_> = attach
            .devices
            .iter()
            .map(|device| {
                let name = name::parse_device(&device.device, "attach.devices.device");
                name.map(|name| (self.city.shard_of(name.district()), name))
            })
            .collect();
        let is_complete = places.iter().all(|place| !matches!(place, Ok((None, _))));
        if !is_complete && Instant::now() < until {
            self.waiting = Some((attach, until));
            return Ok(());
        }
        let attaching = attach.devices.iter().zip(places).map(|(device, place)| Attaching {
            alias: device.alias,
            is_first: device.first,
            place: match place {
                Ok((Some(shard), name)) => Ok((shard, name.as_str().to_owned())),
                Ok((None, name)) => Err(format!("there is no district {}", name.district())),
                Err(status) => Err(status.message().to_owned()),
            },
        });
        self.stream.attach(attaching.collect())
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.stream.next_effect() {
            match effect {
                Effect::Send(message) => self.respond(message),
                Effect::Call { call, shard, request, pause } => self.call(call, shard, request, pause),
            }
        }
    }

    fn call(&mut self, call: CallId, shard: ShardId, request: Request, pause: Duration) {
        let city = self.city.clone();
        let criticality = self.criticality.filter(|_| matches!(request, Request::SubmitReadings(_)));
        self.calls.push(Box::pin(async move {
            if !pause.is_zero() {
                sleep(jittered(pause, city.cluster().ports().random.next_u64())).await;
            }
            let context = CallContext { deadline: TRY_DEADLINE, criticality, ..CallContext::default() };
            (call, ask::try_ask(&city, shard, request, context).await)
        }));
    }

    fn respond(&mut self, message: connect_response::Message) {
        let response = ConnectResponse { message: Some(message) };
        if self.backlog.is_empty() {
            // A client that is gone is noticed where `closed` is awaited.
            if let Err(mpsc::error::TrySendError::Full(response)) = self.responses.try_send(response) {
                self.backlog.push_back(response);
            }
        } else {
            self.backlog.push_back(response);
        }
    }
}

impl End {
    fn status(self) -> Option<Status> {
        match self {
            Self::Finished | Self::Lost => None,
            Self::Superseded => Some(status::superseded()),
            Self::Stopping => Some(status::stopping()),
            Self::CutOff(shard) => Some(status::no_replica(shard)),
            Self::Refused(status) => Some(status),
            Self::Ended(Ended::Misuse { field, problem }) => Some(status::invalid(field, problem)),
            Self::Ended(Ended::Refused(failure)) => Some(status::of_failure(&failure)),
            Self::Ended(ended @ (Ended::OutcomesMismatch(_) | Ended::UnexpectedReply { .. })) => {
                Some(status::broken_contract(ended.to_string()))
            }
        }
    }
}

/// The client is gone.
struct Lost;

/// Hands the oldest response of the backlog on when there is room. Cancel safe.
async fn send_first(
    responses: &mpsc::Sender<ConnectResponse>,
    backlog: &mut VecDeque<ConnectResponse>,
) -> Result<(), Lost> {
    let permit = responses.reserve().await.map_err(|_closed| Lost)?;
    if let Some(response) = backlog.pop_front() {
        permit.send(response);
    }
    Ok(())
}

async fn receive(mailbox: Option<&mut StreamMailbox>) -> Option<kvarter_actors::StreamDelivery> {
    mailbox?.deliveries.recv().await
}

/// Tells the stream's shards that its connection is gone.
async fn close(city: &City, ticket: StreamTicket, request: &CloseStream, shards: Vec<ShardId>) {
    let closes = shards.into_iter().map(|shard| async move {
        let context = CallContext { deadline: CLOSE_DEADLINE, ..CallContext::default() };
        if let Err(failure) = ask::try_ask(city, shard, Request::CloseStream(request.clone()), context).await {
            let (stream, failure) = (ticket.id, failure.message);
            tracing::debug!(%shard, %stream, failure, "a shard did not hear of a stream's end");
        }
    });
    join_all(closes).await;
}

/// Between half of `pause` and all of it, so that the lanes of many streams do not retry in step.
fn jittered(pause: Duration, random: u64) -> Duration {
    let half = pause / 2;
    let span_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(random % span_ns)
}
