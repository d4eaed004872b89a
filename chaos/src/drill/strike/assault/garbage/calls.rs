//! Calls that must be refused: messages that do not decode, and messages that break a rule.
use bytes::Bytes;
use futures::future::join_all;
use kvarter_api::v1::{
    Argument, AttachDevices, Attachment, ConnectRequest, DesiredValue, GetTwinRequest, IssueCommandRequest,
    ListTwinsRequest, OpenStream, PatchDesiredRequest, Position, ReadingBatch, SubscribeRequest, Value,
    WatchCommandRequest, connect_request, value,
};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Answer;
use crate::drill::strike::wire::{self, CONNECT};

const GET_TWIN: &str = "/kvarter.v1.TwinService/GetTwin";
const LIST_TWINS: &str = "/kvarter.v1.TwinService/ListTwins";
const PATCH_DESIRED: &str = "/kvarter.v1.TwinService/PatchDesired";
const ISSUE_COMMAND: &str = "/kvarter.v1.CommandService/IssueCommand";
const WATCH_COMMAND: &str = "/kvarter.v1.CommandService/WatchCommand";
const SUBSCRIBE: &str = "/kvarter.v1.FeedService/Subscribe";
const STATUS: &str = "/kvarter.v1.ClusterAdmin/GetClusterStatus";
const PEER_CALL: &str = "/kvarter.cluster.v1.Peer/Call";

/// Above the API's limit of 4 MiB for a message.
const OVERSIZED_BYTES: usize = 5 << 20;
/// Groups in groups: deeper than any decoder may follow on its stack.
const NESTING: usize = 100_000;
const BATCH_READINGS_OVER_MAX: usize = 100_000;

/// What a decoder says.
const UNDECODABLE: [Code; 2] = [Code::Internal, Code::InvalidArgument];
const OVERSIZED: [Code; 2] = [Code::OutOfRange, Code::ResourceExhausted];
const INVALID: [Code; 1] = [Code::InvalidArgument];

pub(super) async fn status(channel: &Channel) -> Result<(), Status> {
    wire::call_once(channel, STATUS, Bytes::new()).await
}

/// A client at the port of the peers.
pub(super) async fn at_peers(channel: &Channel) -> Vec<Answer> {
    let codes = [Code::PermissionDenied, Code::Unauthenticated];
    let outcome = wire::call_once(channel, PEER_CALL, Bytes::new()).await;
    vec![Answer::of_status("a client's certificate at the peers' port", outcome, &codes)]
}

/// Messages that are none.
pub(super) async fn broken(channel: &Channel) -> Vec<Answer> {
    // Field 1 with a length of four billion; a byte that is no text; a name of five million bytes.
    let endless = Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let no_text = Bytes::from_static(&[0x0a, 0x02, 0xc3, 0x28]);
    let oversized =
        Bytes::from(GetTwinRequest { name: "x".repeat(OVERSIZED_BYTES), consistency: None }.encode_to_vec());
    // The begin of group 100, which no message here has.
    let nested = Bytes::from([0xa3, 0x06].repeat(NESTING));
    let inputs: [(&'static str, &'static str, Bytes, &[Code]); 8] = [
        ("a length beyond the message", GET_TWIN, endless.clone(), &UNDECODABLE),
        ("bytes that are no text", GET_TWIN, no_text, &UNDECODABLE),
        ("deep nesting", GET_TWIN, nested.clone(), &UNDECODABLE),
        ("an oversized message", GET_TWIN, oversized.clone(), &OVERSIZED),
        ("a method that there is not", "/kvarter.v1.TwinService/Explode", Bytes::new(), &[Code::Unimplemented]),
        ("a gateway's message that does not decode", CONNECT, endless, &UNDECODABLE),
        ("deep nesting on a stream", CONNECT, nested, &UNDECODABLE),
        ("an oversized message on a stream", CONNECT, oversized, &OVERSIZED),
    ];
    join_all(inputs.into_iter().map(|(what, path, message, codes)| async move {
        Answer::of_status(what, wire::call_once(channel, path, message).await, codes)
    }))
    .await
}

