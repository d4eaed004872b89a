//! Opening, attaching to and closing streams.

use crate::decide::readings::CLOCK_MIN_US;
use crate::decide::{Decider, Effect};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::state::Stream;
use crate::{ConnectionNumber, DeviceNumber, StreamId};

/// Devices of one request.
const ATTACH_MAX: usize = 10_000;

/// Longest subject of a client.
const CLIENT_BYTES_MAX: usize = 256;

/// A stream whose connection ended less than this ago is likely to be resumed, and makes room for no other.
pub(super) const CLOSED_MIN_US: i64 = 10 * 60 * 1_000_000;

/// A connected stream is opened again every so often, so that it does not expire where it only takes commands. That makes a fact
/// when it was not used for this part of the age at which streams expire.
pub(super) const REFRESH_PART: i64 = 4;

/// How far the clock of the node that issued a stream may run ahead of the shard's. Later times are of no clock that is right.
const ISSUED_AHEAD_MAX_US: i64 = 10 * 60 * 1_000_000;

impl Decider<'_> {
    pub(super) fn open_stream(&mut self, request: &message::OpenStream) -> Result<Reply, Failure> {
        let id = stream_id(&request.stream)?;
        if request.client.is_empty() || request.client.len() > CLIENT_BYTES_MAX {
            return Err(Failure::invalid("client", format!("a client's name has 1 to {CLIENT_BYTES_MAX} bytes")));
        }
        let (totals, is_fresh) = match self.scratch.stream(id) {
            Some(stream) if *stream.client != *request.client => {
                let text = format!("stream {id} belongs to another client");
                return Err(Failure::new(FailureReason::Forbidden, text));
            }
            Some(stream) if is_superseded(stream, ConnectionNumber(request.connection)) => {
                let text = format!("stream {id} has a later connection than {}", request.connection);
                return Err(Failure::new(FailureReason::Superseded, text));
            }
            Some(stream) => {
                let is_same = stream.node.0 == request.node && stream.connection.0 == request.connection;
                let is_here = stream.is_open && is_same;
                let unused_us = self.now.0.saturating_sub(stream.used_us);
                (stream.totals, is_here && unused_us < self.stream_age_max_us() / REFRESH_PART)
            }
            None if self.has_expired(request) => {
                let text = format!("stream {id} has expired; open a new one");
                return Err(Failure::new(FailureReason::StreamExpired, text));
            }
            None => {
                self.make_room_for_stream()?;
                (message::StreamTotals::default(), false)
            }
        };
        if !is_fresh {
            self.push(fact::Fact::StreamOpened(message::StreamOpened {
                stream: request.stream.clone(),
                client: request.client.clone(),
                node: request.node,
                issued_us: request.issued_us.min(self.now.0.saturating_add(ISSUED_AHEAD_MAX_US)),
                connection: request.connection,
            }));
            self.activate_attached(id);
        }
        Ok(Reply::StreamOpened(totals))
    }

    /// Whether a stream that the shard does not know is one that expired here, or may be.
    fn has_expired(&self, request: &message::OpenStream) -> bool {
        let issued_us = request.issued_us;
        if is_of_no_clock(issued_us) {
            return true;
        }
        if request.unused {
            return false;
        }
        let expired_us = self.scratch.streams_expired_us();
        // No stream that has expired was issued in the future: believing it would close the shard until then. Those that did
        // expire were issued before they were old enough.
        let horizon_us =
            if expired_us > self.now.0 { self.now.0.saturating_sub(self.stream_age_max_us()) } else { expired_us };
        issued_us <= horizon_us
    }

    /// At the limit, the closed stream that was used longest ago expires before its time.
    fn make_room_for_stream(&mut self) -> Result<(), Failure> {
        let limit = self.limits.streams_max;
        if self.scratch.streams().count() < limit {
            return Ok(());
        }
        let closed_us = self.now.0.saturating_sub(CLOSED_MIN_US);
        let closed = self.scratch.streams().filter(|(_, stream)| !stream.is_open && stream.state_us <= closed_us);
        let Some((_, oldest)) = closed.map(|(id, stream)| (stream.used_us, id)).min() else {
            let text = format!("the shard has {limit} streams, its limit");
            return Err(Failure::new(FailureReason::Limit, text));
        };
        self.push(fact::Fact::StreamExpired(message::StreamExpired { stream: oldest.to_message() }));
        Ok(())
    }

    fn stream_age_max_us(&self) -> i64 {
        i64::try_from(self.limits.stream_age_max.as_micros()).unwrap_or(i64::MAX)
    }

    /// Devices that waited for their stream may be reached again.
    fn activate_attached(&mut self, id: StreamId) {
        let Some(stream) = self.scratch.stream(id) else { return };
        let waiting: Vec<_> = stream.devices.iter().copied().filter(|number| self.has_work(*number)).collect();
        self.effects.extend(waiting.into_iter().map(Effect::Activate));
    }

    pub(super) fn attach_devices(&mut self, request: &message::AttachDevices) -> Result<Reply, Failure> {
        let id = stream_id(&request.stream)?;
        if request.names.len() > ATTACH_MAX {
            let text = format!("{} devices in one request, at most {ATTACH_MAX} are allowed", request.names.len());
            return Err(Failure::invalid("names", text));
        }
        if self.scratch.stream(id).is_none() {
            return Err(stream_unknown(id));
        }
        let mut opened = Vec::new();
        let devices = request
            .names
            .iter()
            .map(|name| match self.scratch.device_named(name) {
                Some(device) => {
                    if device.session() != Some(id) {
                        opened.push(device.number());
                    }
                    message::AttachedDevice { device: device.number().0, error: String::new() }
                }
                None => message::AttachedDevice { device: 0, error: Failure::device_not_found(name).message },
            })
            .collect();
        if !opened.is_empty() {
            let device = opened.iter().map(|number: &DeviceNumber| number.0).collect();
            let stream = request.stream.clone();
            self.push(fact::Fact::SessionsOpened(message::SessionsOpened { stream, device }));
            opened.retain(|number| self.has_work(*number));
            self.effects.extend(opened.into_iter().map(Effect::Activate));
        }
        Ok(Reply::DevicesAttached(message::DevicesAttached { devices }))
    }

    /// Closes the stream unless it has a later connection by now.
    pub(super) fn close_stream(&mut self, request: &message::CloseStream) -> Result<Reply, Failure> {
        let id = stream_id(&request.stream)?;
        let position = self.scratch.stream(id).is_some_and(|stream| is_closed_by(stream, request)).then(|| {
            let message::CloseStream { stream, node, connection } = request.clone();
            self.push(fact::Fact::StreamClosed(message::StreamClosed { stream, node, connection }))
        });
        Ok(Reply::Done(message::Done { position }))
    }
}

