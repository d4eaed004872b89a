//! Reads the feed back and holds it against what was sent.
use std::collections::{BTreeMap, BTreeSet};

use kvarter_api::Client;
use kvarter_api::v1::{Fact, Position, SubscribeRequest, fact};
use tokio::time::timeout;

use crate::fleet::PATIENCE;
use crate::sensors::Observation;

/// Where the feed of every shard ends now.
pub(crate) async fn cursors(client: &Client) -> Vec<Position> {
    client.subscribe(SubscribeRequest::default()).await.expect("a subscription").cursors()
}

/// Reads from `cursors` until every one of `expected` was there, and demands each once, in the order of positions, without a
/// gap and with nothing else reported.
pub(crate) async fn check(client: &Client, cursors: &[Position], expected: &BTreeSet<Observation>) {
    let request = SubscribeRequest { cursors: cursors.to_vec(), ..SubscribeRequest::default() };
    let mut feed = client.subscribe(request).await.expect("a subscription");
    let mut last: BTreeMap<u32, (u64, u32)> =
        cursors.iter().map(|cursor| (cursor.shard, (cursor.index, cursor.ordinal))).collect();
    let mut seen = BTreeSet::new();
    while seen.len() < expected.len() {
        let message = timeout(PATIENCE, feed.next()).await;
        let missing = || expected.difference(&seen).take(3).collect::<Vec<_>>();
        let message = message.unwrap_or_else(|_| panic!("the feed lacks {:?}, …", missing())).expect("a message");
        assert_eq!(message.gap, None, "shard {}", message.shard);
        for fact in &message.facts {
            let position = fact.position.expect("a fact has a position");
            let place = (position.index, position.ordinal);
            let before = last.insert(position.shard, place).expect("a shard of the cursors");
            // One fact of a stream may tell of many devices, all of them at its position.
            assert!(before <= place, "{before:?} before {place:?}");
            if let Some(observation) = observation(fact) {
                assert!(before < place, "two observations at {place:?}");
                assert!(expected.contains(&observation), "{observation:?} was not sent");
                assert!(seen.insert(observation.clone()), "{observation:?} is there twice");
            }
        }
    }
}

fn observation(fact: &Fact) -> Option<Observation> {
    let Some(fact::Fact::AttributeReported(reported)) = &fact.fact else { return None };
    let time = reported.observe_time.expect("an observation has a time");
    Some((fact.device.clone(), time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000))
}
