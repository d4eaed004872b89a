//! A load's ledgers agree with the cluster, whatever happens to its connections.
use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::v1;
use kvarter_simulator::{Ledger, Load, LoadError, LoadPlan, PlanError, Rounds, Serial, Turns, register};
use tokio_util::sync::CancellationToken;

use crate::city::City;

fn plan() -> LoadPlan {
    LoadPlan {
        devices: 50,
        districts: 8,
        readings_per_s: 4_000.0,
        duration: Duration::from_secs(1),
        lanes: 2,
        linger: Duration::from_millis(5),
        district_prefix: "load".to_owned(),
    }
}

#[tokio::test]
async fn every_reading_of_a_load_is_counted_once_over_lost_connections() {
    let (city, _nodes, client) = City::start(vec![40, 25], None).await;
    let load = Load::prepare(&client, plan()).await.unwrap();
    assert_eq!(load.shards().len(), 4);
    let outcome = load.run(&CancellationToken::new(), Duration::from_secs(30), |_| {}).await;

    let report = &outcome.report;
    assert_eq!((report.sent, report.stored, report.unanswered), (4_000, 4_000, 0), "{report:?}");
    assert!(report.disconnects >= 1 && report.errors == 0, "{report:?}");
    assert_eq!(outcome.seconds.iter().map(|second| second.acknowledged).sum::<u64>(), 4_000);
    assert_eq!(outcome.seconds.iter().map(|second| second.disconnects).sum::<u64>(), report.disconnects);
    assert!(report.latency.p50_ms > 0.0 && report.rate_per_s > 0.0, "{report:?}");
    assert_eq!(outcome.ledgers.iter().map(Ledger::accepted_count).sum::<u64>(), 4_000);
    let state = city.state();
    for ledger in &outcome.ledgers {
        for (turn, device) in ledger.devices().iter().enumerate() {
            let newest = ledger.newest_accepted(turn).map(|serial| ledger.observed_us(serial));
            let stored =
                state.readings.iter().find(|((name, _), _)| name == device).map(|(_, observations)| observations);
            assert_eq!(
                newest,
                stored.and_then(|observations| observations.last()).map(|(observed_us, _)| *observed_us)
            );
        }
    }
}

#[tokio::test]
async fn devices_that_report_in_rounds_say_what_follows_from_their_turns() {
    let (city, _nodes, client) = City::start(vec![], None).await;
    let names: Vec<String> = (0..3).map(|number| format!("districts/rounds/devices/{number}")).collect();
    let device =
        |name: &String| v1::Device { name: name.clone(), kind: LoadPlan::KIND.to_owned(), ..Default::default() };
    register(&client, names.iter().map(device).collect()).await.unwrap();
    let (mut rounds, shards) = Rounds::attach(&client, names.clone()).await.unwrap();
    assert_eq!(shards.len(), 3);
    assert_eq!([rounds.send().await.unwrap(), rounds.send().await.unwrap()], [0, 1]);
    assert_eq!((rounds.sent(), rounds.open()), (2, 6));
    let mut answered = BTreeSet::new();
    while rounds.open() > 0 {
        let answer = rounds.next().await.unwrap();
        answered.extend(answer.readings.iter().filter(|it| it.is_accepted).map(|it| (answer.round, it.turn)));
    }
    assert_eq!(answered, (0..2).flat_map(|round| (0..3).map(move |turn| (round, turn))).collect());
    let ledger = rounds.into_ledger();
    assert_eq!((ledger.sent(), ledger.accepted_count()), (6, 6));
    let state = city.state();
    let said: BTreeSet<(usize, i64, u64)> = (0..6)
        .map(Serial)
        .map(|serial| (ledger.turns().turn(serial), ledger.observed_us(serial), Turns::value(serial).to_bits()))
        .collect();
    let stored = state.readings.iter().flat_map(|((name, _), observations)| {
        let turn = names.iter().position(|known| known == name).unwrap();
        observations.iter().map(move |(observed_us, bits)| (turn, *observed_us, *bits))
    });
    assert_eq!(stored.collect::<BTreeSet<_>>(), said);
}

#[tokio::test]
async fn a_stopped_load_counts_only_what_it_sent() {
    let (city, _nodes, client) = City::start(vec![], None).await;
    let endless = LoadPlan { duration: Duration::from_secs(3_600), ..plan() };
    let load = Load::prepare(&client, endless).await.unwrap();
    let stop = CancellationToken::new();
    let stop_at_first_progress = |progress: kvarter_simulator::LoadProgress| {
        if progress.totals.acknowledged > 0 {
            stop.cancel();
        }
    };
    let outcome = load.run(&stop, Duration::from_secs(30), stop_at_first_progress).await;
    let sent: u64 = outcome.ledgers.iter().map(Ledger::sent).sum();
    assert_eq!((outcome.report.sent, outcome.report.unanswered), (sent, 0));
    let stored: usize = city.state().readings.values().map(|observations| observations.len()).sum();
    assert_eq!(stored as u64, sent);
}

#[tokio::test]
async fn a_plan_that_can_not_run_is_refused_before_anything_is_registered() {
    let (_city, _nodes, client) = City::start(vec![], None).await;
    let error = Load::prepare(&client, LoadPlan { lanes: 0, ..plan() }).await.unwrap_err();
    assert!(matches!(error, LoadError::Plan(PlanError::None { what: "stream" })));
}

#[tokio::test]
async fn the_commands_of_a_load_are_delivered_once_each_and_obeyed() {
    let (city, _nodes, client) = City::start(vec![], None).await;
    let load = Load::prepare(&client, plan()).await.unwrap().with_commands(&client, 200.0).await.unwrap();
    let outcome = load.run(&CancellationToken::new(), Duration::from_secs(30), |_| {}).await;

    let commands = outcome.commands.unwrap();
    assert_eq!(
        (commands.accepted.answered, commands.accepted.errors, commands.delivered),
        (200, 0, 200),
        "{commands:?}"
    );
    assert!(commands.delivery.p50_ms > 0.0 && commands.accepted.latency.p50_ms > 0.0, "{commands:?}");
    assert_eq!((outcome.report.stored, outcome.report.errors), (4_000, 0));
    let state = city.state();
    let succeeded = state.acknowledgements.iter().filter(|said| said.outcome() == v1::CommandOutcome::Succeeded);
    let obeyed: BTreeSet<&String> = succeeded.map(|said| &said.id).collect();
    assert_eq!(obeyed, state.commands.iter().collect());
    assert_eq!(obeyed.len(), 200);
}
