//! Twins that are found by what they report and where they stand, and commands that are called back.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvarter_api::v1::issue_commands_progress::State;
use kvarter_api::v1::twin_filter::Area;
use kvarter_api::v1::{
    Argument, Attachment, AttributeCondition, Circle, CommandAcknowledgement, CommandOutcome, CommandState, Comparison,
    Device, IssueCommandRequest, IssueCommandsRequest, ListTwinsRequest, Point, Reading, Twin, TwinFilter, Value,
    reading, value,
};
use kvarter_api::{
    ApiError, Client, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, TwinSelection,
};
use kvarter_cluster::Ports;
use tokio::time::timeout;

use crate::fleet::{Fleet, PATIENCE};

const LAMPS: u32 = 30;
const KIND: &str = "luminaire";
const LEVEL: &str = "dimmingLevel";
/// About 111 m of latitude.
const STEP: f64 = 0.001;

fn lamp(number: u32) -> DeviceName {
    DeviceName::new(&format!("district-{}", number % 5), &format!("lamp-{number:02}")).unwrap()
}

fn place(number: u32) -> Option<Point> {
    Some(Point { latitude: 56.0 + f64::from(number) * STEP, longitude: 10.0 })
}

/// Lamps in a row from south to north; lamp `n` reports the level `n`.
async fn lamps(client: &Client) -> (GatewayStream, GatewayEvents) {
    let device = |number: u32| Device {
        name: lamp(number).to_string(),
        kind: KIND.to_owned(),
        location: place(number),
        ..Device::default()
    };
    client.register((0..LAMPS).map(device).collect()).await.expect("registered");
    let kind = client.kind(KIND).await.expect("a built-in kind");
    let attribute = kind.attributes.iter().find(|attribute| attribute.name == LEVEL).unwrap().number;
    let (stream, events) = GatewayStream::open(client, GatewayOptions::default()).await.expect("a stream");
    let attachments = (0..LAMPS).map(|alias| Attachment { alias, device: lamp(alias).to_string(), first: false });
    stream.attach(attachments.collect()).await.expect("attached");
    let observed_us = Ports::system().clock.now().0;
    let reading = |alias: u32| {
        let value = Some(reading::Value::Number(f64::from(alias)));
        Reading { alias, attribute, observed_us, value }
    };
    stream.send((0..LAMPS).map(reading).collect()).await.expect("a stream");
    timeout(PATIENCE, stream.drained()).await.expect("acknowledged").expect("a stream");
    (stream, events)
}

