//! Nodes that come and go: joining, being given replicas, being replaced and removed, with writes going on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use kvarter_cluster::{LogIndex, MetaError, NodeId, Phase, ShardId, StartError};

use crate::fleet::{Fleet, eventually};

const SHARDS: u32 = 4;

fn shards() -> impl Iterator<Item = ShardId> {
    (1..=SHARDS).map(ShardId)
}

/// Nodes that `node` sees a replica of `shard` placed on.
fn placed(fleet: &Fleet, node: u64, shard: ShardId) -> BTreeSet<u64> {
    fleet.node(node).meta().shards[&shard].replicas.iter().map(|node| node.0).collect()
}

/// Waits until no shard is under way, as `node` sees it, and every shard has its replicas open.
async fn at_rest(fleet: &Fleet, node: u64) {
    eventually("no shard moves", || {
        let meta = fleet.node(node).meta();
        meta.shards.values().all(|shard| shard.phase == Phase::Settled) && !meta.shards.is_empty()
    })
    .await;
}

/// Waits until `node` has as many replicas as the others, within one.
async fn is_loaded(fleet: &Fleet, node: u64) {
    eventually("it has its share of the replicas", || {
        let meta = fleet.node(node).meta();
        let loads: Vec<_> = meta.nodes.keys().map(|node| meta.replicas_on(*node)).collect();
        let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
        // Its own copy of the meta group, which is asked, may not know of it yet.
        meta.nodes.contains_key(&NodeId(node))
            && spread <= 1
            && meta.shards.values().all(|shard| shard.phase == Phase::Settled)
    })
    .await;
}

/// Writes to every shard in turn until `done`, and returns what was acknowledged.
async fn write_until(fleet: &Fleet, nodes: &[u64], done: &AtomicBool) -> Vec<(ShardId, String)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        for shard in shards() {
            if done.load(Ordering::Relaxed) {
                return acknowledged;
            }
            let note = format!("under-way-{number}");
            if fleet.try_propose_among(nodes, shard, &note).await.is_ok() {
                acknowledged.push((shard, note));
            }
        }
    }
    acknowledged
}

/// Demands that every replica, on whichever node, has each acknowledged note once, and that they are equal.
async fn check(fleet: &Fleet, nodes: &[u64], acknowledged: &[(ShardId, String)]) {
    for shard in shards() {
        fleet.propose_among(nodes, shard, "last").await;
        let on: Vec<u64> = placed(fleet, nodes[0], shard).into_iter().filter(|node| nodes.contains(node)).collect();
        assert_eq!(on.len(), 3, "{shard} is on {on:?}");
        eventually("equal replicas", || {
            let mut hashes = on.iter().map(|node| fleet.node(*node).shard(shard).map(|replica| replica.state_hash()));
            let first = hashes.next().flatten();
            first.is_some() && hashes.all(|hash| hash == first)
        })
        .await;
        let notes = fleet.notes(on[0], shard);
        for (_, note) in acknowledged.iter().filter(|(of, _)| *of == shard) {
            assert_eq!(notes.iter().filter(|known| *known == note).count(), 1, "{shard}: {note}");
        }
    }
}

