//! What the city answers when its own code fails, through the front door: what makes it fail is known in this crate alone. Other
//! tests of the front door are in `tests/city`.

use kvarter_cluster::ShardId;

use super::City;
use crate::DeviceNumber;
use crate::decide::poison;
use crate::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use fleet::{Fleet, call, eventually};
use gateway::Gateway;

#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../../tests/city/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../../tests/city/gateway.rs"]
mod gateway;

const LAMP: (&str, &str) = ("a/lamp", "luminaire");
const NEIGHBOUR: (&str, &str) = ("a/neighbour", "luminaire");
const LEVEL: u16 = 1;
const MIDNIGHT_US: i64 = 1_419_120_000_000_000;

async fn set_level(city: &City, shard: ShardId, id: &str) -> Result<Reply, Failure> {
    let level = message::Value { kind: Some(message::value::Kind::Number(40.0)) };
    let command = message::IssueCommand {
        name: LAMP.0.to_owned(),
        id: id.to_owned(),
        action: "set_level".to_owned(),
        arguments: vec![message::Argument { name: "level".to_owned(), value: Some(level) }],
        timeout_ms: 60_000,
        priority: 2,
    };
    call(city, shard, Request::IssueCommand(command)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_outlives_what_its_own_code_panics_on() {
    let mut fleet = Fleet::new(1);
    fleet.start_all().await;
    let city = fleet.city(1).clone();
    eventually("the built-in kinds", async || city.catalog().borrow().kind("luminaire").is_some()).await;
    let shard = city.assign_district("a").await.unwrap();
    let mut gateway = Gateway::open(&city, shard, 7, &[LAMP, NEIGHBOUR]).await;
    let [lamp, neighbour]: [DeviceNumber; 2] = gateway.devices[..].try_into().unwrap();
    let epoch = city.view(shard).unwrap().state.epoch();

    let rows = [(lamp, LEVEL, MIDNIGHT_US, poison::VALUE), (neighbour, LEVEL, MIDNIGHT_US, 80.0)];
    let submitted = gateway.submit(&rows).await;
    assert_eq!((submitted.outcomes, submitted.rejections), (vec![4, 1], vec![7]));
    let failure = set_level(&city, shard, poison::WORD).await.unwrap_err();
    assert_eq!(failure.reason(), FailureReason::Defect);
    assert!(failure.message.contains("command `poison` to device `a/lamp`"), "{}", failure.message);
    set_level(&city, shard, "sound").await.unwrap();
    assert_eq!(gateway.command_with_id("sound").await.0, lamp);
    assert_eq!(gateway.submit(&[(lamp, LEVEL, MIDNIGHT_US, 80.0)]).await.outcomes, [1]);

    assert_eq!(city.defects(), 2, "one for the part, one for the command");
    assert_eq!(city.view(shard).unwrap().state.epoch(), epoch, "the shard's actor was never started again");
    drop((gateway, city));
    fleet.stop_all().await;
}
