//! What runs on a simulated host: a node's cluster and city as in production, and the clients that talk to it.

use std::sync::Arc;

use futures::future::LocalBoxFuture;
use kvarter_actors::{City, PeerDoor};
use kvarter_cluster::{Cluster, LogIndex, ShardId};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::stage::{DISTRICTS, Phase, SHARDS, Stage, city_config};
use super::{desk, gateway};

/// Desks beside each other at a node.
const DESKS: u64 = 2;

/// One life of `node`, until its host crashes.
pub(super) async fn run(stage: Arc<Stage>, node: u64) -> turmoil::Result {
    let (config, ports, life) = stage.begin_life(node);
    let door = PeerDoor::default();
    let cluster = match Cluster::start(config, ports, Arc::new(door.clone())).await {
        Ok(cluster) => cluster,
        Err(error) => {
            stage.accuse(format!("node-{node} does not start: {error}"));
            return Ok(());
        }
    };
    let city = City::start(cluster, door, city_config()).await;
    stage.note(&format!("node-{node} is open"));
    stage.nodes.lock().get_mut(&node).expect("it began a life").city = Some(city.clone());
    let mut random = stage.random(life + 500_000);
    let mut client_random = || rand::SeedableRng::seed_from_u64(random.random());
    let mut clients: Vec<LocalBoxFuture<'static, ()>> = Vec::new();
    for number in 0..DISTRICTS.len() {
        let random: StdRng = client_random();
        clients.push(Box::pin(gateway::run(Arc::clone(&stage), city.clone(), node, number, random)));
    }
    for desk in 1..=DESKS {
        let name = format!("order-{life}-{desk}");
        clients.push(Box::pin(desk::run(Arc::clone(&stage), city.clone(), name, client_random())));
    }
    for shard in (1..=SHARDS).map(ShardId) {
        clients.push(Box::pin(subscribe(Arc::clone(&stage), city.clone(), node, shard)));
        clients.push(Box::pin(read_feed(Arc::clone(&stage), city.clone(), node, shard)));
    }
    clients.push(Box::pin(compact(Arc::clone(&stage), city.clone(), node)));
    clients.push(Box::pin(desk::probe(Arc::clone(&stage), city.clone(), node)));
    futures::future::join_all(clients).await;
    Ok(())
}

/// Serves the subscriber of `shard`, from its cursor, whenever this node is its home.
async fn subscribe(stage: Arc<Stage>, city: City, node: u64, shard: ShardId) {
    let is_home = |stage: &Stage| stage.subscriptions.lock()[&shard.0] == node;
    loop {
        stage.until(is_home).await;
        let cursor = stage.history.lock().subscribed.get(&shard.0).and_then(|feed| Some(feed.last()?.0)).unwrap_or(0);
        let mut feed = city.feed(shard, LogIndex(cursor));
        while is_home(&stage) {
            let next = tokio::select! {
                biased;
                next = feed.next() => next,
                () = stage.until(|stage| !is_home(stage)) => break,
            };
            match next {
                Ok(entries) => {
                    let entries = entries.into_iter().map(|entry| (entry.index.0, entry.facts));
                    stage.history.lock().subscribed.entry(shard.0).or_default().extend(entries);
                }
                Err(failure) => {
                    stage.note(&format!("the feed of {shard} at node-{node}: {}", failure.message));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    break;
                }
            }
        }
    }
}

/// Writes the checkpoints and drops the logs that it is told to.
async fn compact(stage: Arc<Stage>, city: City, node: u64) {
    loop {
        stage.until(|stage| stage.has_compaction(node)).await;
        let Some((shard, upto)) = stage.next_compaction(node) else { continue };
        city.cluster().compact(shard, upto).await;
    }
}

/// Reads the feed of `shard` from where it begins, when that is asked for.
async fn read_feed(stage: Arc<Stage>, city: City, node: u64, shard: ShardId) {
    stage.until(|stage| stage.phase() == Phase::Reading).await;
    let (Some(handle), Some(view)) = (city.cluster().shard(shard), city.view(shard)) else { return };
    let begin = handle.first_index().0;
    let mut reader = handle.feed(LogIndex(begin.saturating_sub(1)));
    let mut feed = Vec::new();
    while reader.position() < view.applied {
        // What follows the last facts carries none: nothing more comes then.
        let next = tokio::time::timeout(std::time::Duration::from_millis(500), reader.next(256)).await;
        match next {
            Ok(Ok(entries)) => feed.extend(entries.into_iter().map(|entry| (entry.index.0, entry.entry))),
            Ok(Err(error)) => return stage.accuse(format!("the feed of {shard} at node-{node}: {error}")),
            Err(_nothing_more) => break,
        }
    }
    let mut history = stage.history.lock();
    if begin > 1 {
        history.begins.insert((node, shard.0), begin);
    }
    history.feeds.insert((node, shard.0), feed);
}
