//! What a client or a peer asks of a shard: it is decided or refused, and its facts apply.
//!
//! An input is several requests, each behind its length (protobuf's delimited form), decided one after the other on a shard
//! with a few devices.
#![no_main]

use kvarter_actors::message::{self, shard_request::Request};
use kvarter_actors::{Catalog, Decider, Limits, ShardState};
use kvarter_cluster::{LogIndex, StateMachine, Timestamp};
use prost::Message;
use std::sync::LazyLock;

static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::built_in);
/// 2026-01-01 UTC, microseconds.
const NOW_US: i64 = 1_767_225_600_000_000;

fn ask(state: &mut ShardState, index: LogIndex, request: &message::ShardRequest) {
    let limits = Limits::default();
    let mut decider = Decider::new(state, &CATALOG, &limits, Timestamp(NOW_US));
    let _decision = decider.decide(request);
    let payload = decider.finish().encode_to_vec().into();
    let facts = ShardState::decode(&payload).expect("what was decided decodes");
    state.apply(index, &facts);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut state = ShardState::default();
    let device = |name: &str, kind: &str| message::DeviceRegistration {
        name: name.to_owned(),
        kind: kind.to_owned(),
        ..Default::default()
    };
    let devices = vec![device("a/lamp-0", "luminaire"), device("a/flow", "traffic_flow_sensor")];
    let register = Request::RegisterDevices(message::RegisterDevices { devices });
    ask(&mut state, LogIndex(1), &message::ShardRequest { request: Some(register), ..Default::default() });
    let mut rest = bytes;
    for index in 2..66 {
        let Ok(request) = message::ShardRequest::decode_length_delimited(&mut rest) else { return };
        ask(&mut state, LogIndex(index), &request);
    }
});
