//! A node is killed in the middle of the work.
use crate::feed;
use crate::fleet::{Fleet, NODES};
use crate::replicas;
use crate::sensors::Sensors;

#[tokio::test(flavor = "multi_thread")]
async fn the_city_goes_on_when_a_node_is_killed_and_when_it_returns() {
    let mut fleet = Fleet::start().await;
    let cursors = feed::cursors(fleet.client()).await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    sensors.send_round().await;
    sensors.acknowledged().await;
    for node in NODES {
        sensors.check_twins(&fleet.only(node)).await;
    }

    for node in NODES {
        for round in 0..30 {
            sensors.send_round().await;
            if round == 10 {
                fleet.kill(node).await;
            }
        }
        sensors.acknowledged().await;
        fleet.restart(node);
        fleet.formed().await;
    }
    for node in NODES {
        sensors.check_twins(&fleet.only(node)).await;
    }
    feed::check(fleet.client(), &cursors, &sensors.observations()).await;
    replicas::check_equal(&fleet, &NODES).await;
}
