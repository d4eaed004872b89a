//! Who sends or subscribes, and reads nothing: a gateway that takes no acknowledgements, and a subscriber that is too slow.
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvarter_api::v1::{
    Device, FeedMessage, OpenStream, Position, Reading, ReadingBatch, SubscribeRequest, connect_request, reading,
};
use kvarter_simulator::{LoadPlan, register, wall_clock};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::{attach, failed, frame, precise, words};
use crate::check::Violation;
use crate::drill::DrillError;
use crate::drill::strike::wire::{self, CONNECT};
use crate::drill::strike::{Aftermath, Scene};

const SUBSCRIBE: &str = "/kvarter.v1.FeedService/Subscribe";
const DEVICE: &str = "districts/drill-0/devices/idler";
/// How long a gateway sends without reading; it must stand still long before.
const SENDING: Duration = Duration::from_secs(8);
/// A frame that is not taken for so long is not going to be.
const STUCK: Duration = Duration::from_secs(2);
const BATCH_READINGS: u32 = 4_096;
/// What one such stream may cost its node.
const GROWTH_BYTES_MAX: u64 = 256 << 20;
/// A subscriber that leaves messages for 10 s is disconnected.
const SLEEP: Duration = Duration::from_secs(25);
const READING_MAX: Duration = Duration::from_secs(30);

pub(super) async fn idle(scene: Scene<'_>, api: &[Channel]) -> Result<Aftermath, DrillError> {
    let mut aftermath = Aftermath::default();
    let (Some(first), Some(last)) = (api.first(), api.last()) else { return Ok(aftermath) };
    let (sent, slow) = tokio::join!(send_without_reading(scene, first), read_too_slowly(last));
    let (sent, growth_bytes) = sent?;
    aftermath.acts += sent + 1;
    aftermath.figures.insert("readings taken of an idle gateway", precise(sent));
    if growth_bytes > GROWTH_BYTES_MAX {
        aftermath.violations.add(Violation::MemoryUnbounded { node: 0, growth_bytes });
    }
    match slow? {
        Ok(cursors) => resume(scene, cursors, &mut aftermath).await?,
        Err(answer) => {
            let what = "a subscriber that does not read".to_owned();
            aftermath.violations.add(Violation::StreamAnsweredWrong { what, answer });
        }
    }
    Ok(aftermath)
}

/// Sends as fast as the node takes it; returns how many readings that were, and what the nodes needed more meanwhile.
async fn send_without_reading(scene: Scene<'_>, api: &Channel) -> Result<(u64, u64), DrillError> {
    let device = Device { name: DEVICE.to_owned(), kind: LoadPlan::KIND.to_owned(), ..Device::default() };
    register(scene.client, vec![device]).await?;
    let before = anonymous_bytes(scene)?;
    let (requests, frames) = mpsc::channel(2);
    let opening = connect_request::Message::Open(OpenStream::default());
    for message in [opening, attach(0, DEVICE.to_owned())] {
        requests.try_send(frame(message)).map_err(failed)?;
    }
    let _unread = wire::open(api, CONNECT, ReceiverStream::new(frames)).await.map_err(failed)?;
    let begin = Instant::now();
    let (mut sequence, mut sent) = (0, 0);
    while begin.elapsed() < SENDING {
        sequence += 1;
        let reserved = timeout(STUCK, requests.reserve()).await;
        let Ok(Ok(place)) = reserved else { break };
        place.send(full_batch(sequence));
        sent += u64::from(BATCH_READINGS);
    }
    let growth_bytes = anonymous_bytes(scene)?.saturating_sub(before);
    Ok((sent, growth_bytes))
}

fn full_batch(sequence: u64) -> Bytes {
    let now_us = wall_clock().as_microsecond();
    let reading = |number: u32| Reading {
        alias: 0,
        attribute: 1,
        observed_us: now_us + i64::from(number),
        value: Some(reading::Value::Number(1.0)),
    };
    let readings = (0..BATCH_READINGS).map(reading).collect();
    frame(connect_request::Message::Readings(ReadingBatch { sequence, readings }))
}

/// Of all nodes together.
fn anonymous_bytes(scene: Scene<'_>) -> Result<u64, DrillError> {
    Ok(scene.memory()?.into_iter().map(|(_, bytes)| bytes).sum())
}

/// Subscribes to everything, sleeps, then reads what is there. Returns where each shard goes on, or what was said in place of
/// "too slow".
async fn read_too_slowly(api: &Channel) -> Result<Result<Vec<Position>, String>, DrillError> {
    let request = SubscribeRequest { from_beginning: true, ..SubscribeRequest::default() };
    let opened = wire::open(api, SUBSCRIBE, tokio_stream::once(Bytes::from(request.encode_to_vec()))).await;
    let mut messages = opened.map_err(failed)?;
    sleep(SLEEP).await;
    let mut cursors = BTreeMap::new();
    let reading = async {
        loop {
            match messages.message().await {
                Ok(Some(message)) => {
                    let message = FeedMessage::decode(message).map_err(failed)?;
                    for position in message.beginnings.into_iter().chain(message.next) {
                        cursors.insert(position.shard, position);
                    }
                }
                Ok(None) => return Ok::<_, DrillError>(Ok(())),
                Err(status) => return Ok(Err(status)),
            }
        }
    };
    let told = match timeout(READING_MAX, reading).await {
        Ok(told) => told?,
        Err(_elapsed) => return Ok(Err(format!("messages for {READING_MAX:?} and no end"))),
    };
    if told.as_ref().is_err_and(|status| status.code() == Code::Aborted) {
        Ok(Ok(cursors.into_values().collect()))
    } else {
        Ok(Err(words(&told)))
    }
}

/// Goes on from the last cursors: the first fact of each shard must be behind its cursor, and nothing may be gone.
async fn resume(scene: Scene<'_>, cursors: Vec<Position>, aftermath: &mut Aftermath) -> Result<(), DrillError> {
    let mut open: BTreeMap<u32, Position> = cursors.iter().map(|cursor| (cursor.shard, *cursor)).collect();
    let mut subscription = scene.client.subscribe(SubscribeRequest { cursors, ..SubscribeRequest::default() }).await?;
    let wrong = |answer: String| {
        let what = "resuming a subscription that was too slow".to_owned();
        Violation::StreamAnsweredWrong { what, answer }
    };
    let give_up = Instant::now() + READING_MAX;
    while !open.is_empty() {
        let Ok(message) = tokio::time::timeout_at(give_up, subscription.next()).await else {
            aftermath.violations.add(wrong(format!("no facts of shards {:?}", open.keys())));
            return Ok(());
        };
        let message = message?;
        if let Some(gap) = message.gap {
            aftermath.violations.add(wrong(format!("a gap: {gap:?}")));
        }
        let (Some(first), Some(cursor)) =
            (message.facts.first().and_then(|fact| fact.position), open.get(&message.shard))
        else {
            continue;
        };
        if (first.index, first.ordinal) <= (cursor.index, cursor.ordinal) {
            aftermath.violations.add(wrong(format!("{first:?} again, behind {cursor:?}")));
        }
        open.remove(&message.shard);
    }
    Ok(())
}
