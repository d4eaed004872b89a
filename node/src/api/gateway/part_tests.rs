//! Parts: what readings become in columns.

use std::collections::HashSet;

use kvarter_actors::{Point, ValueRef, message};
use kvarter_api::v1::{self, Reading, ReadingOutcome, ReadingRejectionReason, reading::Value};
use kvarter_cluster::ShardId;

use super::aliases::{Aliases, DEVICE_NONE};
use super::lane::LaneId;
use super::part::{PART_BYTES_FULL, Part};

const NOON_US: i64 = 1_750_000_000_000_000;

fn reading(alias: u32, observed_us: i64, value: Value) -> Reading {
    Reading { alias, attribute: 1, observed_us, value: Some(value) }
}

fn point(latitude: f64, longitude: f64) -> Value {
    Value::Point(v1::Point { latitude, longitude })
}

fn push(part: &mut Part, sequence: u64, index: u32, reading: &Reading) {
    part.push(sequence, index, reading.alias, reading);
}

fn resolved(mut part: Part) -> Part {
    let mut aliases = Aliases::default();
    for alias in 0..4 {
        assert!(aliases.claim(alias, LaneId(0)));
        aliases.attach(alias, 100 + alias);
    }
    part.resolve(&aliases);
    part
}

#[test]
fn values_and_times_arrive_as_they_were_sent() {
    let sent = [
        (NOON_US, Value::Number(-1.5)),
        (NOON_US - 7, Value::Integer(i64::MIN)),
        (NOON_US + 9, Value::Boolean(true)),
        (0, Value::Text("grün".to_owned())),
        (NOON_US, point(-56.15, 10.2)),
    ];
    let mut part = Part::default();
    for (index, (observed_us, value)) in (0..).zip(sent) {
        push(&mut part, 1, index, &reading(index % 4, observed_us, value));
    }
    let part = resolved(part);
    let read: Vec<_> =
        part.readings().iter().map(|read| (read.device.0, read.observed_us, read.value.expect("a value"))).collect();
    let place = Point { latitude_e7: -561_500_000, longitude_e7: 102_000_000 };
    let expected = [
        (100, NOON_US, ValueRef::Number(-1.5)),
        (101, NOON_US - 7, ValueRef::Integer(i64::MIN)),
        (102, NOON_US + 9, ValueRef::Boolean(true)),
        (103, 0, ValueRef::Text("grün")),
        (100, NOON_US, ValueRef::Point(place)),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_first_reading_of_an_absurd_time_does_no_harm_to_the_others() {
    for absurd in [i64::MIN, i64::MAX] {
        let mut part = Part::default();
        for (index, observed_us) in [(0, absurd), (1, NOON_US)] {
            push(&mut part, 1, index, &reading(0, observed_us, Value::Number(0.0)));
        }
        let part = resolved(part);
        let times: Vec<_> = part.readings().iter().map(|read| read.observed_us).collect();
        assert!(!(0..=2 * NOON_US).contains(&times[0]), "{} became sane", times[0]);
        assert_eq!(times[1], NOON_US);
    }
}

#[test]
fn what_no_twin_takes_stays_so_and_stays_small() {
    let mut part = Part::default();
    push(&mut part, 1, 0, &reading(0, NOON_US, Value::Text("é".repeat(5_000))));
    push(&mut part, 1, 1, &reading(0, NOON_US, point(f64::NAN, 0.0)));
    push(&mut part, 1, 2, &reading(0, NOON_US, point(95.0, 0.0)));
    push(&mut part, 1, 3, &Reading { value: None, ..reading(0, NOON_US, Value::Boolean(true)) });
    let part = resolved(part);
    let values: Vec<_> = part.readings().iter().map(|read| read.value.expect("a value")).collect();
    assert!(matches!(values[0], ValueRef::Text(text) if (257..=260).contains(&text.len())));
    assert!(matches!(values[1], ValueRef::Number(number) if number.is_nan()));
    assert!(matches!(values[2], ValueRef::Point(place) if !place.is_on_earth()));
    assert!(matches!(values[3], ValueRef::Number(number) if number.is_nan()));
}

#[test]
fn an_alias_that_is_not_attached_is_no_device() {
    let mut part = Part::default();
    push(&mut part, 1, 0, &reading(77, NOON_US, Value::Number(0.0)));
    assert_eq!(resolved(part).readings().device, [DEVICE_NONE]);
}

#[test]
fn a_full_part_takes_no_further_batch_but_all_of_its_last_one() {
    let mut part = Part::default();
    for index in 0.. {
        if !part.takes(2, 0) {
            break;
        }
        push(&mut part, 1, index, &reading(0, NOON_US, Value::Text("x".repeat(200))));
    }
    assert!(part.takes(1, 0));
    assert_eq!(part.sequence(), 1);
    let part = resolved(part);
    let size = prost::Message::encoded_len(part.readings());
    assert!((PART_BYTES_FULL * 9 / 10..PART_BYTES_FULL * 11 / 10).contains(&size), "{size} bytes");
    assert!(!part.takes(1, 0), "a resolved part is closed");
}

#[test]
fn acknowledgements_follow_batches() {
    let mut part = Part::default();
    for (sequence, index) in [(4, 1), (4, 3), (6, 0)] {
        push(&mut part, sequence, index, &reading(0, NOON_US, Value::Number(0.0)));
    }
    let answer = message::ReadingsSubmitted { outcomes: vec![1, 4, 4], rejections: vec![3, 5], ..Default::default() };
    let short = message::ReadingsSubmitted { outcomes: vec![1, 4], ..answer.clone() };
    let acknowledged = part.acknowledge(ShardId(2), &answer).expect("as many outcomes as readings");
    let [first, second] = &acknowledged[..] else { unreachable!("two batches") };
    assert_eq!((first.sequence, first.shard, &first.indexes[..]), (4, Some(2), &[1, 3][..]));
    assert_eq!(first.outcomes().collect::<Vec<_>>(), [ReadingOutcome::Stored, ReadingOutcome::Rejected]);
    assert_eq!((first.rejections[0].index, first.rejections[0].reason()), (3, ReadingRejectionReason::WrongType));
    assert_eq!((second.rejections[0].index, second.rejections[0].reason()), (0, ReadingRejectionReason::AbsurdTime));
    assert!(Part::default().acknowledge(ShardId(2), &short).is_err());
}

#[test]
fn readings_of_refused_devices_stay_in_place_as_those_of_none() {
    let mut part = Part::default();
    for (sequence, index, alias) in [(1, 0, 0), (1, 1, 2), (2, 0, 2), (3, 0, 1), (3, 1, 2)] {
        let text = Value::Text(format!("{sequence}.{index}"));
        push(&mut part, sequence, index, &reading(alias, NOON_US, text));
    }
    part.refuse(&HashSet::from([2]));
    let trimmed = part.trim(ShardId(2), 2, &message::StreamTotals::default());
    let places: Vec<_> = trimmed.iter().map(|ack| (ack.sequence, ack.indexes.clone())).collect();
    assert_eq!(places, [(1, vec![0, 1]), (2, vec![0])]);
    let part = resolved(part);
    let rest: Vec<_> = part.readings().iter().map(|read| (read.device.0, read.value)).collect();
    assert_eq!(rest, [(101, Some(ValueRef::Text("3.0"))), (u32::MAX, Some(ValueRef::Text("3.1")))]);
    assert!(part.readings().is_rectangular());
}
