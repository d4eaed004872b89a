//! The client half of the gateway stream: readings up, commands down, over lost connections, each reading counted once.
//!
//! Start at [`GatewayStream`]. The bookkeeping is pure: `window.rs` for batches, `attachments.rs` for devices, `totals.rs`
//! for the accounts; `driver.rs` and `serve.rs` are the task that runs it.

mod aliases;
mod attachments;
mod connection;
mod driver;
mod event;
mod frame;
mod outbox;
mod recent;
mod serve;
mod totals;
mod window;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use event::{AcknowledgedReading, BatchAcknowledgement, GatewayEvent};
pub use totals::StreamTotals;

use self::aliases::Aliases;
use self::attachments::{ATTACH_DEVICES_MAX, Attachments};
use self::connection::Connection;
use self::driver::{Driver, Request};
use self::frame::Frame;
use self::outbox::EventOutbox;
use self::recent::RecentAcknowledgements;
use self::window::Window;
use crate::backoff::Resume;
use crate::client::Client;
use crate::error::ApiError;
use crate::v1::{AttachedDevice, Attachment, CommandAcknowledgement, Reading};

/// Requests between the client and the task of the stream. Readings are bounded by the window as well.
const REQUESTS_MAX: usize = 64;

/// Each attempt to open a new stream makes another stream, and is the first connection of that one.
const FIRST_CONNECTION: u64 = 1;

/// Number of a batch on its stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchSequence(pub u64);

/// How a gateway stream behaves.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Events that wait for their reader before the stream stops listening to the node, from 1 (1,024).
    pub events_max: usize,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self { events_max: 1_024 }
    }
}

/// Why a request could not be handed to the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("a batch has at least one reading")]
    NoReadings,
    #[error("a batch of {readings} readings, at most {readings_max} are allowed")]
    TooManyReadings { readings: usize, readings_max: u32 },
    #[error("alias {alias} is above {alias_max}")]
    AliasTooLarge { alias: u32, alias_max: u32 },
    #[error("alias {alias} was attached before on this stream")]
    AliasInUse { alias: u32 },
    #[error("a reading under alias {alias}, which was never attached")]
    UnknownAlias { alias: u32 },
    /// The last event says why. Readings that are not acknowledged are perhaps stored.
    #[error("the gateway stream has ended")]
    Ended,
}

/// A stream on which a gateway speaks for its devices.
///
/// Connections come and go below it: after a loss it resumes on another node, attaches its devices again and sends again what is
/// not acknowledged, and the cluster counts each reading once. It waits as long as the cluster needs for that; only when it is refused, or no node could be reached for
/// `ClientConfig::resume_deadline`, it ends with [`GatewayEvent::Failed`].
///
/// All methods may be called from several tasks; batches are numbered in the order in which `send` was called. Read the
/// [`GatewayEvents`] all the while, or drop them: when they are full, the stream stops listening, and in the end `send` waits.
///
/// Dropping the stream breaks the connection at once; [`GatewayStream::close`] ends it in order.
#[derive(Debug)]
pub struct GatewayStream {
    requests: mpsc::Sender<Request>,
    aliases: StdMutex<Aliases>,
    /// Held by one `send` at a time, so that batches are numbered in the order of the calls.
    sent: Mutex<Sent>,
    window: Arc<Semaphore>,
    totals: watch::Receiver<StreamTotals>,
    batch_readings_max: u32,
    /// The task, aborted when this is dropped.
    task: JoinSet<()>,
}

/// What was handed to the task.
#[derive(Debug, Default)]
struct Sent {
    batches: u64,
    readings: u64,
}

/// The events of a gateway stream, in order.
#[derive(Debug)]
pub struct GatewayEvents {
    events: mpsc::Receiver<GatewayEvent>,
}

impl GatewayEvents {
    /// The next event, or `None` after the end of the stream. Cancel safe.
    pub async fn next(&mut self) -> Option<GatewayEvent> {
        self.events.recv().await
    }

    /// An event that is there already.
    pub fn next_now(&mut self) -> Option<GatewayEvent> {
        self.events.try_recv().ok()
    }
}

