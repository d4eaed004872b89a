//! The city through its front door, on a real cluster.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod feeds;
mod fleet;
mod gateway;
mod kinds;

use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::message::{self, FailureReason, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{AttributeNumber, City, CommandState, Criticality, DeviceNumber, ValueRef};
use kvarter_cluster::{LogIndex, MemoryStorage, NodeId, ShardId};

use fleet::{Fleet, call, call_as, call_until_known, call_within, eventually};
use gateway::Gateway;

const LAMP: (&str, &str) = ("a/lamp", "luminaire");
const SENSOR: (&str, &str) = ("a/sensor", "traffic_flow_sensor");
const LEVEL: u16 = 1;
/// No service orders anything for it.
const HOUSE: (&str, &str) = ("a/house", "building");
const TEMPERATURE_SETPOINT: u16 = 6;
const FLOW: u16 = 1;

/// 2014-12-21 00:00 UTC: over Aarhus it is dark until 07:20.
const MIDNIGHT_US: i64 = 1_419_120_000_000_000;
const MINUTE_US: i64 = 60_000_000;

async fn twin(city: &City, shard: ShardId, name: &str) -> message::Twin {
    let read = message::ReadTwin { name: name.to_owned(), consistency: None };
    match call(city, shard, Request::ReadTwin(read)).await.unwrap() {
        Reply::TwinRead(read) => read.twin.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn reported(twin: &message::Twin, attribute: u16) -> Option<message::value::Kind> {
    let reported = twin.reported.iter().find(|reported| reported.attribute == u32::from(attribute))?;
    reported.value.as_ref()?.kind.clone()
}

fn set_level(name: &str, id: &str, level: f64) -> Request {
    let level = message::Value { kind: Some(message::value::Kind::Number(level)) };
    Request::IssueCommand(message::IssueCommand {
        name: name.to_owned(),
        id: id.to_owned(),
        action: "set_level".to_owned(),
        arguments: vec![message::Argument { name: "level".to_owned(), value: Some(level) }],
        timeout_ms: 60_000,
        priority: 2,
    })
}

async fn command_state(city: &City, shard: ShardId, name: &str, id: &str) -> Option<CommandState> {
    let read = message::ReadCommand { name: name.to_owned(), id: id.to_owned() };
    match call(city, shard, Request::ReadCommand(read)).await.unwrap() {
        Reply::CommandRead(read) => CommandState::from_message(read.command?.state),
        other => panic!("{other:?}"),
    }
}

async fn figures(city: &City, shard: ShardId) -> std::collections::BTreeMap<String, f64> {
    let read = message::ReadServices { district: "a".to_owned() };
    match call(city, shard, Request::ReadServices(read)).await.unwrap() {
        Reply::ServicesRead(read) => read.services.into_iter().next().map(|it| it.figures).unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_delivered_acknowledged_and_survives_a_restart() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP]).await;
    let lamp = gateway.devices[0];
    let submitted = gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US, 80.0), (lamp, 99, MIDNIGHT_US, 1.0)]).await;
    assert_eq!((submitted.outcomes, submitted.rejections), (vec![1, 4], vec![2]));
    let seen = twin(&city, shard, LAMP.0).await;
    assert_eq!(reported(&seen, LEVEL), Some(message::value::Kind::Number(80.0)));
    assert!(seen.connected);

    call(&city, shard, set_level(LAMP.0, "c1", 40.0)).await.unwrap();
    let (device, command) = gateway.command_with_id("c1").await;
    assert_eq!((device, command.id.as_str(), command.action.as_str()), (lamp, "c1", "set_level"));
    assert!(command.traceparent.starts_with("00-0af7651916cd43dd"), "the caller's trace reaches the device");
    eventually("the receipt says delivered", async || {
        command_state(&city, shard, LAMP.0, "c1").await == Some(CommandState::Delivered)
    })
    .await;
    gateway.acknowledge(lamp, "c1").await;
    assert_eq!(command_state(&city, shard, LAMP.0, "c1").await, Some(CommandState::Succeeded));
    assert_eq!(city.device_identity(shard, lamp), Some((LAMP.0.to_owned(), LAMP.1.to_owned())));

    drop((gateway, city));
    fleet.stop_all().await;
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    assert_eq!(city.shard_of("a"), Some(shard));
    assert_eq!(reported(&twin(&city, shard, LAMP.0).await, LEVEL), Some(message::value::Kind::Number(80.0)));
    assert_eq!(command_state(&city, shard, LAMP.0, "c1").await, Some(CommandState::Succeeded));
    eventually("each leadership has its epoch", async || city.view(shard).unwrap().state.epoch().0 >= 2).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_attribute_is_delivered_until_it_is_reported() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("building").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[HOUSE]).await;
    let value = message::Value { kind: Some(message::value::Kind::Number(21.0)) };
    let patch = message::PatchDesired {
        name: HOUSE.0.to_owned(),
        set: vec![message::NamedValue { name: "temperatureSetpoint".to_owned(), value: Some(value) }],
        ..Default::default()
    };
    call(&city, shard, Request::PatchDesired(patch)).await.unwrap();
    let delivery = gateway.delivery().await.delivery;
    let Some(message::delivery::Delivery::Desired(desired)) = delivery.delivery else { panic!("{delivery:?}") };
    assert_eq!(desired.attributes.len(), 1);
    assert_eq!(city.device_actors().active, 1);
    gateway.submit(&[(gateway.devices[0], TEMPERATURE_SETPOINT, MIDNIGHT_US, 21.0)]).await;
    eventually("the actor is passivated", async || city.device_actors().active == 0).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_says_soon_that_nothing_was_applied() {
    let mut fleet = Fleet::new(3);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    drop(Gateway::open(&city, shard, 7, &[LAMP]).await);
    let here = fleet.follower(shard).await;
    let city = fleet.city(here).clone();
    for other in (1..=3).filter(|node| *node != here) {
        fleet.stop(other).await;
        eventually("it does not answer", async || !city.cluster().is_reachable(NodeId(other))).await;
    }
    // It may have become the leader while there were two. Then what it proposes is in its log, and may be applied one day.
    let leads = city.cluster().shard(shard).is_some_and(|handle| handle.leadership().borrow().is_ready);
    let read = message::ReadTwin { name: LAMP.0.to_owned(), consistency: None };
    for request in [set_level(LAMP.0, "in-vain", 40.0), Request::ReadTwin(read)] {
        let may_be_applied = leads && !matches!(request, Request::ReadTwin(_));
        let a_day = Duration::from_secs(24 * 3600);
        let failure = tokio::time::timeout(Duration::from_secs(60), call_within(&city, shard, request, a_day)).await;
        let failure = failure.expect("an answer long before the deadline").unwrap_err();
        let is_told = match failure.reason() {
            FailureReason::NotLeader => true,
            FailureReason::Unknown => may_be_applied,
            _ => false,
        };
        assert!(is_told, "leads: {leads}: {failure:?}");
    }
    drop(city);
    fleet.stop_all().await;
}

