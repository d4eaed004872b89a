//! Replicas whose links are cut, one way or both: what may be written, what is told, and what is left after healing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kvarter_cluster::{ProposeError, ShardId};

use crate::fleet::{Fleet, LIMIT, eventually};
use crate::links::Links;

const SHARD: ShardId = ShardId(1);

/// A fleet of three with one shard, its leader, and the two others.
async fn three() -> (Fleet, Links, u64, Vec<u64>) {
    let (mut fleet, links) = Fleet::linked(3, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    // Only there does the leadership stay by itself.
    eventually("the preferred leader leads", || fleet.leads(2, SHARD)).await;
    (fleet, links, 2, vec![1, 3])
}

fn cut_off(links: &Links, node: u64, others: &[u64]) {
    for other in others {
        links.cut(node, *other);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_acknowledges_nothing_and_nothing_acknowledged_is_lost() {
    let (fleet, links, leader, others) = three().await;
    let deposed = fleet.shard(leader, SHARD);
    let term = deposed.leadership().borrow().term;
    cut_off(&links, leader, &others);

    let open = deposed.propose(term, Bytes::from_static(b"open"));
    let elsewhere = async {
        for round in 0..10 {
            fleet.propose_among(&others, SHARD, &format!("acknowledged-{round}")).await;
        }
    };
    let (open, ()) = tokio::join!(tokio::time::timeout(LIMIT, open), elsewhere);
    let open = open.expect("it ends although the cut lasts");
    assert!(matches!(open, Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })), "{open:?}");
    let late = deposed.propose(term, Bytes::from_static(b"late")).await;
    assert!(matches!(late, Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })), "{late:?}");
    assert!(deposed.read_index().await.is_err());

    links.heal();
    fleet.propose_among(&others, SHARD, "healed").await;
    fleet.agrees(SHARD).await;
    let rounds = (0..10).map(|round| format!("acknowledged-{round}"));
    let expected: Vec<_> = ["before".to_owned()].into_iter().chain(rounds).chain(["healed".to_owned()]).collect();
    for node in 1..=3 {
        // Neither note of the deposed leader ever left it, so both must be gone.
        assert_eq!(fleet.notes(node, SHARD), expected, "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_whose_quorum_comes_back_late_is_unknown_and_applied_once() {
    let (fleet, links, leader, others) = three().await;
    let handle = fleet.shard(leader, SHARD);
    let term = handle.leadership().borrow().term;
    // Nobody can be elected either: the entry waits, and commits once the three hear each other again.
    cut_off(&links, leader, &others);
    links.cut(others[0], others[1]);
    let waiting = tokio::time::timeout(LIMIT, handle.propose(term, Bytes::from_static(b"waiting"))).await;
    let waiting = waiting.expect("it ends although the cut lasts");
    assert!(matches!(waiting, Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })), "{waiting:?}");
    assert_eq!(fleet.notes(leader, SHARD), ["before"]);

    links.heal();
    fleet.propose(SHARD, "healed").await;
    fleet.agrees(SHARD).await;
    let notes = fleet.notes(leader, SHARD);
    let expected: &[&str] = match waiting {
        Err(ProposeError::NotLeader { .. }) => &["before", "healed"],
        // Whoever leads next may have the entry or not.
        _ if notes.len() == 2 => &["before", "healed"],
        _ => &["before", "waiting", "healed"],
    };
    assert_eq!(notes, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_cut_stops_a_shard_for_a_while_at_most() {
    let (fleet, links, leader, others) = three().await;
    // The leader is not heard; then it hears nobody; then one follower does not hear it, or late.
    for other in &others {
        links.cut_one_way(leader, *other);
    }
    fleet.propose_among(&others, SHARD, "not heard").await;
    links.heal();
    eventually("the preferred leader is back", || fleet.leads(leader, SHARD)).await;
    fleet.propose(SHARD, "healed").await;

    for other in &others {
        links.cut_one_way(*other, leader);
    }
    fleet.propose_among(&others, SHARD, "hears nobody").await;
    links.heal();
    eventually("the preferred leader is back", || fleet.leads(leader, SHARD)).await;
    fleet.propose(SHARD, "healed again").await;

    links.cut_one_way(leader, others[0]);
    fleet.propose(SHARD, "not heard by one").await;
    links.heal();
    links.delay(leader, others[0], Duration::from_millis(300));
    fleet.propose(SHARD, "heard late by one").await;
    links.heal();

    fleet.agrees(SHARD).await;
    let expected =
        ["before", "not heard", "healed", "hears nobody", "healed again", "not heard by one", "heard late by one"];
    assert_eq!(fleet.notes(others[0], SHARD), expected);
}

/// Waits until `node` tells an `age`. `has` is all that it has of what is committed now, and it tells no less than the time since
/// then.
async fn tells_its_age(fleet: &Fleet, node: u64, has: &[String], age: Duration) {
    let committed = Instant::now();
    eventually("the age is told", || {
        let since_committed = committed.elapsed();
        let told = fleet.shard(node, SHARD).staleness().unwrap();
        assert_eq!(fleet.notes(node, SHARD), has, "nothing reaches it");
        assert!(told >= since_committed, "{told:?} is told {since_committed:?} after a write that node {node} lacks");
        told > age
    })
    .await;
}

fn is_fresh(fleet: &Fleet, node: u64) -> bool {
    fleet.shard(node, SHARD).staleness().unwrap() < Duration::from_secs(1)
}

/// Waits until `node` is fresh and has more than `had`.
async fn catches_up(fleet: &Fleet, node: u64, had: &[String]) {
    let has_more = || is_fresh(fleet, node) && fleet.notes(node, SHARD).len() > had.len();
    eventually("it is fresh and has the note", has_more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lacks_a_write_tells_an_age_above_the_writes() {
    let (fleet, links, leader, _) = three().await;
    // First the leader is cut off, then a follower.
    for lonely in [leader, 1] {
        eventually("the preferred leader leads", || fleet.leads(leader, SHARD)).await;
        fleet.agrees(SHARD).await;
        let others: Vec<_> = (1..=3).filter(|node| *node != lonely).collect();
        let has = fleet.notes(lonely, SHARD);
        cut_off(&links, lonely, &others);
        fleet.propose_among(&others, SHARD, "elsewhere").await;
        tells_its_age(&fleet, lonely, &has, Duration::from_secs(3)).await;
        eventually("the majority is fresh", || others.iter().all(|node| is_fresh(&fleet, *node))).await;
        links.heal();
        catches_up(&fleet, lonely, &has).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_hears_a_leader_without_a_quorum_tells_an_age_above_the_writes() {
    let (mut fleet, links) = Fleet::linked(5, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    let preferred = fleet.node(1).meta().shards[&SHARD].replicas[0].0;
    eventually("the preferred leader leads", || fleet.leads(preferred, SHARD)).await;
    fleet.agrees(SHARD).await;
    let companion = (1..=5).find(|node| *node != preferred).unwrap();
    let others: Vec<_> = (1..=5).filter(|node| ![preferred, companion].contains(node)).collect();
    let has = fleet.notes(companion, SHARD);
    for node in [preferred, companion] {
        cut_off(&links, node, &others);
    }
    fleet.propose_among(&others, SHARD, "elsewhere").await;
    let leader = fleet.shard(companion, SHARD).leadership().borrow().leader;
    assert_eq!(leader.map(|leader| leader.0), Some(preferred), "it hears the old one still");
    tells_its_age(&fleet, companion, &has, Duration::from_secs(3)).await;
    links.heal();
    catches_up(&fleet, companion, &has).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaders_word_that_arrives_late_makes_no_replica_fresh() {
    let (fleet, links, leader, _) = three().await;
    let follower = 1;
    fleet.agrees(SHARD).await;
    let has = fleet.notes(follower, SHARD);
    // What the leader says is held up until it has given the connection up: a new one does not come about, so that what is
    // written from then on is not among it.
    links.cut_one_way(leader, follower);
    tells_its_age(&fleet, follower, &has, Duration::from_secs(6)).await;
    fleet.propose_among(&[leader, 3], SHARD, "elsewhere").await;
    links.cut_one_way(follower, leader);
    links.cut(follower, 3);
    links.heal_one_way(leader, follower);
    tells_its_age(&fleet, follower, &has, Duration::from_secs(9)).await;
    links.heal();
    catches_up(&fleet, follower, &has).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_heard_nobody_since_its_start_claims_no_age() {
    let mut fleet = Fleet::new(3, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    fleet.agrees(SHARD).await;
    fleet.stop_all().await;
    fleet.start(1).await;
    eventually("its notes are back", || fleet.notes(1, SHARD) == ["before"]).await;
    assert_eq!(fleet.shard(1, SHARD).staleness(), None);
    fleet.start(2).await;
    eventually("it is told", || fleet.shard(1, SHARD).staleness().is_some()).await;
}
