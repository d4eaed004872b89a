//! A world is played once, whatever happens to its connections, and its lamps obey once.
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use kvarter_api::v1;
use kvarter_simulator::{
    LEVEL_ARGUMENT, PlayOptions, PlayStatus, Player, SET_LEVEL, Signal, SimulatedKind, Speed, World, wall_clock,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::city::City;

const OPTIONS: PlayOptions = PlayOptions { speed: Speed::Max, lanes: 2, patience: Duration::from_secs(30) };

/// Three hours of two segments, with a late row, and a garage with a repeated row.
fn replay() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    let mut traffic = String::from("ts_utc,report_id,vehicle_count,avg_speed_kmh,median_travel_s\n");
    for minute in (0..180).step_by(5) {
        let (hour, minute) = (minute / 60, minute % 60);
        for segment in 1..=2 {
            writeln!(traffic, "2014-09-01T0{hour}:{minute:02}:00Z,{segment},{hour},50,{minute}").expect("written");
        }
    }
    traffic.push_str("2014-09-01T00:02:00Z,2,9,9,9\n");
    write("aarhus_traffic_5min.csv", &traffic);
    write(
        "aarhus_traffic_sensors.csv",
        "report_id,lat1,lon1,lat2,lon2,distance_m,road_type,street1,postal_code\n\
         1,56.0,10.0,56.01,10.0,400,ROAD,,8200\n2,56.0,10.1,56.01,10.1,400,ROAD,,8000\n",
    );
    write(
        "aarhus_parking.csv",
        "update_time,garage_code,vehicle_count,total_spaces\n\
         2014-09-01 00:10:04,NORREPORT,3,65\n2014-09-01 00:10:04,NORREPORT,3,65\n",
    );
    World::replay(dir.path(), None).expect("valid files")
}

#[tokio::test]
async fn a_replay_has_the_outcomes_that_its_files_foretell_over_lost_connections() {
    let (city, _nodes, client) = City::start(vec![4, 9, 3], None).await;
    let player = Player::prepare(&client, replay(), OPTIONS).await.unwrap();
    let status = watch::Sender::new(PlayStatus::default());
    let report = player.run(&CancellationToken::new(), &status).await;

    assert!(report.is_as_expected(), "{report:?}");
    assert_eq!((report.readings_late, report.readings_duplicate, report.errors), (3, 2, 0));
    assert!(report.disconnects >= 2, "{}", report.disconnects);
    assert_eq!(report.readings_sent, report.sensor_readings + report.lamp_readings);
    let stored: usize = city.state().readings.values().map(|observations| observations.len()).sum();
    assert_eq!(stored as u64, report.readings_stored + report.readings_late);
    assert_eq!(status.borrow().simulated, "2014-09-01T02:55:00Z".parse().unwrap());
}

#[tokio::test]
async fn a_lamp_obeys_a_repeated_command_once_and_reports_its_new_level() {
    let start = "2025-03-03T00:00:00Z".parse().unwrap();
    let world = World::town(7, start);
    let lamp = world.devices().find(|device| device.kind == SimulatedKind::Luminaire).unwrap().name;
    let delivery = v1::CommandDelivery {
        id: "dim".to_owned(),
        action: SET_LEVEL.to_owned(),
        arguments: vec![v1::Argument {
            name: LEVEL_ARGUMENT.to_owned(),
            value: Some(v1::Value { kind: Some(v1::value::Kind::Number(40.0)) }),
        }],
        deadline: Some((SystemTime::from(wall_clock()) + Duration::from_secs(600)).into()),
        epoch: 1,
        ..Default::default()
    };
    let (city, _nodes, client) = City::start(vec![], Some((lamp.clone(), delivery))).await;
    let options = PlayOptions { speed: Speed::Times(600.0), ..OPTIONS };
    let player = Player::prepare(&client, world, options).await.unwrap();
    let (stop, status) = (CancellationToken::new(), watch::Sender::new(PlayStatus::default()));
    let playing = player.run(&stop, &status);
    let watching = async {
        city.acknowledged(3).await;
        stop.cancel();
    };
    let (report, ()) = tokio::join!(playing, watching);

    assert_eq!((report.commands_executed, report.readings_unanswered), (1, 0), "{report:?}");
    let state = city.state();
    assert!(
        state.acknowledgements.iter().all(|said| said.id == "dim" && said.outcome() == v1::CommandOutcome::Succeeded)
    );
    let number = u32::try_from(Signal::LuminaireDimmingLevel as usize + 1).unwrap();
    assert!(state.readings[&(lamp, number)].iter().any(|(_, bits)| *bits == 40.0_f64.to_bits()));
}
