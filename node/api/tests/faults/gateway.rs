//! Gateway streams over connections that are lost.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use kvarter_api::v1::{Attachment, CommandAcknowledgement, CommandOutcome, ErrorReason, Reading, reading};
use kvarter_api::{
    ApiError, Client, ClientConfig, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, SendError,
};

use crate::gateway_node::{BATCH_READINGS_MAX, Fate, Gateway};
use crate::node::Nodes;

const PATIENCE: Duration = Duration::from_secs(30);

fn attachments(count: u32) -> Vec<Attachment> {
    (0..count)
        .map(|alias| Attachment { alias, device: format!("districts/d/devices/x{alias}"), first: false })
        .collect()
}

fn readings(count: u32) -> Vec<Reading> {
    let value = Some(reading::Value::Number(1.5));
    (0..count).map(|alias| Reading { alias, attribute: 1, observed_us: 1, value: value.clone() }).collect()
}

async fn open(nodes: &Nodes) -> (GatewayStream, GatewayEvents) {
    let client = nodes.client().await;
    GatewayStream::open(&client, GatewayOptions::default()).await.expect("a node opens it")
}

/// Reads all events until the stream ends; every reading may be acknowledged once.
async fn read_all(mut events: GatewayEvents) -> (BTreeSet<(u64, u32)>, Vec<GatewayEvent>) {
    let (mut acknowledged, mut others) = (BTreeSet::new(), Vec::new());
    while let Some(event) = events.next().await {
        match event {
            GatewayEvent::Acknowledged(news) => {
                for reading in news.readings {
                    assert!(acknowledged.insert((news.sequence.0, reading.index)), "a reading was acknowledged twice");
                }
            }
            other => others.push(other),
        }
    }
    (acknowledged, others)
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_counted_once_however_often_the_connection_is_lost() {
    let fates = (0..40).map(|number| Fate::LostAfter(1 + number % 13)).collect();
    let (gateway, nodes) = Gateway::start(fates, 400).await;
    let (stream, events) = open(&nodes).await;
    let batches = 60;
    let sending = async {
        stream.attach(attachments(BATCH_READINGS_MAX)).await.expect("the stream lives");
        for _ in 0..batches {
            stream.send(readings(BATCH_READINGS_MAX)).await.expect("the stream lives");
        }
        stream.close(PATIENCE).await
    };
    let (totals, (acknowledged, others)) = tokio::join!(sending, read_all(events));
    let sent = u64::from(batches * BATCH_READINGS_MAX);
    assert_eq!((totals.sent, totals.acknowledged, totals.stored), (sent, sent, sent));
    assert_eq!(acknowledged.len() as u64, sent);
    let stored: u64 = gateway.shards().totals.values().map(|totals| totals.stored).sum();
    assert_eq!(stored, sent);
    let resumed = others.iter().filter(|event| matches!(event, GatewayEvent::Resumed { .. })).count();
    assert!(resumed > 10, "the connection was lost {resumed} times only");
    gateway.check();
}

/// A stream whose first connection has this fate moves once, and loses nothing by it.
async fn moves_once(fate: Fate) {
    let (gateway, nodes) = Gateway::start(vec![fate], 400).await;
    let (stream, events) = open(&nodes).await;
    let sending = async {
        stream.attach(attachments(8)).await.expect("the stream lives");
        for _ in 0..20 {
            stream.send(readings(8)).await.expect("the stream lives");
        }
        stream.close(PATIENCE).await
    };
    let (totals, (_, others)) = tokio::join!(sending, read_all(events));
    assert_eq!((totals.sent, totals.stored), (160, 160));
    assert_eq!(gateway.shards().connections, 2);
    assert!(matches!(others[..], [GatewayEvent::Moving, GatewayEvent::Resumed { .. }]), "{others:?}");
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_when_its_node_drains() {
    moves_once(Fate::MovedAfter(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_to_a_node_that_leads_and_can_be_reached() {
    moves_once(Fate::LedElsewhereAfter(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_acknowledges_nothing_is_left() {
    let (gateway, nodes) = Gateway::start(vec![Fate::SilentAfter(4)], 400).await;
    let config = ClientConfig { silence_max: Duration::from_millis(200), ..nodes.config() };
    let client = Client::connect(config).await.expect("a node is up");
    let (stream, events) = GatewayStream::open(&client, GatewayOptions::default()).await.expect("a node opens it");
    stream.attach(attachments(8)).await.expect("the stream lives");
    stream.send(readings(8)).await.expect("the stream lives");
    let (totals, (_, others)) = tokio::join!(stream.close(PATIENCE), read_all(events));
    assert_eq!((totals.sent, totals.stored), (8, 8));
    assert_eq!(gateway.shards().connections, 2);
    assert!(matches!(others[0], GatewayEvent::Disconnected(ApiError::Unknown { .. })), "{others:?}");
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_forgotten_ends_and_says_why() {
    let (gateway, nodes) = Gateway::start(vec![Fate::LostAfter(3), Fate::Expired], 400).await;
    let (stream, events) = open(&nodes).await;
    stream.attach(attachments(8)).await.expect("the stream lives");
    stream.send(readings(8)).await.expect("the stream lives");
    let (_, others) = read_all(events).await;
    let Some(GatewayEvent::Failed(ApiError::Rejected { reason, .. })) = others.last() else { panic!("{others:?}") };
    assert_eq!(*reason, Some(ErrorReason::StreamExpired));
    assert_eq!(stream.send(readings(8)).await, Err(SendError::Ended));
    let totals = stream.close(PATIENCE).await;
    assert!(totals.acknowledged < totals.sent);
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_breaks_the_protocol_ends_the_stream() {
    let (gateway, nodes) = Gateway::start(vec![Fate::Broken], 400).await;
    let (stream, events) = open(&nodes).await;
    assert_eq!(stream.attach(attachments(8)).await, Err(SendError::Ended));
    let (_, others) = read_all(events).await;
    let [GatewayEvent::Failed(error)] = &others[..] else { panic!("{others:?}") };
    assert_eq!(error.reason(), Some(ErrorReason::BrokenContract));
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_makes_send_wait() {
    let (gateway, nodes) = Gateway::start(Vec::new(), 200).await;
    let (stream, _events) = open(&nodes).await;
    stream.attach(attachments(100)).await.expect("the stream lives");
    gateway.decide(false);
    for _ in 0..2 {
        stream.send(readings(100)).await.expect("the stream lives");
    }
    let mut third = pin!(stream.send(readings(1)));
    assert!(third.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    gateway.decide(true);
    third.await.expect("the stream lives");
    assert_eq!(stream.drained().await.expect("the stream lives").stored, 201);
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_devices_said_is_said_again_after_a_loss() {
    let (gateway, nodes) = Gateway::start(vec![Fate::LostAfter(2)], 400).await;
    let (stream, events) = open(&nodes).await;
    stream.attach(attachments(8)).await.expect("the stream lives");
    let said = CommandAcknowledgement {
        alias: 3,
        id: "c-1".to_owned(),
        outcome: CommandOutcome::Succeeded.into(),
        detail: String::new(),
    };
    stream.acknowledge(said.clone()).await.expect("the stream lives");
    stream.send(readings(8)).await.expect("the stream lives");
    drop(events);
    stream.drained().await.expect("the stream lives");
    let heard = gateway.shards().acknowledgements.clone();
    assert!(heard.len() == 2 && heard.iter().all(|heard| *heard == said), "{heard:?}");
    gateway.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_sent_is_refused_at_once() {
    let (gateway, nodes) = Gateway::start(Vec::new(), 400).await;
    let (stream, _events) = open(&nodes).await;
    stream.attach(attachments(2)).await.expect("the stream lives");
    assert_eq!(stream.send(Vec::new()).await, Err(SendError::NoReadings));
    let too_many = SendError::TooManyReadings { readings: 101, readings_max: BATCH_READINGS_MAX };
    assert_eq!(stream.send(readings(101)).await, Err(too_many));
    assert_eq!(stream.send(readings(3)).await, Err(SendError::UnknownAlias { alias: 2 }));
    assert_eq!(stream.attach(attachments(1)).await, Err(SendError::AliasInUse { alias: 0 }));
    gateway.check();
}
