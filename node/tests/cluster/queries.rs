//! Twins that are found by what they report and where they stand, and commands that are called back.
use std::time::Duration;

use kvarter_api::v1::twin_filter::Area;
use kvarter_api::v1::{
    Argument, Attachment, AttributeCondition, Circle, CommandState, Comparison, Device, IssueCommandRequest,
    ListTwinsRequest, Point, Reading, Twin, TwinFilter, Value, reading, value,
};
use kvarter_api::{ApiError, Client, DeviceName, GatewayOptions, GatewayStream, TwinSelection};
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
async fn lamps(client: &Client) -> GatewayStream {
    let device = |number: u32| Device {
        name: lamp(number).to_string(),
        kind: KIND.to_owned(),
        location: place(number),
        ..Device::default()
    };
    client.register((0..LAMPS).map(device).collect()).await.expect("registered");
    let kind = client.kind(KIND).await.expect("a built-in kind");
    let attribute = kind.attributes.iter().find(|attribute| attribute.name == LEVEL).unwrap().number;
    let (stream, _) = GatewayStream::open(client, GatewayOptions::default()).await.expect("a stream");
    let attachments = (0..LAMPS).map(|alias| Attachment { alias, device: lamp(alias).to_string() });
    stream.attach(attachments.collect()).await.expect("attached");
    let observed_us = Ports::system().clock.now().0;
    let reading = |alias: u32| {
        let value = Some(reading::Value::Number(f64::from(alias)));
        Reading { alias, attribute, observed_us, value }
    };
    stream.send((0..LAMPS).map(reading).collect()).await.expect("a stream");
    timeout(PATIENCE, stream.drained()).await.expect("acknowledged").expect("a stream");
    stream
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
    let _stream = lamps(client).await;
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
