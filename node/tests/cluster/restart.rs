//! All nodes are gone at once.
use crate::feed;
use crate::fleet::{Fleet, NODES};
use crate::replicas;
use crate::sensors::Sensors;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_death_of_all_nodes() {
    let mut fleet = Fleet::start().await;
    let cursors = feed::cursors(fleet.client()).await;
    let mut sensors = Sensors::connect(fleet.client()).await;
    for _ in 0..20 {
        sensors.send_round().await;
    }
    sensors.acknowledged().await;
    for node in NODES {
        fleet.kill(node).await;
    }
    for node in NODES {
        fleet.restart(node);
    }
    fleet.formed().await;
    sensors.check_twins(fleet.client()).await;
    // The stream goes on too: its numbers are part of what survived.
    sensors.send_round().await;
    sensors.acknowledged().await;
    sensors.check_twins(fleet.client()).await;
    feed::check(fleet.client(), &cursors, &sensors.observations()).await;
    replicas::check_equal(&fleet, &NODES).await;
}