impl GatewayStream {
    /// Opens a new stream; the streams of one client take turns among its nodes. Fails when a node refuses, or none answers
    /// for `ClientConfig::deadline`.
    pub async fn open(client: &Client, options: GatewayOptions) -> Result<(Self, GatewayEvents), ApiError> {
        let mut attempts = Resume::new(client.config().deadline);
        let connection = loop {
            match Connection::open(client, client.endpoints().pick_for_stream(), "", FIRST_CONNECTION).await {
                Ok(connection) => break connection,
                Err(error) => sleep(attempts.fail(error, client.entropy())?).await,
            }
        };
        let (requests_tx, requests) = mpsc::channel(REQUESTS_MAX);
        let (events_tx, events) = mpsc::channel(options.events_max.max(1));
        let (totals_tx, totals) = watch::channel(StreamTotals::default());
        let batch_readings_max = connection.opened.batch_readings_max;
        // A window below a batch would never open for it.
        let window_readings = connection.opened.readings_in_flight_max.max(batch_readings_max);
        let window = Arc::new(Semaphore::new(window_readings as usize));
        let driver = Driver {
            client: client.clone(),
            stream: connection.opened.stream.clone(),
            connections: FIRST_CONNECTION,
            requests,
            outbox: EventOutbox::new(events_tx),
            totals: totals_tx,
            permits: Arc::clone(&window),
            window: Window::new(),
            attachments: Attachments::default(),
            recent: RecentAcknowledgements::default(),
            urgent: VecDeque::new(),
            resume: Resume::new(client.config().resume_deadline),
            heard_at: Instant::now(),
        };
        let mut task = JoinSet::new();
        task.spawn(driver.run(connection));
        let (aliases, sent) = (StdMutex::default(), Mutex::default());
        Ok((
            Self { requests: requests_tx, aliases, sent, window, totals, batch_readings_max, task },
            GatewayEvents { events },
        ))
    }

    /// Readings that one batch may have.
    pub fn batch_readings_max(&self) -> u32 {
        self.batch_readings_max
    }

    /// Attaches devices under aliases that the client chooses, and returns the outcomes in order: a device with an `error` is
    /// not attached, the others are. Readings may follow at once, without waiting for the answer. An alias is used once on a
    /// stream, also when its device was refused; if one of `devices` has a used one, none is attached.
    ///
    /// Waits while a shard has no leader. Dropping the future does not withdraw the attachment.
    pub async fn attach(&self, devices: Vec<Attachment>) -> Result<Vec<AttachedDevice>, SendError> {
        self.aliases().claim(&devices)?;
        // The task alone knows when one is asked for first.
        let devices: Vec<_> = devices.into_iter().map(|device| Attachment { first: false, ..device }).collect();
        let mut attached = Vec::with_capacity(devices.len());
        for devices in devices.chunks(ATTACH_DEVICES_MAX) {
            let (reply, answer) = oneshot::channel();
            self.request(Request::Attach { devices: devices.to_vec(), reply }).await?;
            attached.extend(answer.await.map_err(|_dropped| SendError::Ended)?);
        }
        Ok(attached)
    }

    /// Sends readings as one batch, and returns its number; their outcomes come as events. Waits while as many readings are
    /// unacknowledged as the node allows. Dropping the future before it returns sends nothing.
    pub async fn send(&self, readings: Vec<Reading>) -> Result<BatchSequence, SendError> {
        let called_at = Instant::now();
        let count = match u32::try_from(readings.len()) {
            Ok(0) => return Err(SendError::NoReadings),
            Ok(count) if count <= self.batch_readings_max => count,
            _ => {
                let readings_max = self.batch_readings_max;
                return Err(SendError::TooManyReadings { readings: readings.len(), readings_max });
            }
        };
        self.aliases().check(&readings)?;
        let mut sent = self.sent.lock().await;
        let room = self.window.acquire_many(count).await.map_err(|_closed| SendError::Ended)?;
        let place = self.requests.reserve().await.map_err(|_closed| SendError::Ended)?;
        // Given back when the readings are acknowledged.
        room.forget();
        sent.batches += 1;
        sent.readings += u64::from(count);
        let sequence = BatchSequence(sent.batches);
        place.send(Request::Send { sequence, frame: Frame::readings(sequence, readings), readings: count, called_at });
        Ok(sequence)
    }

    /// Tells the cluster what a device did with a command; usually the word of a [`crate::CommandLedger`]. Best effort: what is
    /// lost is asked for again by another delivery.
    pub async fn acknowledge(&self, acknowledgement: CommandAcknowledgement) -> Result<(), SendError> {
        self.request(Request::Acknowledge(acknowledgement)).await
    }

    /// What is known of the readings so far.
    pub fn totals(&self) -> StreamTotals {
        *self.totals.borrow()
    }

    /// Waits until all readings that were sent before are acknowledged, and returns the totals.
    pub async fn drained(&self) -> Result<StreamTotals, SendError> {
        let sent = self.sent.lock().await.readings;
        let mut totals = self.totals.clone();
        let totals = totals.wait_for(|totals| totals.acknowledged >= sent).await;
        totals.map(|totals| *totals).map_err(|_dropped| SendError::Ended)
    }

    /// Waits until everything is acknowledged, at most for `patience`, then ends the stream in order. The totals tell by
    /// `sent` and `acknowledged` whether something is open.
    pub async fn close(mut self, patience: Duration) -> StreamTotals {
        let closing = async {
            self.drained().await?;
            self.request(Request::Close).await?;
            self.task.join_next().await;
            Ok::<_, SendError>(())
        };
        // An end that came before, or takes too long, shows in the totals.
        drop(timeout(patience, closing).await);
        self.totals()
    }

    fn aliases(&self) -> MutexGuard<'_, Aliases> {
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, request: Request) -> Result<(), SendError> {
        self.requests.send(request).await.map_err(|_closed| SendError::Ended)
    }
}
