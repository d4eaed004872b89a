//! A node whose peers are gone, and what is told to those who wait there.
use std::time::Duration;

use kvarter_api::v1::{
    Argument, Attachment, Device, ErrorReason, IssueCommandRequest, IssueCommandsRequest, SubscribeRequest, Value,
    value,
};
use kvarter_api::{
    ApiError, Client, ClientConfig, CommandName, CommandWatch, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions,
    GatewayStream, Subscription,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::fleet::{Fleet, NODES, PATIENCE};

const KIND: &str = "luminaire";
const ACTION: &str = "set_level";
/// Far longer than anybody waits here.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3_600);

fn arguments() -> Vec<Argument> {
    vec![Argument { name: "level".to_owned(), value: Some(Value { kind: Some(value::Kind::Integer(40)) }) }]
}

async fn end_of_feed(mut feed: Subscription) -> ApiError {
    loop {
        if let Err(error) = feed.next().await {
            return error;
        }
    }
}

/// Why a stream first lost its connection.
async fn loss_of_stream(mut events: GatewayEvents) -> ApiError {
    loop {
        match events.next().await.expect("a stream does not end without a word") {
            GatewayEvent::Disconnected(error) | GatewayEvent::Failed(error) => return error,
            _of_its_devices => {}
        }
    }
}

async fn end_of_watch(mut watch: CommandWatch) -> ApiError {
    loop {
        if let Err(error) = watch.next().await {
            return error;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_at_a_node_that_is_cut_off_hears_of_it() {
    let mut fleet = Fleet::start().await;
    let lamp = DeviceName::new("district-1", "lamp-1").unwrap();
    let device = Device { name: lamp.to_string(), kind: KIND.to_owned(), ..Device::default() };
    fleet.client().register(vec![device]).await.expect("registered");
    // It does not come back for long, so that it tells why it was sent away.
    let config = fleet.only(NODES[0]).config().clone();
    let client = Client::connect(ClientConfig { resume_deadline: Duration::from_secs(1), ..config }).await.unwrap();

    let order = IssueCommandRequest {
        device: lamp.to_string(),
        action: ACTION.to_owned(),
        arguments: arguments(),
        timeout: Some(COMMAND_TIMEOUT.try_into().unwrap()),
        ..IssueCommandRequest::default()
    };
    let command = client.issue_command(order).await.expect("issued");
    let mut watch = client.watch_command(&command.name.parse::<CommandName>().unwrap());
    let first = watch.next().await.expect("a command").expect("it has not ended");
    assert_eq!(first.name, command.name);
    let feed = client.subscribe(SubscribeRequest::default()).await.expect("a subscription");
    let (stream, events) = GatewayStream::open(&client, GatewayOptions::default()).await.expect("a stream");
    let sensor = Attachment { device: lamp.to_string(), ..Attachment::default() };
    assert_eq!(stream.attach(vec![sensor]).await.expect("an answer")[0].error, "");
    let mut waves = client.issue_commands(IssueCommandsRequest {
        parent: "districts/-".to_owned(),
        kind: KIND.to_owned(),
        action: ACTION.to_owned(),
        arguments: arguments(),
        timeout: Some(COMMAND_TIMEOUT.try_into().unwrap()),
        ..IssueCommandsRequest::default()
    });
    let mut ordering = JoinSet::new();
    ordering.spawn(async move { waves.next().await });
    let is_ordered = async || {
        let twin = fleet.client().twin(&lamp, Duration::ZERO).await.ok()?.twin?;
        (twin.open_commands.len() == 2).then_some(())
    };
    fleet.eventually("the first wave is issued", is_ordered).await;

    fleet.kill(NODES[1]).await;
    fleet.kill(NODES[2]).await;
    let all =
        async { tokio::join!(end_of_feed(feed), loss_of_stream(events), end_of_watch(watch), ordering.join_next()) };
    let (feed, lost, watch, waves) = timeout(PATIENCE, all).await.expect("all hear of it");
    assert_eq!(feed.reason(), Some(ErrorReason::NoReplica));
    assert_eq!(lost.reason(), Some(ErrorReason::NoReplica));
    // It came back to the same node, where nobody could tell what the command is by now.
    assert!(!matches!(watch, ApiError::Rejected { .. }), "{watch:?}");
    let waves = waves.unwrap().unwrap().expect_err("the order is broken off");
    assert!(matches!(waves, ApiError::Unknown { .. }), "{waves:?}");
}
