//! Streams: who may resume them, what they accepted, when they expire.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::decide::streams::{CLOSED_MIN_US, REFRESH_PART};

fn totals_of(reply: &Reply) -> message::StreamTotals {
    match reply {
        Reply::StreamOpened(totals) => *totals,
        other => panic!("{other:?}"),
    }
}

/// Connections say the number of a client that counts them; 0: of one that does not.
fn open_by(stream: u128, node: u64, connection: u64) -> Request {
    let Request::OpenStream(open) = open(stream, "gateway", node) else { panic!("not an opening") };
    Request::OpenStream(message::OpenStream { connection, ..open })
}

fn close_by(stream: u128, node: u64, connection: u64) -> Request {
    let stream = StreamId(stream).to_message();
    Request::CloseStream(message::CloseStream { stream, node, connection })
}

/// Where stream 1 is open, by node and connection.
fn place(shard: &Shard) -> Option<(u64, u64)> {
    let stream = shard.state.stream(StreamId(1)).filter(|stream| stream.is_open)?;
    Some((stream.node.0, stream.connection.0))
}

fn expire(shard: &mut Shard) {
    shard.now.0 += i64::try_from(shard.limits.stream_age_max.as_micros()).unwrap();
    shard.commit(|decider| decider.sweep(100));
}

#[test]
fn a_part_is_accepted_once_and_in_order() {
    let mut shard = Shard::with_lamps(1);
    let rows = [(0, 1, 0, ValueRef::Number(1.0))];
    let gap = shard.refusal(submit(1, 4, 5, &rows));
    assert_eq!((gap.reason(), gap.totals), (FailureReason::SequenceGap, Some(message::StreamTotals::default())));
    shard.ask(submit(1, 0, 5, &rows));
    let totals = message::StreamTotals { sequence: 5, stored: 1, ..Default::default() };
    for (previous, sequence) in [(0, 5), (0, 3), (5, 5)] {
        let again = shard.refusal(submit(1, previous, sequence, &rows));
        assert_eq!((again.reason(), again.totals), (FailureReason::AlreadyAccepted, Some(totals)));
    }
    assert!(matches!(shard.ask(submit(1, 5, 6, &rows)), Reply::ReadingsSubmitted(_)));
    assert_eq!(shard.refusal(submit(2, 0, 1, &rows)).reason(), FailureReason::StreamExpired);
}

#[test]
fn a_stream_is_resumed_on_another_node_by_its_client_alone() {
    let mut shard = Shard::with_lamps(1);
    shard.submit(&[(0, 1, 0, ValueRef::Number(1.0))]);
    assert_eq!(shard.refusal(open(1, "thief", 2)).reason(), FailureReason::Forbidden);
    assert_eq!(totals_of(&shard.ask(open(1, "gateway", 2))).stored, 1);
    assert_eq!(shard.state.stream(StreamId(1)).unwrap().node, NodeId(2));
    // The connection that the stream left ends late.
    let close = message::CloseStream { stream: StreamId(1).to_message(), node: 1, connection: 0 };
    shard.ask(Request::CloseStream(close.clone()));
    assert!(shard.facts.facts.is_empty());
    shard.ask(Request::CloseStream(message::CloseStream { node: 2, ..close }));
    assert!(!shard.state.stream(StreamId(1)).unwrap().is_open);
}

#[test]
fn the_end_of_an_older_connection_on_the_same_node_closes_nothing() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open_by(1, 1, 1));
    // They overtook each other on their way.
    shard.ask(open_by(1, 1, 2));
    shard.ask(close_by(1, 1, 1));
    assert!(shard.facts.facts.is_empty());
    assert_eq!(place(&shard), Some((1, 2)));
    shard.ask(close_by(1, 1, 2));
    assert_eq!(place(&shard), None);
}

#[test]
fn an_older_connection_does_not_take_a_stream_back_to_its_node() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open_by(1, 2, 2));
    assert_eq!(shard.refusal(open_by(1, 1, 1)).reason(), FailureReason::Superseded);
    assert_eq!(place(&shard), Some((2, 2)));
}

#[test]
fn an_opening_behind_the_end_of_its_connection_comes_too_late() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open_by(1, 1, 1));
    shard.ask(close_by(1, 2, 2));
    assert_eq!(place(&shard), None, "the later connection had taken the place of the first");
    assert_eq!(shard.refusal(open_by(1, 2, 2)).reason(), FailureReason::Superseded);
    shard.ask(open_by(1, 1, 3));
    assert_eq!(place(&shard), Some((1, 3)));
}

#[test]
fn a_client_that_does_not_count_its_connections_is_where_it_was_heard_last() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open_by(1, 1, 7));
    shard.ask(open_by(1, 2, 0));
    assert_eq!(place(&shard), Some((2, 0)));
    shard.ask(close_by(1, 1, 0));
    assert_eq!(place(&shard), Some((2, 0)), "of another node");
    shard.ask(close_by(1, 2, 0));
    assert_eq!(place(&shard), None);
    shard.ask(open_by(1, 1, 0));
    assert_eq!(place(&shard), Some((1, 0)));
}