/// Messages that decode, and must not be obeyed.
pub(super) async fn rule_breaking(channel: &Channel) -> Vec<Answer> {
    let twin = |name: &str| GetTwinRequest { name: name.to_owned(), consistency: None }.encode_to_vec();
    let list = |list: ListTwinsRequest| list.encode_to_vec();
    let all = || ListTwinsRequest { parent: "districts/-".to_owned(), ..ListTwinsRequest::default() };
    let cursor = |shard, index| SubscribeRequest {
        cursors: vec![Position { shard, index, ordinal: 0 }],
        ..SubscribeRequest::default()
    };
    let once: [(&'static str, &'static str, Vec<u8>); 14] = [
        ("a name with control characters", GET_TWIN, twin("districts/a\0\u{1b}[2J/devices/x\n")),
        ("a name that leaves its place", GET_TWIN, twin("districts/../devices/x")),
        ("an empty name", GET_TWIN, twin("")),
        ("a name of a megabyte", GET_TWIN, twin(&"districts/".repeat(100_000))),
        ("a page of no size", LIST_TWINS, list(ListTwinsRequest { page_size: u32::MAX, ..all() })),
        ("a forged page token", LIST_TWINS, list(ListTwinsRequest { page_token: "\u{7}forged".to_owned(), ..all() })),
        ("an attribute that there is not", PATCH_DESIRED, patch("explosiveness", 1.0)),
        ("a value outside its range", PATCH_DESIRED, patch("temperatureSetpoint", 1e300)),
        ("a value that is no number", PATCH_DESIRED, patch("temperatureSetpoint", f64::NAN)),
        ("an action that there is not", ISSUE_COMMAND, order("explode", 20.0, 30)),
        ("an argument in another unit", ISSUE_COMMAND, order("set_temperature", 293.15, 30)),
        ("a command with a year to its deadline", ISSUE_COMMAND, order("set_temperature", 20.0, 31_536_000)),
        ("a command whose deadline has passed", ISSUE_COMMAND, order("set_temperature", 20.0, -5)),
        ("a cursor of a shard that there is not", SUBSCRIBE, cursor(9_999, 1).encode_to_vec()),
    ];
    let once = once.into_iter().map(|(what, path, message)| async move {
        Answer::of_status(what, wire::call_once(channel, path, message.into()).await, &INVALID)
    });
    let watch = WatchCommandRequest { name: "districts/a/devices/b/commands/\r\n".to_owned() };
    let watch = wire::call_once(channel, WATCH_COMMAND, watch.encode_to_vec().into());
    let (mut answers, watched) = tokio::join!(join_all(once), watch);
    answers.push(Answer::of_status("a watch with control characters", watched, &INVALID));
    answers.extend(on_streams(channel).await);
    answers
}

/// Gateways that break the rules of their stream.
async fn on_streams(channel: &Channel) -> Vec<Answer> {
    let open = |stream: &str| {
        connect_request::Message::Open(OpenStream { stream: stream.to_owned(), ..OpenStream::default() })
    };
    let batch = |sequence, readings| {
        let readings = vec![kvarter_api::v1::Reading::default(); readings];
        connect_request::Message::Readings(ReadingBatch { sequence, readings })
    };
    let attach = |alias| {
        let devices = vec![Attachment { alias, device: "districts/a/devices/b".to_owned(), first: false }];
        connect_request::Message::Attach(AttachDevices { devices })
    };
    let streams: [(&'static str, Vec<connect_request::Message>); 7] = [
        ("a stream that begins without its opening", vec![batch(1, 1)]),
        ("a stream that is opened twice", vec![open(""), open("")]),
        ("a forged stream", vec![open("\u{0}forged")]),
        ("a batch without readings", vec![open(""), batch(1, 0)]),
        ("a batch above its size", vec![open(""), batch(1, BATCH_READINGS_OVER_MAX)]),
        ("a batch out of order", vec![open(""), batch(7, 1)]),
        ("an alias above its maximum", vec![open(""), attach(u32::MAX)]),
    ];
    join_all(streams.into_iter().map(|(what, messages)| async move {
        let frame = |message| Bytes::from(ConnectRequest { message: Some(message) }.encode_to_vec());
        let outcome = wire::call(channel, CONNECT, messages.into_iter().map(frame).collect()).await;
        Answer::of_status(what, outcome, &[Code::InvalidArgument, Code::Aborted])
    }))
    .await
}

/// Of a device that every drill registers.
const DEVICE: &str = "districts/drill-0/devices/hostile";

fn patch(attribute: &str, number: f64) -> Vec<u8> {
    let value = Some(Value { kind: Some(value::Kind::Number(number)) });
    let set = vec![DesiredValue { attribute: attribute.to_owned(), value }];
    PatchDesiredRequest { name: DEVICE.to_owned(), set, ..PatchDesiredRequest::default() }.encode_to_vec()
}

fn order(action: &str, setpoint: f64, timeout_s: i64) -> Vec<u8> {
    let value = Some(Value { kind: Some(value::Kind::Number(setpoint)) });
    let request = IssueCommandRequest {
        device: DEVICE.to_owned(),
        action: action.to_owned(),
        arguments: vec![Argument { name: "setpoint".to_owned(), value }],
        timeout: Some(prost_types::Duration { seconds: timeout_s, nanos: 0 }),
        ..IssueCommandRequest::default()
    };
    request.encode_to_vec()
}

/// The device that calls above are about.
pub(super) fn hostile_device() -> kvarter_api::v1::Device {
    kvarter_api::v1::Device {
        name: DEVICE.to_owned(),
        kind: "building".to_owned(),
        ..kvarter_api::v1::Device::default()
    }
}
