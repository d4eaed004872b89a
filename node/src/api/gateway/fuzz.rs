//! A door for the fuzzers in `chaos/fuzz` to the server half of a gateway stream. There under `--cfg fuzzing` alone.

use std::collections::VecDeque;

use kvarter_actors::message::{Failure, FailureReason, ShardReply};
use kvarter_actors::{ConnectionNumber, StreamId};
use kvarter_api::v1::{ConnectRequest, connect_request};
use kvarter_cluster::{NodeId, ShardId, Timestamp};
use prost::Message as _;

use super::attach::Attaching;
use super::stream::{CallId, Effect, Ended, Stream, StreamIdentity};
use super::ticket::StreamTicket;
use crate::api::name;

/// Turns of the client and of a shard; each takes a message from the input.
const TURNS_MAX: usize = 256;

/// `bytes` as a client's requests and shards' answers in turn, each behind its length. What does not decode is an answer that
/// never came, and ends the client's part.
pub fn requests(mut bytes: &[u8]) {
    let ticket = StreamTicket { id: StreamId(42), issued: Timestamp(1) };
    let mut stream =
        Stream::new(StreamIdentity::new(ticket, "client:fuzz".to_owned(), NodeId(1), ConnectionNumber(1)), false);
    let mut calls = VecDeque::new();
    for _ in 0..TURNS_MAX {
        if bytes.is_empty() {
            return;
        }
        let Ok(request) = ConnectRequest::decode_length_delimited(&mut bytes) else { return };
        if stream.may_read() && take(&mut stream, request).is_err() {
            return;
        }
        run(&mut stream, &mut calls);
        let Some(call) = calls.pop_front() else { continue };
        let reply = ShardReply::decode_length_delimited(&mut bytes).ok().and_then(|reply| reply.reply);
        let lost = || Failure::new(FailureReason::Unknown, "lost".to_owned());
        if stream.answered(call, reply.ok_or_else(lost)).is_err() {
            return;
        }
        run(&mut stream, &mut calls);
    }
}

fn take(stream: &mut Stream, request: ConnectRequest) -> Result<(), Ended> {
    match request.message {
        Some(connect_request::Message::Readings(batch)) => stream.readings(&batch),
        Some(connect_request::Message::Acknowledgements(said)) => stream.acknowledgements(said.acknowledgements),
        Some(connect_request::Message::Attach(attach)) => {
            let attaching = attach.devices.into_iter().map(|device| {
                let place = name::parse_device(&device.device, "attach.devices.device")
                    .map(|name| (ShardId(1 + device.alias % 3), name.as_str().to_owned()))
                    .map_err(|status| status.message().to_owned());
                Attaching { alias: device.alias, place, is_first: device.first }
            });
            stream.attach(attaching.collect())
        }
        Some(connect_request::Message::Open(_)) | None => Ok(()),
    }
}

fn run(stream: &mut Stream, calls: &mut VecDeque<CallId>) {
    while let Some(effect) = stream.next_effect() {
        match effect {
            Effect::Call { call, .. } => calls.push_back(call),
            Effect::Send(_) => {}
        }
    }
    // Whatever clients and shards say, the stream's own counts stay right.
    assert!(!stream.is_idle() || stream.may_read());
}
