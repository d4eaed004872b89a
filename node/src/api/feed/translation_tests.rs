//! What subscribers see of entries, and where they resume.

use std::sync::Arc;

use kvarter_actors::message::{self, fact::Fact as Logged};
use kvarter_actors::{AttributeNumber, Catalog, DeviceNumber, FeedEntry, ReadingMark, ValueRef};
use kvarter_api::v1::{self, FeedMessage, fact};
use kvarter_api::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use kvarter_cluster::{LogIndex, ShardId};
use proptest::prelude::*;
use prost::Message as _;

use super::cursor::Cursor;
use super::filter::Filter;
use super::identities::Identities;
use super::translation::{Lookup, Translation, devices_of};

const SHARD: ShardId = ShardId(3);

fn entry(index: u64, facts: Vec<Logged>) -> FeedEntry {
    let facts = facts.into_iter().map(|fact| message::Fact { fact: Some(fact) }).collect();
    FeedEntry {
        index: LogIndex(index),
        facts: Arc::new(message::Facts { facts, time_us: 1_000_000, ..Default::default() }),
    }
}

fn registered(device: u32, kind: &str) -> Logged {
    let name = format!("c/x{device}");
    Logged::DeviceRegistered(message::DeviceRegistered { device, name, kind: kind.to_owned(), ..Default::default() })
}

fn reported(devices: impl IntoIterator<Item = u32>) -> Logged {
    let mut readings = message::Readings::default();
    for device in devices {
        readings.push(DeviceNumber(device), AttributeNumber(1), 5, ValueRef::Number(1.5));
    }
    let mark = vec![ReadingMark::new(true, false).0; readings.len()];
    Logged::ReadingsReported(message::ReadingsReported { readings: Some(readings), mark })
}

fn leadership() -> Logged {
    Logged::LeadershipBegan(message::LeadershipBegan { node: 1 })
}

fn translate(entries: &[FeedEntry], cursor: Cursor, filter: &Filter) -> (Vec<FeedMessage>, Cursor) {
    let catalog = Catalog::built_in();
    let mut identities = Identities::default();
    for device in 0..4 {
        identities.learn(device, &format!("c/x{device}"), "luminaire", &catalog, filter);
    }
    let stream_devices = |_: &[u8]| vec![1, 2];
    let lookup = Lookup { shard: SHARD, filter, catalog: &catalog, stream_devices: &stream_devices };
    let mut translation = Translation::new(lookup, &mut identities, cursor);
    entries.iter().for_each(|entry| translation.add(entry));
    translation.finish()
}

fn facts(messages: &[FeedMessage]) -> Vec<&v1::Fact> {
    messages.iter().flat_map(|message| &message.facts).collect()
}

fn places(messages: &[FeedMessage]) -> Vec<(u64, u32)> {
    let place = |fact: &&v1::Fact| fact.position.map(|at| (at.index, at.ordinal)).expect("a position");
    facts(messages).iter().map(place).collect()
}

#[test]
fn every_reading_has_its_ordinal_and_bookkeeping_is_not_shown() {
    let accepted = Logged::ReadingsAccepted(message::ReadingsAccepted::default());
    let entries = [entry(7, vec![leadership(), reported([0, 1]), accepted, registered(2, "luminaire")])];
    let (messages, cursor) = translate(&entries, Cursor::default(), &Filter::default());
    assert_eq!(places(&messages), [(7, 1), (7, 2), (7, 4)]);
    assert_eq!(cursor, Cursor::behind(LogIndex(7)));
    assert_eq!(messages.last().and_then(|message| message.next), Some(cursor.to_public(SHARD)));
    let Some(fact::Fact::AttributeReported(first)) = &facts(&messages)[0].fact else { unreachable!("a reading") };
    let kind = Catalog::built_in().kind("luminaire").expect("a built-in kind").clone();
    assert_eq!(first.attribute, kind.attribute(AttributeNumber(1)).expect("the first attribute").name);
    assert_eq!(facts(&messages)[0].device, "districts/c/devices/x0");
}

#[test]
fn what_the_filter_holds_back_still_moves_the_cursor() {
    let filter = v1::FeedFilter { kinds: vec!["bus".to_owned()], ..Default::default() };
    let filter = Filter::from_public(Some(filter)).expect("a filter");
    let entries = [entry(7, vec![reported([0, 1])]), entry(9, vec![registered(3, "bus")])];
    let (messages, cursor) = translate(&entries[..1], Cursor::default(), &filter);
    assert!(messages.is_empty());
    assert_eq!(cursor, Cursor::behind(LogIndex(7)));
    assert_eq!(places(&translate(&entries, Cursor::default(), &filter).0), [(9, 0)]);
}