/// Whether the shard has heard of the end of `connection`, or of a later one: requests overtake each other on their way.
fn is_superseded(stream: &Stream, connection: ConnectionNumber) -> bool {
    let is_over = connection < stream.connection || (connection == stream.connection && !stream.is_open);
    connection != ConnectionNumber::UNCOUNTED && is_over
}

fn is_closed_by(stream: &Stream, request: &message::CloseStream) -> bool {
    let connection = ConnectionNumber(request.connection);
    if stream.connection == ConnectionNumber::UNCOUNTED {
        return stream.is_open && stream.node.0 == request.node;
    }
    // The end of a connection whose opening is still on its way is noted too, so that the opening comes too late.
    connection > stream.connection || (connection == stream.connection && stream.is_open)
}

/// No node's clock was ever so early: whatever stream this was, nothing is known of it any more. A shard that has not expired a
/// stream yet could not tell it from a new one.
fn is_of_no_clock(issued_us: i64) -> bool {
    issued_us < CLOCK_MIN_US
}

pub(super) fn stream_id(bytes: &[u8]) -> Result<StreamId, Failure> {
    StreamId::from_message(bytes).ok_or_else(|| Failure::invalid("stream", "a stream's id has 16 bytes"))
}

/// Whoever attaches or submits has opened the stream before.
pub(super) fn stream_unknown(id: StreamId) -> Failure {
    Failure::new(FailureReason::StreamExpired, format!("stream {id} has expired in this shard; open a new one"))
}
