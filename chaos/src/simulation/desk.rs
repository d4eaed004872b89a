//! People and programs who steer the city through one node: they set and read levels, and order commands.

use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::City;
use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use kvarter_cluster::ShardId;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::call::call;
use super::history::{Asked, Command, Operation, Told};
use super::stage::{Phase, Stage};

/// The register: `minimumLevel` of a luminaire.
pub(super) const LEVEL: u32 = 6;
const LEVEL_NAME: &str = "minimumLevel";

/// Works at `city` while there is load.
pub(super) async fn run(stage: Arc<Stage>, city: City, name: String, mut random: StdRng) {
    let mut orders = 0;
    loop {
        stage.until(|stage| matches!(stage.phase(), Phase::Load | Phase::Healed)).await;
        let devices = Stage::devices(&city);
        if !devices.is_empty() {
            let (shard, device) = devices[random.random_range(0..devices.len())].clone();
            match random.random_range(0..10) {
                0..5 => {
                    write(&stage, &city, shard, &device).await;
                }
                5..8 => read(&stage, &city, shard, &device).await,
                _ => {
                    orders += 1;
                    let timeout_ms = random.random_range(1_000..6_000);
                    order(&stage, &city, shard, &device, format!("{name}-{orders}"), timeout_ms).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(5..100))).await;
    }
}

/// Writes to each shard through `city` until it is served, once all is healed.
pub(super) async fn probe(stage: Arc<Stage>, city: City, node: u64) {
    stage.until(|stage| stage.phase() == Phase::Healed).await;
    for (shard, device) in Stage::devices(&city) {
        while !stage.served.lock().contains(&(node, shard.0)) {
            if write(&stage, &city, shard, &device).await {
                stage.note(&format!("{shard} serves at node-{node}"));
                stage.served.lock().insert((node, shard.0));
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sets the level of `device` to a value of its own; returns whether that is certain to be done.
async fn write(stage: &Stage, city: &City, shard: ShardId, device: &str) -> bool {
    let level = stage.fresh_value();
    let place = begin(stage, shard, device, Asked::Write(level));
    let value = message::Value { kind: Some(message::value::Kind::Number(level)) };
    let patch = message::PatchDesired {
        name: device.to_owned(),
        set: vec![message::NamedValue { name: LEVEL_NAME.to_owned(), value: Some(value) }],
        ..Default::default()
    };
    let told = match call(city, shard, Request::PatchDesired(patch)).await {
        Ok(Reply::DesiredPatched(message::DesiredPatched { position: Some(position), .. })) => Told::Written(position),
        Ok(other) => return wrong(stage, &other),
        Err(failure) => told_of(&failure),
    };
    end(stage, place, told);
    matches!(told, Told::Written(_))
}

async fn read(stage: &Stage, city: &City, shard: ShardId, device: &str) {
    let place = begin(stage, shard, device, Asked::Read);
    let read = message::ReadTwin { name: device.to_owned(), consistency: None };
    let told = match call(city, shard, Request::ReadTwin(read)).await {
        Ok(Reply::TwinRead(message::TwinRead { twin: Some(twin), index, .. })) => {
            let level = twin.desired.into_iter().find(|desired| desired.attribute == LEVEL);
            let value = level.and_then(|level| match level.value?.kind? {
                message::value::Kind::Number(value) => Some(value),
                _ => None,
            });
            Told::Read { index, value }
        }
        Ok(other) => {
            wrong(stage, &other);
            return;
        }
        Err(failure) => told_of(&failure),
    };
    end(stage, place, told);
}

async fn order(stage: &Stage, city: &City, shard: ShardId, device: &str, id: String, timeout_ms: u32) {
    let place = {
        let commands = &mut stage.history.lock().commands;
        commands.push(Command { shard: shard.0, id: id.clone(), is_accepted: None });
        commands.len() - 1
    };
    let level = message::Value { kind: Some(message::value::Kind::Number(40.0)) };
    let issue = message::IssueCommand {
        name: device.to_owned(),
        id: id.clone(),
        action: "set_level".to_owned(),
        arguments: vec![message::Argument { name: "level".to_owned(), value: Some(level) }],
        timeout_ms,
        priority: 2,
    };
    let is_accepted = match call(city, shard, Request::IssueCommand(issue)).await {
        Ok(_) => Some(true),
        Err(failure) => (told_of(&failure) == Told::NotApplied).then_some(false),
    };
    stage.history.lock().commands[place].is_accepted = is_accepted;
    stage.note(&format!("{id} is accepted: {is_accepted:?}"));
}

fn begin(stage: &Stage, shard: ShardId, device: &str, asked: Asked) -> usize {
    let begun_us = stage.time.elapsed_us();
    let operations = &mut stage.history.lock().operations;
    operations.push(Operation { shard: shard.0, device: device.to_owned(), asked, begun_us, ended: None });
    operations.len() - 1
}

fn end(stage: &Stage, place: usize, told: Told) {
    let asked = {
        let operation = &mut stage.history.lock().operations[place];
        operation.ended = Some((stage.time.elapsed_us(), told));
        operation.asked
    };
    stage.note(&format!("operation {place}: {asked:?}: {told:?}"));
}

fn told_of(failure: &Failure) -> Told {
    match failure.reason() {
        FailureReason::Unknown => Told::Unknown,
        _ => Told::NotApplied,
    }
}

fn wrong(stage: &Stage, reply: &Reply) -> bool {
    stage.accuse(format!("a request was answered with {reply:?}"));
    false
}