fn brighter_than(level: i64) -> TwinFilter {
    let value = Some(Value { kind: Some(value::Kind::Integer(level)) });
    let comparison = Comparison::Greater.into();
    TwinFilter { r#where: vec![AttributeCondition { attribute: LEVEL.to_owned(), comparison, value }], area: None }
}

fn names(twins: &[Twin]) -> Vec<String> {
    let mut names: Vec<_> = twins.iter().map(|twin| twin.device.clone().unwrap_or_default().name).collect();
    names.sort();
    names
}

fn lamp_names(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut names: Vec<_> = numbers.into_iter().map(|number| lamp(number).to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_are_found_by_what_they_report_and_where_they_stand() {
    let fleet = Fleet::start().await;
    let client = fleet.client();
    let _lamps = lamps(client).await;
    let find = async |filter: TwinFilter| {
        let selection = TwinSelection { filter, ..TwinSelection::default() };
        names(&client.twins(selection).collect().await.expect("a list"))
    };
    assert_eq!(find(brighter_than(24)).await, lamp_names(25..LAMPS));
    let near = Area::Circle(Circle { center: place(10), radius_m: 250.0 });
    assert_eq!(find(TwinFilter { area: Some(near), ..TwinFilter::default() }).await, lamp_names(8..=12));
    assert_eq!(find(TwinFilter { area: Some(near), ..brighter_than(10) }).await, lamp_names([11, 12]));

    // Page by page on any node, and a token is good for its own list alone.
    let request = ListTwinsRequest {
        parent: "districts/-".to_owned(),
        page_size: 4,
        kind: KIND.to_owned(),
        filter: Some(brighter_than(14)),
        ..ListTwinsRequest::default()
    };
    let (mut twins, mut token) = (Vec::new(), String::new());
    for node in [1, 2, 3, 1, 2, 3] {
        let next = ListTwinsRequest { page_token: token.clone(), ..request.clone() };
        let page = fleet.only(node).twin_page(next).await.expect("a page");
        twins.extend(page.twins);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = ListTwinsRequest { page_token: token.clone(), filter: None, ..request.clone() };
        let refused = client.twin_page(other).await.expect_err("a token of another list");
        assert!(matches!(&refused, ApiError::Rejected { violations, .. } if violations[0].field == "page_token"));
    }
    assert_eq!(names(&twins), lamp_names(15..LAMPS));

    let asked: Vec<_> = [7, 3].map(lamp).into_iter().chain([DeviceName::new("nowhere", "lamp").unwrap()]).collect();
    let found = client.twins_named(&asked, Duration::ZERO).await.expect("twins");
    assert_eq!(
        found.iter().map(|twin| twin.device.clone().unwrap().name).collect::<Vec<_>>(),
        [lamp(7).to_string(), lamp(3).to_string()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_has_taken_is_called_back() {
    let fleet = Fleet::start().await;
    let client = fleet.client();
    let device = Device { name: lamp(0).to_string(), kind: KIND.to_owned(), ..Device::default() };
    client.register(vec![device]).await.expect("registered");
    // No gateway speaks for the lamp.
    let level = Value { kind: Some(value::Kind::Number(40.0)) };
    let request = IssueCommandRequest {
        device: lamp(0).to_string(),
        action: "set_level".to_owned(),
        arguments: vec![Argument { name: "level".to_owned(), value: Some(level) }],
        ..IssueCommandRequest::default()
    };
    let issued = client.issue_command(request).await.expect("issued");
    let name = issued.name.parse().unwrap();
    let mut watch = client.watch_command(&name);
    assert_eq!(watch.next().await.expect("a watch").map(|command| command.state()), Some(CommandState::Accepted));
    fleet.command(&["command", "cancel", &issued.name]).await;
    let seen = timeout(PATIENCE, watch.next()).await.expect("a change").expect("a watch");
    assert_eq!(seen.map(|command| command.state()), Some(CommandState::Cancelled));
    assert_eq!(watch.next().await.expect("a watch"), None);
    let again = client.cancel_command(&name).await.expect("harmless");
    assert_eq!(again.state(), CommandState::Cancelled);
}

/// Ids of the orders that each lamp was sent.
type Sent = Arc<Mutex<BTreeMap<u32, BTreeSet<String>>>>;

/// Obeys every command, but that to lamps to go out.
async fn obey(stream: GatewayStream, mut events: GatewayEvents, sent: Sent) {
    while let Some(event) = events.next().await {
        let GatewayEvent::Command(command) = event else { continue };
        // The lighting service steers the lamps, too.
        if !command.id.starts_with("lighting-") {
            sent.lock().unwrap().entry(command.alias).or_default().insert(command.id.clone());
        }
        let goes_out = command.arguments.iter().any(|one| one.value.as_ref().is_some_and(is_zero));
        let outcome = if goes_out { CommandOutcome::Failed } else { CommandOutcome::Succeeded };
        let (alias, id, outcome) = (command.alias, command.id, outcome.into());
        let acknowledgement = CommandAcknowledgement { alias, id, outcome, detail: String::new() };
        stream.acknowledge(acknowledgement).await.expect("taken");
    }
}

fn is_zero(value: &Value) -> bool {
    matches!(value.kind, Some(value::Kind::Number(number)) if number == 0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_to_all_that_match_in_waves_and_to_none_twice() {
    let fleet = Fleet::start().await;
    let client = fleet.client();
    let (stream, events) = lamps(client).await;
    let sent = Sent::default();
    let mut lamps = tokio::task::JoinSet::new();
    lamps.spawn(obey(stream, events, Arc::clone(&sent)));
    let order = |id: &str, level: f64| {
        let level = Value { kind: Some(value::Kind::Number(level)) };
        IssueCommandsRequest {
            parent: "districts/-".to_owned(),
            kind: KIND.to_owned(),
            filter: Some(brighter_than(9)),
            action: "set_level".to_owned(),
            arguments: vec![Argument { name: "level".to_owned(), value: Some(level) }],
            request_id: id.to_owned(),
            wave_size: 6,
            ..IssueCommandsRequest::default()
        }
    };
    let all_of = async |request: IssueCommandsRequest| {
        let (mut waves, mut told) = (client.issue_commands(request), Vec::new());
        while let Some(wave) = timeout(PATIENCE, waves.next()).await.expect("a wave").expect("an order") {
            told.push(wave);
        }
        told
    };

    let told = all_of(IssueCommandsRequest { dry_run: true, ..order("dry", 40.0) }).await;
    let last = told.last().unwrap();
    assert_eq!((last.wave, last.state(), last.totals.unwrap().devices), (4, State::Completed, 20));
    assert_eq!(*sent.lock().unwrap(), BTreeMap::new(), "a dry run sends nothing");

    // Broken off in the middle, and repeated.
    let mut broken = client.issue_commands(order("dim", 40.0));
    timeout(PATIENCE, broken.next()).await.expect("a wave").expect("an order");
    drop(broken);
    let told = all_of(order("dim", 40.0)).await;
    let last = told.last().unwrap();
    let totals = last.totals.unwrap();
    assert_eq!((last.state(), totals.devices, totals.succeeded), (State::Completed, 20, 20));
    let devices: BTreeSet<_> = told.iter().flat_map(|wave| &wave.commands).map(|one| one.device.clone()).collect();
    assert_eq!(devices.into_iter().collect::<Vec<_>>(), lamp_names(10..LAMPS));
    let ids = sent.lock().unwrap().clone();
    assert_eq!(ids.keys().copied().collect::<Vec<_>>(), (10..LAMPS).collect::<Vec<_>>());
    assert!(ids.values().all(|ids| ids.len() == 1), "a lamp was sent the order twice: {ids:?}");

    let told = all_of(IssueCommandsRequest { failures_max: 5, ..order("out", 0.0) }).await;
    let last = told.last().unwrap();
    assert_eq!((told.len(), last.state(), last.totals.unwrap().failed), (1, State::Halted, 6));
    let refused =
        all_of_refused(client, IssueCommandsRequest { action: "explode".to_owned(), ..order("x", 1.0) }).await;
    assert!(
        matches!(&refused, ApiError::Rejected { violations, .. } if violations[0].field == "action"),
        "{refused:?}"
    );
}

async fn all_of_refused(client: &Client, request: IssueCommandsRequest) -> ApiError {
    client.issue_commands(request).next().await.expect_err("an order that can not be")
}
