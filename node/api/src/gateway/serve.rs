//! One connection's life: requests and frames out, responses in, each only while there is room for what it leads to.

use std::time::Duration;

use tokio::sync::mpsc::{Permit, Sender};
use tokio::time::{Instant, sleep_until};

use super::attachments::UnexpectedAnswer;
use super::connection::Connection;
use super::driver::{Driver, End, Request};
use super::event::GatewayEvent;
use super::frame::Frame;
use super::window::InvalidAcknowledgement;
use crate::endpoints::EndpointId;
use crate::error::ApiError;
use crate::v1::connect_response::Message;
use crate::v1::{Attachment, ConnectResponse, ReadingsAcknowledged};

/// Time that a node has for the acknowledgements that are open when the stream moves, or the client closes it.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// Urgent frames that may wait before no further request is taken. After a loss there may be more: one for each 10,000
/// devices.
const URGENT_MAX: usize = 64;

/// Why a connection takes no more requests, and until when it stays open.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// To the node that leads, or to any when this one drains.
    Moving {
        to: Option<EndpointId>,
        deadline: Instant,
    },
    Closing {
        deadline: Instant,
    },
}

impl Leaving {
    fn moving(to: Option<EndpointId>) -> Self {
        Self::Moving { to, deadline: Instant::now() + LEAVE_DEADLINE }
    }

    fn deadline(self) -> Instant {
        match self {
            Self::Moving { deadline, .. } | Self::Closing { deadline } => deadline,
        }
    }
}

/// What a response means for the connection.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Usual,
    Draining,
    LedBy(EndpointId),
}

