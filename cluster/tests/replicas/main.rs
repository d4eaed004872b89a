//! Clusters in one process, through the front door: real Raft, real disk, real sockets, real TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disks;
mod fleet;
mod links;
mod members;
mod partitions;

use std::time::Duration;

use bytes::Bytes;
use fleet::{Fleet, eventually};
use futures::FutureExt as _;
use kvarter_cluster::{LogIndex, ProposeError, ShardId, Term};
use tokio::task::JoinSet;

const SHARD: ShardId = ShardId(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_serves_and_remembers_after_a_restart() {
    let mut fleet = Fleet::new(1, 2);
    fleet.start(1).await;
    fleet.propose(SHARD, "one").await;
    fleet.propose(SHARD, "two").await;
    fleet.stop(1).await;
    fleet.start(1).await;
    fleet.propose(SHARD, "three").await;
    assert_eq!(fleet.notes(1, SHARD), ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_spread_their_leaders_and_agree() {
    let mut fleet = Fleet::new(3, 6);
    fleet.start_all().await;
    for shard in 1..=6 {
        for round in 0..5 {
            fleet.propose(ShardId(shard), &format!("{shard}-{round}")).await;
        }
    }
    eventually("two leaders a node", || {
        (1..=3).all(|node| (1..=6).filter(|shard| fleet.leads(node, ShardId(*shard))).count() == 2)
    })
    .await;
    for shard in (1..=6).map(ShardId) {
        fleet.agrees(shard).await;
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_without_one_node_and_it_catches_up() {
    let mut fleet = Fleet::new(3, 2);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    let leader = fleet.leader(SHARD).await;
    fleet.stop(leader).await;
    fleet.propose(SHARD, "without it").await;
    fleet.start(leader).await;
    eventually("the node that was away has all", || fleet.notes(leader, SHARD) == ["before", "without it"]).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_has_every_entry_in_order_from_any_cursor() {
    let mut fleet = Fleet::new(1, 1);
    fleet.start(1).await;
    let mut indexes = Vec::new();
    for round in 0..20 {
        indexes.push(fleet.propose(SHARD, &round.to_string()).await);
    }
    for (skipped, after) in [LogIndex(0)].into_iter().chain(indexes.iter().copied()).enumerate().take(20) {
        let mut reader = fleet.shard(1, SHARD).feed(after);
        let mut read = Vec::new();
        while read.len() < 20 - skipped {
            read.extend(reader.next(7).await.unwrap().into_iter().map(|entry| entry.index));
        }
        assert_eq!(read, indexes[skipped..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_is_read_while_it_is_written_has_every_entry_once() {
    let mut fleet = Fleet::new(1, 1);
    fleet.start(1).await;
    let mut reader = fleet.shard(1, SHARD).feed(LogIndex(0));
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        let mut read = Vec::new();
        while read.len() < 20_000 {
            read.extend(reader.next(256).await.unwrap().into_iter().map(|entry| entry.entry.to_string()));
        }
        read
    });
    for round in 0..20 {
        fleet.propose_many(SHARD, 1_000, &round.to_string()).await;
    }
    assert_eq!(reading.join_next().await.unwrap().unwrap(), fleet.notes(1, SHARD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_in_another_leadership_is_certainly_not_applied() {
    let mut fleet = Fleet::new(1, 1);
    fleet.start(1).await;
    fleet.propose(SHARD, "led").await;
    let shard = fleet.shard(1, SHARD);
    let term = shard.leadership().borrow().term;
    let refused = shard.propose(Term(term.0 + 1), Bytes::from_static(b"not led")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    fleet.propose(SHARD, "led still").await;
    assert_eq!(fleet.notes(1, SHARD), ["led", "led still"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_meta_group_is_changed_from_any_node() {
    let mut fleet = Fleet::new(3, 4);
    fleet.start_all().await;
    let mut shards = Vec::new();
    for (node, district) in [(1, "centrum"), (2, "nord"), (3, "syd"), (1, "vest")] {
        shards.push(fleet.node(node).assign_district(district).await.unwrap());
    }
    shards.sort_unstable();
    assert_eq!(shards, (1..=4).map(ShardId).collect::<Vec<_>>(), "districts are spread");
    let again = fleet.node(2).assign_district("centrum").await.unwrap();
    assert_eq!(Some(&again), fleet.node(1).meta().districts.get("centrum"));

    let document = |content: &'static [u8]| vec![("kinds/lamp".to_owned(), Some(Bytes::from_static(content)))];
    let version = fleet.node(3).put_documents(document(b"first"), Some(0)).await.unwrap();
    assert!(fleet.node(2).put_documents(document(b"lost"), Some(0)).await.is_err());
    fleet.node(2).put_documents(document(b"second"), Some(version)).await.unwrap();
    for node in 1..=3 {
        eventually("the document is everywhere", || {
            fleet.node(node).meta().documents.get("kinds/lamp").is_some_and(|bytes| bytes.as_ref() == b"second")
        })
        .await;
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_answer_calls_and_leaders_leave_a_draining_node() {
    let mut fleet = Fleet::new(3, 3);
    fleet.start_all().await;
    for shard in 1..=3 {
        fleet.propose(ShardId(shard), "there").await;
    }
    let answer = fleet.node(1).call(kvarter_cluster::NodeId(2), Bytes::from_static(b"ping"), Duration::from_secs(2));
    assert_eq!(answer.await.unwrap().as_ref(), b"node-1 said ping");
    fleet.node(1).transfer_leaders(Duration::from_secs(10)).await;
    assert!((1..=3).all(|shard| !fleet.leads(1, ShardId(shard))));
    eventually("nobody will hand a leadership back", || {
        (2..=3).all(|node| fleet.node(node).is_drained(kvarter_cluster::NodeId(1)))
    })
    .await;
    fleet.node(1).set_drained(false);
    assert!(fleet.node(1).is_drained(kvarter_cluster::NodeId(1)), "a node that is about to end takes none back");
    for shard in 1..=3 {
        fleet.propose(ShardId(shard), "still there").await;
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_anothers_directory_does_not_start() {
    let mut fleet = Fleet::new(2, 1);
    fleet.start_all().await;
    fleet.stop_all().await;
    fleet.swap_directories(1, 2);
    let error = fleet.try_start(1).await.err().unwrap().to_string();
    assert!(error.contains("belongs to node-2, not to node-1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_too_long_comes_back_by_snapshot_and_its_feed_says_so() {
    let mut fleet = Fleet::new(3, 1).with_retention_entries(100);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    let away = (1..=3).find(|node| !fleet.leads(*node, SHARD)).unwrap();
    fleet.stop(away).await;
    for round in 0..50 {
        fleet.propose_many(SHARD, 100, &format!("note-{round}")).await;
    }
    let leader = fleet.leader(SHARD).await;
    eventually("old entries are purged", || fleet.shard(leader, SHARD).first_index() > LogIndex(3_000)).await;
    fleet.start(away).await;
    eventually("the node that was away has all", || fleet.notes(away, SHARD).len() == 5_001).await;
    assert_eq!(fleet.notes(away, SHARD), fleet.notes(leader, SHARD));
    let gone = fleet.shard(away, SHARD).feed(LogIndex(1)).next(10).await;
    assert!(matches!(gone, Err(kvarter_cluster::FeedError::Gone { .. })));
    fleet.propose(SHARD, "after").await;
    fleet.stop(away).await;
    fleet.start(away).await;
    eventually("its checkpoint and log agree", || fleet.notes(away, SHARD).len() == 5_002).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_under_an_old_id_is_refused_and_gets_nothing() {
    let mut fleet = Fleet::new(3, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    fleet.stop(2).await;
    fleet.wipe(2);
    let error = fleet.try_start(2).await.err().unwrap().to_string();
    assert!(error.contains("it must join under a new id"), "{error}");
    fleet.propose(SHARD, "the others go on").await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_log_under_an_intact_identity_does_not_start() {
    let mut fleet = Fleet::new(3, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    fleet.stop(2).await;
    fleet.remove_log(2);
    for _again in 0..2 {
        let error = fleet.try_start(2).await.err().unwrap().to_string();
        assert!(error.contains("is gone, and the node is of a cluster already"), "{error}");
    }
    fleet.propose(SHARD, "the others go on").await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_or_is_given_up_leaves_the_directory_to_the_next() {
    let mut fleet = Fleet::new(1, 1);
    let occupied = std::net::TcpListener::bind(fleet.address(1)).unwrap();
    let error = fleet.try_start(1).await.err().unwrap().to_string();
    assert!(error.contains("can not be listened on"), "{error}");
    drop(occupied);
    assert!(fleet.try_start(1).now_or_never().is_none());
    // What was given up ends by itself, soon.
    while let Err(error) = fleet.try_start(1).await {
        let error = error.to_string();
        assert!(error.contains("lock") || error.contains("can not be listened on"), "{error}");
    }
    fleet.propose(SHARD, "served").await;
    fleet.stop_all().await;
}

/// A cluster whose log is purged on every node, and a follower in it.
async fn purged_fleet() -> (Fleet, u64) {
    let mut fleet = Fleet::new(3, 1).with_retention_entries(100);
    fleet.start_all().await;
    for round in 0..50 {
        fleet.propose_many(SHARD, 100, &format!("note-{round}")).await;
    }
    eventually("old entries are purged", || {
        (1..=3).all(|node| fleet.shard(node, SHARD).first_index() > LogIndex(3_000))
    })
    .await;
    let follower = (1..=3).find(|node| !fleet.leads(*node, SHARD)).unwrap();
    (fleet, follower)
}

/// Waits until the replica on `node` is open and equals the leader's.
async fn agrees_with_the_leader(fleet: &Fleet, node: u64) {
    let leader = fleet.leader(SHARD).await;
    eventually("the states are equal", || {
        let replica = fleet.node(node).shard(SHARD);
        replica.is_some_and(|replica| replica.state_hash() == fleet.shard(leader, SHARD).state_hash())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_a_damaged_checkpoint_fetches_the_state_of_a_peer() {
    let (mut fleet, node) = purged_fleet().await;
    fleet.stop(node).await;
    fleet.flip_checkpoint_byte(node, SHARD);
    fleet.start(node).await;
    agrees_with_the_leader(&fleet, node).await;
    assert_eq!(fleet.notes(node, SHARD).len(), 5_000);
    fleet.propose(SHARD, "after").await;
    agrees_with_the_leader(&fleet, node).await;
    // What was fetched is its checkpoint now.
    fleet.stop_all().await;
    fleet.start(node).await;
    assert!(fleet.notes(node, SHARD).len() >= 5_000);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_checkpoints_are_garbage_waits_for_a_peer_and_loses_nothing() {
    let (mut fleet, node) = purged_fleet().await;
    fleet.stop(node).await;
    fleet.propose(SHARD, "while it is away").await;
    fleet.stop_all().await;
    fleet.garble_checkpoints(node);
    fleet.start(node).await;
    assert!(fleet.data_directory(node).join("state.damaged-1").exists());
    assert!(fleet.node(node).meta().cluster.is_some(), "the meta group's log is whole");
    assert!(fleet.node(node).shard(SHARD).is_none(), "nobody can give it the state");
    fleet.stop(node).await;
    fleet.start(node).await;
    for other in (1..=3).filter(|other| *other != node) {
        fleet.start(other).await;
    }
    fleet.propose(SHARD, "after").await;
    agrees_with_the_leader(&fleet, node).await;
    let notes = fleet.notes(node, SHARD);
    assert_eq!(notes.len(), 5_002);
    assert_eq!(notes[5_000..], ["while it is away", "after"]);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_wrong_leads_nothing_until_it_is_set_right() {
    let mut fleet = Fleet::new(3, 6);
    fleet.start_all().await;
    let leads = |node: u64| {
        let shards = fleet.node(node).shards();
        let shards = shards.borrow();
        shards.values().filter(|shard| shard.leadership().borrow().is_ready).count()
    };
    eventually("each node leads its share", || (1..=3).all(|node| leads(node) == 2)).await;
    for ahead in [600_000_000, -600_000_000] {
        fleet.set_clock_ahead(1, ahead);
        eventually("the others lead", || leads(1) == 0 && leads(2) + leads(3) == 6).await;
        fleet.set_clock_ahead(1, 0);
        eventually("it leads again", || leads(1) == 2).await;
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leadership_is_handed_to_a_node_whose_clock_is_wrong_nor_begins_there() {
    let mut fleet = Fleet::new(3, 6);
    fleet.start_all().await;
    let leads = |fleet: &Fleet, node: u64| (1..=6).filter(|shard| fleet.leads(node, ShardId(*shard))).count();
    eventually("each node leads its share", || (1..=3).all(|node| leads(&fleet, node) == 2)).await;
    fleet.set_clock_ahead(1, 600_000_000);
    eventually("the others lead", || leads(&fleet, 2) + leads(&fleet, 3) == 6).await;
    let mut began = JoinSet::new();
    for shard in 1..=6 {
        let mut leadership = fleet.shard(1, ShardId(shard)).leadership();
        began.spawn(async move { leadership.wait_for(|known| known.is_ready).await.is_ok() });
    }

    fleet.node(3).transfer_leaders(Duration::from_secs(10)).await;
    eventually("all are handed to the right one", || leads(&fleet, 2) == 6).await;
    fleet.stop(3).await;
    fleet.start(3).await;
    eventually("it leads its share again", || leads(&fleet, 3) == 2).await;
    // From now on there are two clocks alone, and elections.
    fleet.stop(2).await;
    eventually("the right one leads", || leads(&fleet, 3) == 6).await;
    assert!(began.try_join_next().is_none(), "the wrong one led for a moment");
    fleet.set_clock_ahead(1, 0);
    fleet.node(3).transfer_leaders(Duration::from_secs(10)).await;
    eventually("it leads again", || leads(&fleet, 1) == 6).await;
    fleet.stop_all().await;
}