proptest! {
    /// Each connection opens, perhaps more than once, and ends; whatever arrives, in whatever order, as often as it likes.
    #[test]
    fn a_stream_is_where_its_latest_connection_is_however_requests_overtake_each_other(
        arrivals in vec((1_u64..6, any::<bool>()), 0..40),
        is_over in any::<bool>(),
    ) {
        let mut shard = Shard::with_lamps(1);
        let latest = 6;
        let node = |connection: u64| 1 + connection % 2;
        shard.ask(open_by(1, node(1), 1));
        let middle = arrivals.len() / 2;
        for (arrived, (connection, opens)) in arrivals.into_iter().enumerate() {
            if arrived == middle {
                shard.ask(open_by(1, node(latest), latest));
            }
            let before = place(&shard);
            let ask: fn(u128, u64, u64) -> Request = if opens { open_by } else { close_by };
            let request = ask(1, node(connection), connection);
            shard.ask(request);
            if arrived >= middle {
                prop_assert_eq!(before, place(&shard));
            }
        }
        shard.ask(open_by(1, node(latest), latest));
        prop_assert_eq!(place(&shard), Some((node(latest), latest)));
        if is_over {
            shard.ask(close_by(1, node(latest), latest));
            prop_assert_eq!(place(&shard), None);
            prop_assert_eq!(shard.refusal(open_by(1, node(latest), latest)).reason(), FailureReason::Superseded);
        }
    }
}

#[test]
fn opening_an_open_stream_again_is_free_and_keeps_it_alive() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open(1, "gateway", 1));
    assert!(shard.facts.facts.is_empty());
    shard.now.0 += i64::try_from(shard.limits.stream_age_max.as_micros()).unwrap() / REFRESH_PART;
    shard.ask(open(1, "gateway", 1));
    assert_eq!(shard.state.stream(StreamId(1)).unwrap().used_us, shard.now.0);
}

#[test]
fn a_stream_that_is_opened_again_now_and_then_does_not_expire() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(attach(1, &["a/lamp-0"]));
    for _ in 0..100 {
        // As often as a gateway's node does.
        shard.now.0 += i64::try_from(shard.limits.stream_age_max.as_micros()).unwrap() / 8;
        shard.commit(|decider| decider.sweep(100));
        shard.ask(open(1, "gateway", 1));
    }
    assert!(shard.state.device_named("a/lamp-0").unwrap().connectivity().0);
}

#[test]
fn an_expired_stream_is_not_mistaken_for_a_new_one() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(attach(1, &["a/lamp-0"]));
    assert!(shard.state.device_named("a/lamp-0").unwrap().connectivity().0);
    expire(&mut shard);
    assert!(shard.state.stream(StreamId(1)).is_none());
    let twin = shard.state.device_named("a/lamp-0").unwrap();
    assert_eq!((twin.session(), twin.connectivity()), (None, (false, shard.now.0)));
    assert_eq!(shard.refusal(open(1, "gateway", 1)).reason(), FailureReason::StreamExpired);
    let later = message::OpenStream {
        stream: StreamId(2).to_message(),
        client: "gateway".into(),
        node: 1,
        issued_us: NOW_US + 1,
        connection: 0,
        unused: false,
    };
    assert_eq!(totals_of(&shard.ask(Request::OpenStream(later))), message::StreamTotals::default());
}

#[test]
fn a_stream_that_never_was_in_a_shard_did_not_expire_there_with_a_younger_one() {
    let mut shard = Shard::with_lamps(1);
    expire(&mut shard);
    let older = message::OpenStream {
        stream: StreamId(2).to_message(),
        client: "gateway".into(),
        node: 1,
        issued_us: NOW_US - 1,
        connection: 1,
        unused: false,
    };
    assert_eq!(shard.refusal(Request::OpenStream(older.clone())).reason(), FailureReason::StreamExpired);
    let unused = message::OpenStream { unused: true, ..older.clone() };
    assert_eq!(totals_of(&shard.ask(Request::OpenStream(unused))), message::StreamTotals::default());
    // From then on it expires like any other.
    expire(&mut shard);
    assert_eq!(shard.refusal(Request::OpenStream(older)).reason(), FailureReason::StreamExpired);
}

#[test]
fn a_ticket_of_1970_has_expired_also_where_no_stream_ever_did() {
    let mut shard = Shard::with_lamps(1);
    assert_eq!(shard.state.streams_expired_us(), 0);
    for issued_us in [1, 60 * 1_000_000] {
        let stream = StreamId(9).to_message();
        let ancient =
            message::OpenStream { stream, client: "gateway".into(), node: 1, issued_us, connection: 0, unused: false };
        assert_eq!(shard.refusal(Request::OpenStream(ancient)).reason(), FailureReason::StreamExpired, "{issued_us}");
    }
}

fn open_issued(stream: u128, issued_us: i64) -> Request {
    let stream = StreamId(stream).to_message();
    Request::OpenStream(message::OpenStream {
        stream,
        client: "gateway".into(),
        node: 1,
        issued_us,
        connection: 0,
        unused: false,
    })
}

