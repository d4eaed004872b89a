//! What becomes of readings.

use super::*;

const LEVEL: u16 = 1;
const POWER: u16 = 2;
const STATE: u16 = 3;

fn level(number: f64) -> ValueRef<'static> {
    ValueRef::Number(number)
}

fn value_of(shard: &Shard, attribute: u16) -> (crate::Value, i64, u8) {
    let twin = shard.state.device(DeviceNumber(0)).unwrap();
    let reported = twin.reported_attribute(AttributeNumber(attribute)).unwrap();
    (reported.value.clone(), reported.observed_us - NOW_US, reported.quality)
}

#[test]
fn bad_readings_are_rejected_while_the_rest_goes_through() {
    let mut shard = Shard::with_lamps(1);
    let before_2000 = 946_684_800_000_000 - 1 - NOW_US;
    let long = "x".repeat(257);
    let submitted = shard.submit(&[
        (99, LEVEL, 0, level(1.0)),
        (0, 77, 0, level(1.0)),
        (0, LEVEL, 0, ValueRef::Boolean(true)),
        (0, LEVEL, 0, level(f64::NAN)),
        (0, LEVEL, 600_000_001, level(1.0)),
        (0, LEVEL, before_2000, level(1.0)),
        (0, STATE, 0, ValueRef::Text("dim")),
        (0, STATE, 0, ValueRef::Text(&long)),
        (1, 1, 0, ValueRef::Number(3.0)),
        (0, LEVEL, 600_000_000, level(1.0)),
        (0, STATE, 0, ValueRef::Text("low")),
    ]);
    assert_eq!(submitted.outcomes, [4, 4, 4, 4, 4, 4, 4, 4, 4, 1, 1]);
    assert_eq!(submitted.rejections, [1, 2, 3, 4, 5, 5, 6, 6, 3]);
    let totals = message::StreamTotals { sequence: 1, stored: 2, late: 0, duplicate: 0, rejected: 9 };
    assert_eq!(submitted.totals, Some(totals));
    assert_eq!(submitted.index, shard.index.0);
    let counters = shard.state.counters();
    assert_eq!((counters.readings_stored, counters.readings_rejected), (2, 9));
    assert_eq!(value_of(&shard, STATE).0, crate::Value::Text("low".into()));
}

#[test]
fn a_value_out_of_range_is_stored_with_that_quality() {
    let mut shard = Shard::with_lamps(1);
    let submitted = shard.submit(&[(0, LEVEL, 0, level(140.0)), (0, POWER, 0, ValueRef::Integer(7))]);
    assert_eq!(submitted.outcomes, [1, 1]);
    assert_eq!(value_of(&shard, LEVEL), (crate::Value::Number(140.0), 0, 3));
    assert_eq!(value_of(&shard, POWER), (crate::Value::Number(7.0), 0, 1));
}

#[test]
fn an_older_reading_is_in_the_feed_but_not_in_the_twin() {
    let mut shard = Shard::with_lamps(1);
    shard.submit(&[(0, LEVEL, 100, level(10.0))]);
    let version = shard.state.version(DeviceNumber(0));
    let submitted = shard.submit(&[(0, LEVEL, 50, level(20.0)), (0, POWER, 50, level(1.0))]);
    assert_eq!(submitted.outcomes, [2, 1]);
    assert_eq!(value_of(&shard, LEVEL), (crate::Value::Number(10.0), 100, 1));
    assert_eq!(shard.state.version(DeviceNumber(0)), version + 1);
    let Some(fact::Fact::ReadingsReported(reported)) = &shard.facts.facts[0].fact else { panic!("no readings") };
    assert_eq!(reported.mark, [ReadingMark::new(true, true).0, ReadingMark::new(true, false).0]);
    assert_eq!(ordinals(&shard.facts.facts[0]), 2);
}

#[test]
fn a_repeated_observation_is_counted_and_not_stored_again() {
    let mut shard = Shard::with_lamps(1);
    let reading = (0, LEVEL, 100, level(10.0));
    assert_eq!(shard.submit(&[reading, reading]).outcomes, [1, 3]);
    assert_eq!(shard.submit(&[reading]).outcomes, [3]);
    assert!(matches!(shard.facts.facts[..], [message::Fact { fact: Some(fact::Fact::ReadingsAccepted(_)) }]));
    // The same time with another value is another observation.
    assert_eq!(shard.submit(&[(0, LEVEL, 100, level(11.0))]).outcomes, [1]);
    // Zero has two signs and is one value.
    let zeros = [(0, LEVEL, 101, level(0.0)), (0, LEVEL, 101, level(-0.0))];
    assert_eq!(shard.submit(&zeros).outcomes, [1, 3]);
}

#[test]
fn repeats_are_known_by_the_last_eight_observations_and_the_current_value() {
    let mut shard = Shard::with_lamps(1);
    let first = (0, POWER, 0, level(1.0));
    let rows: Vec<_> = (1..=8).map(|step| (0, LEVEL, step, level(0.0))).collect();
    shard.submit(&[first]);
    shard.submit(&rows);
    assert_eq!(shard.submit(&[first]).outcomes, [3], "the current value of its attribute");
    assert_eq!(shard.submit(&[(0, LEVEL, 1, level(0.0))]).outcomes, [3], "the oldest in the ring");
    shard.submit(&[(0, LEVEL, 9, level(0.0))]);
    assert_eq!(shard.submit(&[(0, LEVEL, 1, level(0.0))]).outcomes, [2], "not in the ring any more");
}

#[test]
fn a_version_in_a_batch_counts_the_readings_before() {
    let mut shard = Shard::with_lamps(1);
    let last = shard.state.stream(StreamId(1)).unwrap().totals.sequence;
    let readings = submit(1, last, last + 1, &[(0, LEVEL, 0, level(1.0)), (0, LEVEL, 1, level(2.0))]);
    let requests = [readings, patch("a/lamp-0", "dimmingLevel", level(5.0), 3)]
        .map(|request| message::ShardRequest { request: Some(request), ..Default::default() });
    let replies =
        shard.commit(|decider| requests.map(|request| decider.decide(&request).unwrap().reply_at(LogIndex(9))));
    assert!(matches!(replies[1], Reply::DesiredPatched(message::DesiredPatched { version: 4, .. })), "{replies:?}");
    assert_eq!(shard.state.version(DeviceNumber(0)), 4);
}

#[test]
fn a_part_that_no_entry_could_hold_is_refused() {
    let mut shard = Shard::with_lamps(1);
    let text = "x".repeat(256);
    let rows = vec![(0, STATE, 0, ValueRef::Text(&text)); 5_000];
    let failure = shard.refusal(submit(1, 0, 1, &rows));
    assert_eq!((failure.reason(), failure.field.as_str()), (FailureReason::Invalid, "readings"));
}

#[test]
fn ragged_columns_are_refused() {
    let mut shard = Shard::with_lamps(1);
    let Request::SubmitReadings(mut request) = submit(1, 0, 1, &[(0, LEVEL, 0, level(1.0))]) else { unreachable!() };
    request.readings.as_mut().unwrap().value.clear();
    assert_eq!(shard.refusal(Request::SubmitReadings(request)).reason(), FailureReason::Invalid);
}