#[test]
fn a_stream_that_closes_disconnects_its_devices() {
    let opened = Logged::SessionsOpened(message::SessionsOpened { device: vec![0, 3], ..Default::default() });
    let closed = Logged::StreamClosed(message::StreamClosed::default());
    let (messages, _) = translate(&[entry(2, vec![opened, closed])], Cursor::default(), &Filter::default());
    let changes = facts(&messages).into_iter().map(|fact| match &fact.fact {
        Some(fact::Fact::ConnectivityChanged(changed)) => (fact.device.as_str(), changed.connected),
        other => unreachable!("only connectivity changed, not {other:?}"),
    });
    let expected = [
        ("districts/c/devices/x0", true),
        ("districts/c/devices/x3", true),
        ("districts/c/devices/x1", false),
        ("districts/c/devices/x2", false),
    ];
    assert_eq!(changes.collect::<Vec<_>>(), expected);
    assert_eq!(places(&messages), [(2, 0), (2, 0), (2, 1), (2, 1)]);
}

#[test]
fn large_entries_come_in_several_messages() {
    let entries = [entry(5, vec![reported((0..5_000).map(|number| number % 4))])];
    let (messages, _) = translate(&entries, Cursor::default(), &Filter::default());
    assert_eq!(messages.iter().map(|message| message.facts.len()).collect::<Vec<_>>(), [2_000, 2_000, 1_000]);
    assert_eq!(messages[0].next.map(|next| (next.index, next.ordinal)), Some((5, 1_999)));
}

#[test]
fn the_end_of_a_stream_with_very_many_devices_fits_into_an_answer() {
    const DEVICES: u32 = 200_000;
    let catalog = Catalog::built_in();
    let filter = Filter::default();
    let mut identities = Identities::default();
    for device in 0..DEVICES {
        identities.learn(device, &format!("district-of-meters/meter-{device:020}"), "luminaire", &catalog, &filter);
    }
    let stream_devices = |_: &[u8]| (0..DEVICES).collect();
    let lookup = Lookup { shard: SHARD, filter: &filter, catalog: &catalog, stream_devices: &stream_devices };
    let mut translation = Translation::new(lookup, &mut identities, Cursor::default());
    translation.add(&entry(2, vec![Logged::StreamClosed(message::StreamClosed::default())]));
    let (messages, _) = translation.finish();
    let [message] = messages.as_slice() else { unreachable!("facts of one ordinal stay together") };
    assert_eq!(message.facts.len(), DEVICES as usize);
    let bytes = message.encoded_len();
    assert!((REQUEST_BYTES_MAX..ANSWER_BYTES_MAX).contains(&bytes), "{bytes} bytes");
}

#[test]
fn all_devices_of_an_entry_are_asked_for() {
    let retired = Logged::DeviceRetired(message::DeviceRetired { device: 8 });
    let entry = entry(1, vec![reported([4, 2]), retired, leadership()]);
    assert_eq!(devices_of(&entry.facts).collect::<Vec<_>>(), [4, 2, 8]);
}

proptest! {
    /// Whatever `next` a subscriber resumes from, it gets exactly what it has not had.
    #[test]
    fn resuming_misses_and_repeats_nothing(
        sizes in prop::collection::vec(0_u32..4_000, 1..5),
        cut: prop::sample::Index,
    ) {
        let facts = |size| vec![leadership(), reported((0..size).map(|n| n % 4)), registered(1, "luminaire")];
        let entries: Vec<_> = (10..)
            .zip(&sizes)
            .map(|(index, size)| entry(index, facts(*size)))
            .collect();
        let (all, _) = translate(&entries, Cursor::default(), &Filter::default());
        let cut = cut.index(all.len());
        let next = all[cut].next.expect("a cursor");
        let cursor = Cursor::from_public(&next);
        let rest: Vec<_> = entries.into_iter().filter(|entry| entry.index > cursor.after()).collect();
        let (resumed, _) = translate(&rest, cursor, &Filter::default());
        let mut joined = places(&all[..=cut]);
        joined.extend(places(&resumed));
        prop_assert_eq!(joined, places(&all));
    }
}