/// What a drill calls poison, and no lamp is ever dimmed to.
const POISON: f64 = 66.75;

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_device_is_quarantined_alone() {
    let mut fleet = Fleet::new(1);
    fleet.config.poison = Some(POISON);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let neighbour = ("a/neighbour", "luminaire");
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP, neighbour]).await;
    let [lamp, sound] = gateway.devices[..] else { panic!("two devices were attached") };
    let submitted = gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US, POISON), (sound, LEVEL, MIDNIGHT_US, 80.0)]).await;
    assert_eq!(submitted.outcomes, [1, 1], "a poisoned reading is stored as any other");

    call(&city, shard, set_level(LAMP.0, "poisoned", 40.0)).await.unwrap();
    let mut answered = 0;
    while city.quarantined(shard).is_empty() {
        let id = format!("sound-{answered}");
        call(&city, shard, set_level(neighbour.0, &id, 40.0)).await.unwrap();
        let (device, _) = gateway.command_with_id(&id).await;
        assert_eq!(device, sound);
        gateway.acknowledge(device, &id).await;
        answered += 1;
    }
    let counters = city.device_actors();
    assert_eq!((city.quarantined(shard), counters.quarantined, counters.failed), (vec![lamp], 1, 5));
    assert!(answered > 10, "the neighbour obeyed {answered} times while the lamp's code failed");
    assert_eq!(command_state(&city, shard, LAMP.0, "poisoned").await, Some(CommandState::Accepted));
    gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US + MINUTE_US, 20.0)]).await;
    assert_eq!(
        reported(&twin(&city, shard, LAMP.0).await, LEVEL),
        Some(message::value::Kind::Number(20.0)),
        "readings of a device in quarantine are taken in"
    );
    drop((gateway, city));
    fleet.stop_all().await;
    fleet.start_all().await;
    assert_eq!(fleet.city(1).quarantined(shard), [], "quarantine ends with the leadership");
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lighting_dims_a_lamp_and_its_figures_survive_a_restart() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP, SENSOR]).await;
    let (lamp, sensor) = (gateway.devices[0], gateway.devices[1]);
    eventually("the service runs", async || figures(&city, shard).await.contains_key("lamps")).await;
    let mut levels = Vec::new();
    for (minutes, flow) in [(0, 100), (60, 0)] {
        let mut readings = message::Readings::default();
        let attribute = kvarter_actors::AttributeNumber(FLOW);
        readings.push(sensor, attribute, MIDNIGHT_US + minutes * MINUTE_US, ValueRef::Integer(flow));
        gateway.submit_columns(readings).await;
        let (device, command) = gateway.command().await;
        assert_eq!(device, lamp);
        gateway.acknowledge(device, &command.id).await;
        levels.push(command.arguments[0].value.as_ref().unwrap().kind.clone().unwrap());
    }
    assert_eq!(levels, [message::value::Kind::Number(100.0), message::value::Kind::Number(30.0)]);
    for minutes in [70, 80, 90] {
        let mut readings = message::Readings::default();
        let attribute = kvarter_actors::AttributeNumber(FLOW);
        readings.push(sensor, attribute, MIDNIGHT_US + minutes * MINUTE_US, ValueRef::Integer(0));
        gateway.submit_columns(readings).await;
    }
    let saved = async |city: &City| figures(city, shard).await.get("energy_saved_kwh").copied().unwrap_or_default();
    eventually("energy is saved", async || saved(&city).await > 0.02).await;
    let before = saved(&city).await;
    drop((gateway, city));
    fleet.stop_all().await;
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    let after = saved(&city).await;
    assert!((after - before).abs() < 0.02 && after > 0.02, "{before} kWh before, {after} kWh after");
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_answers_and_delivers_and_outlives_the_leader() {
    let mut fleet = Fleet::new(3);
    fleet.start_all().await;
    eventually("the built-in kinds", async || {
        (1..=3).all(|node| fleet.city(node).catalog().borrow().kind("luminaire").is_some())
    })
    .await;
    let shard = fleet.city(1).assign_district("a").await.unwrap();
    let follower = fleet.follower(shard).await;
    let mut gateway = Gateway::open(fleet.city(follower), shard, 9, &[LAMP]).await;
    let lamp = gateway.devices[0];
    gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US, 80.0)]).await;
    call(fleet.city(follower), shard, set_level(LAMP.0, "c1", 40.0)).await.unwrap();
    let (device, command) = gateway.command_with_id("c1").await;
    gateway.acknowledge(device, &command.id).await;

    let stale = message::ReadTwin {
        name: LAMP.0.to_owned(),
        consistency: Some(message::Consistency { staleness_max_ms: 60_000 }),
    };
    eventually("a follower answers a stale read", async || {
        let reply = call(fleet.city(follower), shard, Request::ReadTwin(stale.clone())).await;
        matches!(reply, Ok(Reply::TwinRead(read)) if read.twin.as_ref().is_some_and(|it| reported(it, LEVEL).is_some()))
    })
    .await;

    let mut feed = fleet.city(follower).feed(shard, LogIndex(0));
    let mut indexes = Vec::new();
    let applied = fleet.city(follower).view(shard).unwrap().applied;
    while feed.position() < applied {
        indexes.extend(feed.next().await.unwrap().into_iter().map(|entry| entry.index.0));
    }
    assert!(indexes.len() > 4 && indexes.is_sorted(), "{indexes:?}");

    let leader = fleet.leader(shard).await;
    let epoch = fleet.city(follower).view(shard).unwrap().state.epoch();
    fleet.stop(leader).await;
    gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US + MINUTE_US, 60.0)]).await;
    let seen = twin(fleet.city(follower), shard, LAMP.0).await;
    assert_eq!(reported(&seen, LEVEL), Some(message::value::Kind::Number(60.0)));
    assert!(fleet.city(follower).view(shard).unwrap().state.epoch() > epoch);
    call_until_known(fleet.city(follower), shard, set_level(LAMP.0, "c2", 40.0)).await.unwrap();
    gateway.command_with_id("c2").await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_serves_while_the_meta_group_has_no_quorum() {
    let mut fleet = Fleet::new(5);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    drop(Gateway::open(&city, shard, 6, &[LAMP]).await);
    // Two of the shard's three replicas are left, and with them two of the meta group's five.
    let left: Vec<u64> = city.cluster().meta().shards[&shard].replicas[..2].iter().map(|node| node.0).collect();
    drop(city);
    for node in (1..=5).filter(|node| !left.contains(node)) {
        fleet.stop(node).await;
    }
    fleet.leader(shard).await;
    let city = fleet.city(left[0]).clone();

    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP]).await;
    let lamp = gateway.devices[0];
    assert_eq!(gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US, 80.0)]).await.outcomes, [1]);
    for node in left {
        let seen = twin(fleet.city(node), shard, LAMP.0).await;
        assert_eq!(reported(&seen, LEVEL), Some(message::value::Kind::Number(80.0)), "at node {node}");
    }
    call(&city, shard, set_level(LAMP.0, "c1", 40.0)).await.unwrap();
    let (device, command) = gateway.command_with_id("c1").await;
    assert_eq!((device, command.id.as_str()), (lamp, "c1"));
    gateway.acknowledge(lamp, "c1").await;
    assert_eq!(command_state(&city, shard, LAMP.0, "c1").await, Some(CommandState::Succeeded));

    let unassigned = city.assign_district("b").await.unwrap_err();
    let told = [FailureReason::NotLeader, FailureReason::Unknown];
    assert!(told.contains(&unassigned.reason()), "what the meta group has to decide waits: {unassigned:?}");
    drop((gateway, city));
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_refuses_at_once_and_what_it_took_is_answered() {
    let mut fleet = Fleet::new(1);
    fleet.config.inbox_requests_max = 4;
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    Gateway::open(&city, shard, 7, &[LAMP]).await;
    let calls = (0..64).map(|number| call(&city, shard, set_level(LAMP.0, &format!("c{number}"), 10.0)));
    let replies = futures::future::join_all(calls.map(Box::pin).collect::<Vec<_>>()).await;
    let refused = replies.iter().filter_map(|reply| reply.as_ref().err());
    let overloaded: Vec<_> = refused.filter(|failure| failure.reason() == FailureReason::Overloaded).collect();
    assert!(!overloaded.is_empty() && overloaded.iter().all(|failure| failure.retry_after_ms > 0));
    let issued = replies.iter().filter(|reply| matches!(reply, Ok(Reply::CommandRead(_)))).count();
    assert_eq!(city.counters(shard).unwrap().commands_issued, issued as u64);
    assert!((1..64).contains(&issued));
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_in_and_says_so_until_there_is_room() {
    let disk = MemoryStorage::new();
    disk.set_capacity(Some(256 << 20));
    let mut fleet = Fleet::new(1);
    (fleet.storage, fleet.disk_free_min_percent) = (Arc::new(disk.clone()), 5);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    Gateway::open(&city, shard, 7, &[LAMP]).await;
    let is_full = || city.cluster().disk().borrow().is_full;
    assert!(!is_full());

    disk.set_capacity(Some(disk.used() + (1 << 10)));
    eventually("the disk is full", async || is_full()).await;
    let failure = call(&city, shard, set_level(LAMP.0, "c1", 10.0)).await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::DiskFull);
    assert!(failure.retry_after_ms > 0 && failure.message.contains("the disk of node-1 is nearly full"), "{failure:?}");
    twin(&city, shard, LAMP.0).await;
    assert_eq!(city.counters(shard).unwrap().commands_issued, 0);

    disk.set_capacity(Some(256 << 20));
    eventually("there is room", async || !is_full()).await;
    call_until_known(&city, shard, set_level(LAMP.0, "c1", 10.0)).await.unwrap();
    assert_eq!(city.counters(shard).unwrap().commands_issued, 1);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_not_found() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    let shard = city.assign_district("a").await.unwrap();
    let read = message::ReadTwin { name: "a/none".to_owned(), consistency: None };
    let failure = call(&city, shard, Request::ReadTwin(read)).await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::NotFound);
    assert_eq!(city.assign_district("No District").await.unwrap_err().reason(), FailureReason::Invalid);
    assert_eq!(city.device_identity(shard, DeviceNumber(5)), None);
    fleet.stop_all().await;
}