async fn three() -> Fleet {
    let mut fleet = Fleet::new(3, SHARDS);
    fleet.start_all().await;
    for shard in shards() {
        fleet.propose(shard, "before").await;
    }
    at_rest(&fleet, 1).await;
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_joins_gets_its_share_and_serves() {
    let mut fleet = three().await;
    fleet.add(4);
    fleet.start(4).await;
    is_loaded(&fleet, 4).await;
    assert_eq!(fleet.node(4).meta().nodes.len(), 4);
    let here = fleet.node(4).shards().borrow().len();
    assert_eq!(here, 3, "twelve replicas on four nodes");
    check(&fleet, &[1, 2, 3, 4], &[]).await;
    for shard in shards() {
        eventually("who has no replica knows the leader as well", || {
            (1..=4).all(|node| fleet.node(node).leader(shard).is_some())
        })
        .await;
        let on = placed(&fleet, 4, shard);
        let off = (1..=4).find(|node| !on.contains(node)).unwrap();
        eventually("the replica that left is closed", || fleet.node(off).shard(shard).is_none()).await;
    }
    // It finds its way back by itself, as do those that lost replicas.
    fleet.stop_all().await;
    fleet.start_all().await;
    check(&fleet, &[1, 2, 3, 4], &[]).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_was_cut_off_goes_on() {
    let mut fleet = three().await;
    fleet.add(4);
    // It is admitted, and stopped before it has anything.
    assert!(fleet.is_given_up_at_once(4).await);
    fleet.start_again(4).await;
    assert_eq!(fleet.node(1).meta().nodes.len(), 4);
    is_loaded(&fleet, 4).await;
    check(&fleet, &[1, 2, 3, 4], &[]).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_is_replaced_under_a_new_id_while_writes_go_on() {
    let mut fleet = three().await;
    fleet.stop(2).await;
    fleet.wipe(2);
    let refused = fleet.try_start(2).await.err().unwrap().to_string();
    assert!(refused.contains("it must join under a new id"), "{refused}");
    fleet.add(4);
    fleet.start(4).await;

    let done = AtomicBool::new(false);
    let replace = async {
        fleet.node(1).remove_node(NodeId(2)).await.unwrap();
        eventually("the old one is gone", || fleet.node(1).meta().removed.contains_key(&NodeId(2))).await;
        at_rest(&fleet, 1).await;
        done.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(write_until(&fleet, &[1, 3, 4], &done), replace);
    assert!(acknowledged.len() > 10, "writes went on: {}", acknowledged.len());
    for shard in shards() {
        assert_eq!(placed(&fleet, 1, shard), [1, 3, 4].into());
    }
    check(&fleet, &[1, 3, 4], &acknowledged).await;

    // Neither the id nor anything else brings it back.
    let removed = fleet.try_start(2).await.err().unwrap();
    assert!(matches!(removed, StartError::Removed { node: NodeId(2) }), "{removed}");
    fleet.wipe(2);
    fleet.joins(2);
    let removed = fleet.try_start(2).await.err().unwrap();
    assert!(matches!(removed, StartError::Removed { node: NodeId(2) }), "{removed}");
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_is_removed_and_hears_of_it() {
    let mut fleet = three().await;
    let refused = fleet.node(1).remove_node(NodeId(3)).await;
    assert!(matches!(refused, Err(MetaError::Refused { .. })), "{refused:?}");
    let unknown = fleet.node(1).remove_node(NodeId(9)).await;
    assert!(matches!(unknown, Err(MetaError::NotFound { .. })), "{unknown:?}");
    fleet.add(4);
    fleet.start(4).await;
    // Whoever leads the meta group goes, so that it has to hand that over as well.
    let (leader, _) = fleet.node(1).leader(ShardId::META).unwrap();
    let others: Vec<u64> = (1..=4).filter(|node| *node != leader.0).collect();
    fleet.node(others[0]).remove_node(leader).await.unwrap();
    tokio::time::timeout(crate::fleet::LIMIT, fleet.node(leader.0).expelled()).await.expect("it hears of it");
    fleet.stop(leader.0).await;
    for shard in shards() {
        assert_eq!(placed(&fleet, others[0], shard), others.iter().copied().collect());
    }
    check(&fleet, &others, &[]).await;
    assert_eq!(fleet.node(others[0]).remove_node(leader).await, Ok(()), "repeating it is harmless");
    let removed = fleet.try_start(leader.0).await;
    let told = match removed {
        Err(error) => matches!(error, StartError::Removed { .. }),
        // Its own log may not have the end of its membership. The others tell it.
        Ok(()) => {
            let told = tokio::time::timeout(crate::fleet::LIMIT, fleet.node(leader.0).expelled()).await;
            fleet.stop(leader.0).await;
            told.is_ok()
        }
    };
    assert!(told);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_go_on_when_whoever_drives_them_is_killed() {
    let mut fleet = three().await;
    for shard in shards() {
        fleet.propose_many(shard, 200, "ballast").await;
    }
    fleet.add(4);
    fleet.add(5);
    fleet.start(4).await;
    fleet.start(5).await;
    fleet.node(1).remove_node(NodeId(2)).await.unwrap();
    // The meta group's leader plans, each shard's leader changes its members: each of them dies once in the middle.
    for _ in 0..2 {
        eventually("a shard is on its way", || {
            let meta = fleet.node(4).meta();
            meta.removed.contains_key(&NodeId(2)) || meta.shards.values().any(|shard| shard.phase == Phase::Moving)
        })
        .await;
        let moving = {
            let meta = fleet.node(4).meta();
            meta.shards.iter().find(|(_, shard)| shard.phase == Phase::Moving).map(|(shard, _)| *shard)
        };
        let drivers = [fleet.node(4).leader(ShardId::META), moving.and_then(|shard| fleet.node(4).leader(shard))];
        let victim = drivers.into_iter().flatten().map(|(node, _)| node.0).find(|node| [1, 3].contains(node));
        let Some(victim) = victim else { continue };
        fleet.kill(victim);
        for shard in shards() {
            let running: Vec<u64> = fleet.running().collect();
            fleet.propose_among(&running, shard, &format!("without-{victim}")).await;
        }
        fleet.start_again(victim).await;
    }
    eventually("the node is gone", || fleet.node(4).meta().removed.contains_key(&NodeId(2))).await;
    is_loaded(&fleet, 4).await;
    check(&fleet, &[1, 3, 4, 5], &[]).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_by_snapshot_serves_the_feed_that_it_has() {
    let mut fleet = Fleet::new(3, 1).with_retention_entries(100);
    fleet.start_all().await;
    let shard = ShardId(1);
    for round in 0..50 {
        fleet.propose_many(shard, 100, &format!("note-{round}")).await;
    }
    let leader = fleet.leader(shard).await;
    eventually("old entries are purged", || fleet.shard(leader, shard).first_index() > LogIndex(3_000)).await;
    let mut reader = fleet.shard(2, shard).feed(fleet.shard(2, shard).view().applied);
    fleet.add(4);
    fleet.start(4).await;
    fleet.node(1).remove_node(NodeId(2)).await.unwrap();
    eventually("it is full", || fleet.node(4).shard(shard).is_some() && fleet.notes(4, shard).len() == 5_000).await;
    // Readers of a replica that leaves are told so, and do not wait for ever.
    let end = async { while reader.next(100).await.is_ok() {} };
    tokio::time::timeout(crate::fleet::LIMIT, end).await.expect("it ends");
    let gone = fleet.shard(4, shard).feed(LogIndex(1)).next(10).await;
    assert!(matches!(gone, Err(kvarter_cluster::FeedError::Gone { .. })));
    fleet.stop_all().await;
}