#[test]
fn a_ticket_from_the_future_closes_the_shard_to_nobody() {
    let mut shard = Shard::with_lamps(1);
    shard.ask(open_issued(2, i64::MAX));
    expire(&mut shard);
    assert!(shard.state.stream(StreamId(2)).is_none());
    assert!(shard.state.streams_expired_us() <= shard.now.0);
    let now_us = shard.now.0;
    assert_eq!(totals_of(&shard.ask(open_issued(3, now_us))), message::StreamTotals::default());
    // What had expired by then still has.
    assert_eq!(shard.refusal(open_issued(4, NOW_US)).reason(), FailureReason::StreamExpired);
}

#[test]
fn a_shard_that_was_closed_by_a_ticket_from_the_future_is_open_again() {
    let mut shard = Shard::with_lamps(1);
    // As programs wrote it that took any time of issue.
    let opened = message::StreamOpened {
        stream: StreamId(2).to_message(),
        client: "gateway".into(),
        node: 1,
        issued_us: i64::MAX,
        connection: 0,
    };
    shard.commit(|decider| decider.push(fact::Fact::StreamOpened(opened)));
    expire(&mut shard);
    assert_eq!(shard.state.streams_expired_us(), i64::MAX);
    let age_us = i64::try_from(shard.limits.stream_age_max.as_micros()).unwrap();
    let now_us = shard.now.0;
    assert_eq!(shard.refusal(open_issued(3, now_us - age_us)).reason(), FailureReason::StreamExpired);
    assert!(matches!(shard.ask(open_issued(3, now_us - age_us + 1)), Reply::StreamOpened(_)));
}

#[test]
fn a_stream_of_a_node_whose_clock_is_a_little_ahead_is_known_as_expired() {
    let mut shard = Shard::with_lamps(1);
    let ticket_us = NOW_US + 400_000;
    shard.ask(open_issued(2, ticket_us));
    expire(&mut shard);
    assert_eq!(shard.refusal(open_issued(2, ticket_us)).reason(), FailureReason::StreamExpired);
}

#[test]
fn a_device_belongs_to_the_stream_that_attached_it_last() {
    let mut shard = Shard::with_lamps(2);
    shard.ask(open(2, "other", 3));
    shard.ask(attach(1, &["a/lamp-0", "a/lamp-1"]));
    let Reply::DevicesAttached(attached) = shard.ask(attach(2, &["a/lamp-1", "a/none"])) else { panic!("refused") };
    assert_eq!((attached.devices[0].device, attached.devices[0].error.as_str()), (1, ""));
    assert_eq!(attached.devices[1].error, "device `a/none` is not registered");
    let devices = |stream| shard.state.stream(StreamId(stream)).unwrap().devices.iter().copied().collect::<Vec<_>>();
    assert_eq!((devices(1), devices(2)), (vec![DeviceNumber(0)], vec![DeviceNumber(1)]));
    assert_eq!(shard.refusal(attach(9, &["a/lamp-0"])).reason(), FailureReason::StreamExpired);
}

#[test]
fn devices_with_work_are_activated_when_their_stream_comes() {
    let mut shard = Shard::with_lamps(2);
    shard.ask(set_level("a/lamp-1", "c", 10.0, 0));
    let requests = [attach(1, &["a/lamp-0", "a/lamp-1"]), open(1, "gateway", 2)]
        .map(|request| message::ShardRequest { request: Some(request), ..Default::default() });
    let effects = shard.commit(|decider| requests.map(|request| decider.decide(&request).unwrap().effects));
    assert_eq!(effects, [vec![Effect::Activate(DeviceNumber(1))], vec![Effect::Activate(DeviceNumber(1))]]);
}

#[test]
fn a_shard_keeps_a_bounded_number_of_streams() {
    let mut shard = Shard::with_lamps(1);
    shard.limits.streams_max = 1;
    assert_eq!(shard.refusal(open(2, "gateway", 1)).message, "the shard has 1 streams, its limit");
}

#[test]
fn at_the_limit_the_closed_stream_that_was_used_longest_ago_makes_room() {
    let mut shard = Shard::with_lamps(1);
    shard.limits.streams_max = 3;
    let close = |stream: u128| close_by(stream, 1, 0);
    for stream in [2, 3] {
        shard.now.0 += 1;
        shard.ask(open_issued(stream, NOW_US + 1));
        shard.ask(close(stream));
    }
    let later_us = NOW_US + 2 * 1_000_000;
    let refused = shard.refusal(open_issued(4, later_us));
    assert_eq!(refused.reason(), FailureReason::Limit, "those were closed just now");
    shard.now.0 += CLOSED_MIN_US;
    assert!(matches!(shard.ask(open_issued(4, later_us)), Reply::StreamOpened(_)));
    let known: Vec<_> = (1..=4).filter(|id| shard.state.stream(StreamId(*id)).is_some()).collect();
    assert_eq!(known, [1, 3, 4]);
    assert_eq!(shard.refusal(open_issued(2, NOW_US + 1)).reason(), FailureReason::StreamExpired);
}