/// One thread, so that the shard answers nothing before all have asked.
#[tokio::test]
async fn a_full_inbox_refuses_readings_of_low_criticality_and_takes_an_operators_command() {
    let mut fleet = Fleet::new(1);
    fleet.config.inbox_requests_max = 8;
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP]).await;
    let readings = |sequence: u64| {
        let mut readings = message::Readings::default();
        let observed_us = MIDNIGHT_US + i64::try_from(sequence).unwrap();
        readings.push(gateway.devices[0], AttributeNumber(LEVEL), observed_us, ValueRef::Number(1.0));
        let stream = gateway.stream.to_message();
        let previous = sequence - 1;
        Request::SubmitReadings(message::SubmitReadings { stream, previous, sequence, readings: Some(readings) })
    };
    // Half of the inbox takes low criticality, three quarters take normal.
    let low = (1..=10).map(|sequence| call_as(&city, shard, readings(sequence), Some(Criticality::Low)));
    let normal = (5..=10).map(|sequence| call_as(&city, shard, readings(sequence), None));
    let command = call_as(&city, shard, set_level(LAMP.0, "c1", 40.0), None);
    let answers = futures::future::join_all(low.chain(normal).chain([command])).await;

    let outcome = |answer: &Result<Reply, message::Failure>| match answer {
        Ok(Reply::ReadingsSubmitted(submitted)) => Some(submitted.outcomes.clone()),
        Ok(Reply::CommandRead(_)) => Some(Vec::new()),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => {
            assert_eq!(failure.reason(), FailureReason::Overloaded, "{failure:?}");
            None
        }
    };
    let (stored, command) = (Some(vec![1]), Some(Vec::new()));
    let expected = [vec![stored.clone(); 4], vec![None; 6], vec![stored; 2], vec![None; 4], vec![command]];
    assert_eq!(answers.iter().map(outcome).collect::<Vec<_>>(), expected.concat());
    let retries = |places: std::ops::Range<usize>| {
        answers[places].iter().filter_map(|answer| Some(answer.as_ref().err()?.retry_after_ms)).collect::<Vec<_>>()
    };
    // Later the less critical, and a turn of a millisecond after those before.
    assert!(retries(0..10).iter().all(|retry_ms| (400..=800 + 6).contains(retry_ms)), "{answers:?}");
    assert!(retries(10..16).iter().all(|retry_ms| (100..=200 + 4).contains(retry_ms)), "{answers:?}");
    assert_eq!(Criticality::ALL.map(|criticality| city.requests_refused(criticality)), [6, 4, 0, 0]);
    assert_eq!(gateway.command_with_id("c1").await.1.action, "set_level");
    assert_eq!(city.requests_waiting(shard), Some(0));
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_in_the_entries_from_its_command_to_the_devices_acknowledgement() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP]).await;
    let before = city.view(shard).unwrap().applied;
    call(&city, shard, set_level(LAMP.0, "c1", 40.0)).await.unwrap();
    let (lamp, command) = gateway.command_with_id("c1").await;
    gateway.acknowledge_untraced(lamp, "c1").await;

    let mut feed = city.feed(shard, before);
    let mut states = Vec::new();
    while states.last() != Some(&CommandState::Succeeded) {
        for entry in feed.next().await.unwrap() {
            let of_command = entry.facts.facts.iter().filter_map(|fact| match fact.fact.as_ref()? {
                message::fact::Fact::CommandIssued(issued) if issued.id == "c1" => Some(CommandState::Accepted),
                message::fact::Fact::CommandChanged(changed) if changed.id == "c1" => {
                    CommandState::from_message(changed.state)
                }
                _ => None,
            });
            let fresh: Vec<_> = of_command.collect();
            assert!(fresh.is_empty() || entry.facts.traceparents.contains(&command.traceparent), "{entry:?}");
            states.extend(fresh);
        }
    }
    assert_eq!(states.first(), Some(&CommandState::Accepted));
    fleet.stop_all().await;
}
