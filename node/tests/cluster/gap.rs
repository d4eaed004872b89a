//! A feed whose beginning is gone from every node.
use kvarter_api::v1::{
    DesiredValue, Device, Fact, FeedMessage, PatchDesiredRequest, SubscribeRequest, Value, fact, value,
};
use kvarter_api::{Client, DeviceName};
use tokio::time::timeout;

use crate::feed::cursors;
use crate::fleet::{Fleet, PATIENCE, SHARDS};

const ATTRIBUTE: &str = "temperatureSetpoint";
/// The least that can be set for a node; its shards share it with the meta group.
const KEPT: u32 = 10_000;
/// More than a shard keeps, each in an entry of its own.
const WRITES: u32 = KEPT / (SHARDS + 1) * 3 / 2;

fn setpoint(number: u32) -> f64 {
    10.0 + f64::from(number) / 1_000.0
}

async fn order(client: &Client, device: &DeviceName, number: u32) {
    let value = Value { kind: Some(value::Kind::Number(setpoint(number))) };
    let set = vec![DesiredValue { attribute: ATTRIBUTE.to_owned(), value: Some(value) }];
    let request = PatchDesiredRequest { name: device.to_string(), set, ..Default::default() };
    client.patch_desired(request).await.expect("it is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_below_what_all_nodes_keep_is_told_the_gap_and_goes_on_behind_it() {
    let fleet = Fleet::start_keeping(KEPT).await;
    let client = fleet.client();
    let device = DeviceName::new("harbour", "hall").unwrap();
    let hall = Device { name: device.to_string(), kind: "building".to_owned(), ..Device::default() };
    client.register(vec![hall]).await.expect("registered");
    let begin = cursors(client).await;
    for number in 1..=WRITES {
        order(client, &device, number).await;
    }

    let (mut feed, told) = fleet
        .eventually("the beginning is gone", async || {
            let request = SubscribeRequest { cursors: begin.clone(), ..SubscribeRequest::default() };
            let mut feed = client.subscribe(request).await.ok()?;
            loop {
                let message: FeedMessage = timeout(PATIENCE, feed.next()).await.ok()?.ok()?;
                if let Some(gap) = message.gap {
                    return Some((feed, gap));
                } else if !message.facts.is_empty() {
                    return None;
                }
            }
        })
        .await;
    let (from, to) = (told.from.expect("a gap begins"), told.to.expect("a gap ends"));
    let cursor = begin.iter().find(|cursor| cursor.shard == from.shard).expect("a shard of the cursors");
    assert_eq!((from.index, from.ordinal), (cursor.index, cursor.ordinal));
    assert!(to.index > from.index, "{told:?}");

    let twin = client.twin(&device, std::time::Duration::ZERO).await.expect("what was in the gap is in the twin");
    assert_eq!(
        twin.twin.expect("a twin").desired[0].value.as_ref().unwrap().kind,
        Some(value::Kind::Number(setpoint(WRITES)))
    );
    // Nothing is missing from the gap's end to the feed's.
    let mut seen = Vec::new();
    while seen.last() != Some(&setpoint(WRITES)) {
        let message = timeout(PATIENCE, feed.next()).await.expect("facts in time").expect("a message");
        assert_eq!(message.gap, None);
        assert!(
            message
                .facts
                .iter()
                .filter_map(|fact| fact.position)
                .all(|at| at.shard != from.shard || at.index >= to.index)
        );
        seen.extend(message.facts.iter().filter_map(ordered));
    }
    let first = WRITES + 1 - u32::try_from(seen.len()).unwrap();
    assert!(first > 1);
    assert_eq!(seen, (first..=WRITES).map(setpoint).collect::<Vec<_>>());
}

/// The set point that a fact tells of.
fn ordered(fact: &Fact) -> Option<f64> {
    let Some(fact::Fact::DesiredChanged(changed)) = &fact.fact else { return None };
    match changed.set.first()?.value.as_ref()?.kind {
        Some(value::Kind::Number(number)) => Some(number),
        _ => None,
    }
}