/// A response that the protocol does not allow: the accounts can not be trusted any more.
#[derive(Debug, thiserror::Error)]
enum BrokenContract {
    #[error(transparent)]
    Acknowledgement(#[from] InvalidAcknowledgement),
    #[error(transparent)]
    Attachment(#[from] UnexpectedAnswer),
    #[error("a stream is opened once")]
    OpenedTwice,
}

impl Driver {
    /// Runs `connection` to its end.
    pub(super) async fn serve(&mut self, connection: &mut Connection) -> End {
        let mut leaving: Option<Leaving> = None;
        let mut is_writable = true;
        let silence_max = self.client.config().silence_max;
        self.heard_at = Instant::now();
        loop {
            let is_moving = matches!(leaving, Some(Leaving::Moving { .. }));
            let is_closing = matches!(leaving, Some(Leaving::Closing { .. }));
            let has_frame = !is_moving && (!self.urgent.is_empty() || self.window.has_unsent());
            let is_waiting = self.window.has_waiting();
            if !is_waiting {
                self.heard_at = Instant::now();
            }
            if is_moving && !is_waiting {
                return end_of_responses(leaving);
            }
            if is_closing && !has_frame {
                connection.to_node = None;
            }
            let leave_at = leaving.map_or_else(Instant::now, Leaving::deadline);
            tokio::select! {
                writable = writable(connection.to_node.as_ref()), if has_frame && is_writable => match writable {
                    Some(place) => {
                        if let Some(frame) = self.next_frame() {
                            place.send(frame);
                        }
                    }
                    // The node's last words say why.
                    None => is_writable = false,
                },
                () = self.outbox.flush(), if !self.outbox.is_empty() => {}
                response = connection.from_node.message(), if self.outbox.has_room() => match response {
                    Ok(Some(response)) => match self.respond(response) {
                        Ok(Heard::Usual) => {}
                        Ok(Heard::Draining) => leaving = Some(Leaving::moving(None)),
                        Ok(Heard::LedBy(leader)) => {
                            if leaving.is_none() && leader != connection.id {
                                self.outbox.push(GatewayEvent::Moving);
                                leaving = Some(Leaving::moving(Some(leader)));
                            }
                        }
                        Err(broken) => {
                            let address = self.client.endpoints().address(connection.id);
                            return End::Broken(ApiError::broken_contract(address, &broken.to_string()));
                        }
                    },
                    Ok(None) => return end_of_responses(leaving),
                    Err(status) => return End::Lost(status.into()),
                },
                request = self.requests.recv(), if leaving.is_none() && self.urgent.len() < URGENT_MAX => {
                    if self.take(request) {
                        leaving = Some(Leaving::Closing { deadline: Instant::now() + LEAVE_DEADLINE });
                    }
                }
                () = sleep_until(self.heard_at + silence_max), if is_waiting => {
                    return End::Lost(self.client.silent(connection.id, silence_max));
                }
                () = sleep_until(leave_at), if leaving.is_some() => return end_of_responses(leaving),
            }
        }
    }

    /// Takes a request of the client; true when it closes the stream.
    fn take(&mut self, request: Option<Request>) -> bool {
        match request {
            Some(Request::Send { sequence, frame, readings, called_at }) => {
                self.window.push(sequence, frame, readings, called_at);
                self.totals.send_replace(self.window.totals());
            }
            Some(Request::Attach { devices, reply }) => {
                let asked = devices.iter().map(|device| Attachment { first: true, ..device.clone() });
                self.urgent.push_back(Frame::attach(asked.collect()));
                self.attachments.request(devices, reply);
            }
            Some(Request::Acknowledge(acknowledgement)) => {
                self.recent.push(Instant::now(), acknowledgement.clone());
                self.urgent.push_back(Frame::acknowledgements(vec![acknowledgement]));
            }
            Some(Request::Close) | None => return true,
        }
        false
    }

    /// Takes a response of the node.
    fn respond(&mut self, response: ConnectResponse) -> Result<Heard, BrokenContract> {
        match response.message {
            Some(Message::Acknowledged(acknowledged)) => self.acknowledge(&acknowledged)?,
            Some(Message::Attached(answer)) => {
                for device in self.attachments.answer(answer)? {
                    self.outbox.push(GatewayEvent::Detached { alias: device.alias, error: device.error });
                }
            }
            Some(Message::Command(command)) => self.outbox.push(GatewayEvent::Command(command)),
            Some(Message::Desired(desired)) => self.outbox.push(GatewayEvent::Desired(desired)),
            Some(Message::Moving(_)) => {
                self.outbox.push(GatewayEvent::Moving);
                return Ok(Heard::Draining);
            }
            Some(Message::LeaderElsewhere(hint)) => {
                return Ok(self.client.fit_leader(&hint.endpoint).map_or(Heard::Usual, Heard::LedBy));
            }
            Some(Message::Opened(_)) => return Err(BrokenContract::OpenedTwice),
            // A message of a newer node, which this client did not ask for.
            None => {}
        }
        Ok(Heard::Usual)
    }

    fn acknowledge(&mut self, acknowledged: &ReadingsAcknowledged) -> Result<(), InvalidAcknowledgement> {
        let news = self.window.acknowledge(acknowledged, Instant::now())?;
        self.totals.send_replace(self.window.totals());
        self.resume.succeed();
        self.heard_at = Instant::now();
        if !news.readings.is_empty() {
            self.permits.add_permits(news.readings.len());
            self.outbox.push(GatewayEvent::Acknowledged(news));
        }
        Ok(())
    }
}

/// Waits for a place for one frame; `None` when the transport takes no more.
async fn writable(to_node: Option<&Sender<Frame>>) -> Option<Permit<'_, Frame>> {
    to_node?.reserve().await.ok()
}

/// What it means that nothing more comes from the node.
fn end_of_responses(leaving: Option<Leaving>) -> End {
    match leaving {
        Some(Leaving::Moving { to: Some(leader), .. }) => End::Nearer(leader),
        Some(Leaving::Moving { to: None, .. }) => End::Drained,
        Some(Leaving::Closing { .. }) => End::Closed,
        None => End::Lost(ApiError::Unknown { reason: None, message: "the node ended the connection".to_owned() }),
    }
}
