//! The task behind a gateway stream: runs the connection, and brings it back when it is lost.
//!
//! ```text
//!   GatewayStream ── requests ─►┌────────┐── frames ──► node
//!                               │ Driver │  window, attachments, recent acknowledgements
//!   GatewayEvents ◄── outbox ───└────────┘◄─ responses ─ node
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::BatchSequence;
use super::attachments::{AttachReply, Attachments};
use super::connection::Connection;
use super::event::GatewayEvent;
use super::frame::Frame;
use super::outbox::EventOutbox;
use super::recent::RecentAcknowledgements;
use super::totals::StreamTotals;
use super::window::Window;
use crate::backoff::Resume;
use crate::client::Client;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::{Attachment, CommandAcknowledgement};

/// A connection that lasted so long ends a row of failures.
const STEADY: Duration = Duration::from_secs(5);

/// What the client of the stream asks for.
#[derive(Debug)]
pub(super) enum Request {
    Send { sequence: BatchSequence, frame: Frame, readings: u32, called_at: Instant },
    Attach { devices: Vec<Attachment>, reply: AttachReply },
    Acknowledge(CommandAcknowledgement),
    Close,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed the stream.
    Closed,
    /// The node drains.
    Drained,
    /// This node leads most of what the stream writes to.
    Nearer(EndpointId),
    Lost(ApiError),
    /// The node broke the protocol; another connection would not make it good.
    Broken(ApiError),
}

/// Everything that outlives a connection.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) stream: String,
    /// Connections of the stream that were begun.
    pub(super) connections: u64,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) outbox: EventOutbox,
    pub(super) totals: watch::Sender<StreamTotals>,
    /// One permit for each reading that may still be sent.
    pub(super) permits: Arc<Semaphore>,
    pub(super) window: Window<Frame>,
    pub(super) attachments: Attachments,
    pub(super) recent: RecentAcknowledgements,
    /// Frames that go before the window's.
    pub(super) urgent: VecDeque<Frame>,
    pub(super) resume: Resume,
    /// When readings were last acknowledged, or none waited for it.
    pub(super) heard_at: Instant,
}

impl Driver {
    /// Runs until the client closes the stream or it fails for good.
    pub(super) async fn run(mut self, mut connection: Connection) {
        loop {
            let id = connection.id;
            let error = match self.serve(&mut connection).await {
                End::Closed => return self.outbox.flush().await,
                End::Broken(error) => return self.fail(error).await,
                End::Nearer(nearer) => {
                    drop(connection);
                    connection = match self.resume_at(nearer).await {
                        Ok(connection) => connection,
                        Err(error) => return self.fail(error).await,
                    };
                    continue;
                }
                End::Drained => ApiError::NotApplied {
                    reason: None,
                    message: format!("{} is draining", self.client.endpoints().address(id)),
                    retry_after: None,
                },
                End::Lost(error) => {
                    self.outbox.push(GatewayEvent::Disconnected(error.clone()));
                    error
                }
            };
            // Whatever the reason, another node is the better choice now.
            self.client.endpoints().failed(id);
            if connection.opened_at.elapsed() >= STEADY {
                self.resume.succeed();
            }
            drop(connection);
            connection = match self.reconnect(error).await {
                Ok(connection) => connection,
                Err(error) => return self.fail(error).await,
            };
        }
    }

    /// The next frame for the node, those before the readings first.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        self.urgent.pop_front().or_else(|| self.window.next_unsent().cloned())
    }

    /// Goes on at the node `id`, or at any if that fails.
    async fn resume_at(&mut self, id: EndpointId) -> Result<Connection, ApiError> {
        match self.open(id).await {
            Ok(connection) => Ok(connection),
            Err(error) => self.reconnect(error).await,
        }
    }

    async fn reconnect(&mut self, mut error: ApiError) -> Result<Connection, ApiError> {
        loop {
            let pause = self.resume.fail(error, self.client.entropy())?;
            tracing::debug!(stream = self.stream, ?pause, "resuming the gateway stream");
            self.outbox.flush_during(sleep(pause)).await;
            match self.open(self.client.endpoints().pick_for_stream()).await {
                Ok(connection) => return Ok(connection),
                Err(failed) => error = failed,
            }
        }
    }

    /// Resumes the stream at the node `id`.
    async fn open(&mut self, id: EndpointId) -> Result<Connection, ApiError> {
        self.connections += 1;
        let opening = Connection::open(&self.client, id, &self.stream, self.connections);
        let connection = self.outbox.flush_during(opening).await?;
        self.begin_again(&connection);
        Ok(connection)
    }

    /// Everything that the node of a new connection has to hear again.
    fn begin_again(&mut self, connection: &Connection) {
        self.urgent = self.attachments.resume().into_iter().map(Frame::attach).collect();
        let recent = self.recent.resume(Instant::now());
        if !recent.is_empty() {
            self.urgent.push_back(Frame::acknowledgements(recent));
        }
        self.window.rewind();
        let endpoint = self.client.endpoints().address(connection.id).to_owned();
        self.outbox.push(GatewayEvent::Resumed { endpoint });
    }

    /// Lets everyone who waits know that the stream has ended, then tells why.
    async fn fail(self, error: ApiError) {
        let Self { mut outbox, permits, requests, attachments, totals, .. } = self;
        permits.close();
        drop((requests, attachments, totals));
        outbox.push(GatewayEvent::Failed(error));
        outbox.flush().await;
    }
}
