//! Nodes whose disks fail, hang, fill up or lose their power.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;

use kvarter_cluster::{NodeId, ShardId, StartError, Storage, StorageOperation};
use parking_lot::{Condvar, Mutex};

use crate::fleet::{Fleet, LIMIT, eventually};

const SHARD: ShardId = ShardId(1);
const CAPACITY: u64 = 256 << 20;

/// Three nodes on disks in memory, one shard, and its leader.
async fn three() -> (Fleet, u64) {
    let mut fleet = Fleet::in_memory(3, 1, CAPACITY);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    eventually("the preferred leader leads", || fleet.leads(2, SHARD)).await;
    (fleet, 2)
}

fn is_log_sync(operation: &StorageOperation) -> bool {
    matches!(operation, StorageOperation::Sync { path, .. } if path.extension().is_some_and(|kind| kind == "raftlog"))
}

fn is_log_write(operation: &StorageOperation) -> bool {
    matches!(operation, StorageOperation::Write { path, .. } if path.extension().is_some_and(|kind| kind == "raftlog"))
}

fn others(node: u64) -> Vec<u64> {
    (1..=3).filter(|other| *other != node).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut_of_all_nodes() {
    let (mut fleet, _) = three().await;
    for round in 0..5u64 {
        let before = fleet.notes(1, SHARD).len();
        fleet.propose_many(SHARD, 50, &format!("round-{round}")).await;
        fleet.crash(1..=3, round << 8).await;
        fleet.start_all().await;
        fleet.propose(SHARD, &format!("after-{round}")).await;
        fleet.agrees(SHARD).await;
        let notes = fleet.notes(1, SHARD);
        assert!(notes.len() > before + 50, "{before} notes, and now {}", notes.len());
        for number in 0..50 {
            let note = format!("round-{round}-{number}");
            assert_eq!(notes.iter().filter(|found| **found == note).count(), 1, "{note}");
        }
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_went_back_in_time_is_refused_and_its_leader_goes_on() {
    let (mut fleet, leader) = three().await;
    let follower = others(leader)[0];
    fleet.agrees(SHARD).await;
    fleet.stop(follower).await;
    let old = fleet.disk(follower).kill();
    fleet.swap_disk(follower, old.kill());
    fleet.start(follower).await;
    fleet.propose_many(SHARD, 20, "acknowledged").await;
    fleet.agrees(SHARD).await;
    let led = fleet.shard(leader, SHARD).leadership().borrow().term;

    fleet.stop(follower).await;
    fleet.swap_disk(follower, old.kill());
    fleet.start(follower).await;
    let heard = || fleet.shard(follower, SHARD).leadership().borrow().leader;
    eventually("it hears its leader", || heard() == Some(NodeId(leader))).await;
    for round in 0..20 {
        fleet.propose(SHARD, &format!("after-{round}")).await;
    }
    let leadership = *fleet.shard(leader, SHARD).leadership().borrow();
    assert_eq!((leadership.is_ready, leadership.term), (true, led));
    assert_eq!(fleet.notes(follower, SHARD), ["before"], "it has lost what it acknowledged, and gets nothing");
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_of_one_node_the_second_ends_and_the_first_goes_on() {
    let (mut fleet, leader) = three().await;
    let term = fleet.shard(leader, SHARD).leadership().borrow().term;
    let copy = fleet.disk(leader).copy();
    let reason = match fleet.start_second(leader, copy).await {
        Ok(second) => {
            let reason = tokio::time::timeout(LIMIT, second.expelled()).await.expect("it hears of the first");
            second.shutdown().await;
            reason
        }
        Err(reason) => reason,
    };
    assert!(matches!(reason, StartError::Refused { .. }), "{reason}");
    assert!(reason.to_string().contains("another process runs as node-2"), "{reason}");
    fleet.propose(SHARD, "after").await;
    fleet.agrees(SHARD).await;
    let leadership = *fleet.shard(leader, SHARD).leadership().borrow();
    assert_eq!((leadership.is_ready, leadership.term), (true, term));
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_a_disk_is_refused_by_who_knows_the_later_one() {
    let (mut fleet, leader) = three().await;
    let node = others(leader)[0];
    fleet.stop(node).await;
    let old = fleet.disk(node).copy();
    for _later in 0..2 {
        fleet.start(node).await;
        eventually("the others know this process", || fleet.node(node).round_trip(NodeId(leader)).is_some()).await;
        fleet.stop(node).await;
    }
    fleet.swap_disk(node, old);
    let reason = match fleet.try_start(node).await {
        Ok(()) => tokio::time::timeout(LIMIT, fleet.node(node).expelled()).await.expect("it hears of it"),
        Err(reason) => reason,
    };
    assert!(reason.to_string().contains("another process was started as node-1 later"), "{reason}");
    fleet.propose_among(&others(node), SHARD, "without it").await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_disk_of_another_cluster_ends() {
    let mut other = Fleet::new(3, 1);
    other.start_all().await;
    other.propose(SHARD, "elsewhere").await;
    other.agrees(SHARD).await;
    other.stop_all().await;
    let mut fleet = Fleet::new(3, 1);
    fleet.start_all().await;
    fleet.propose(SHARD, "before").await;
    fleet.stop(2).await;
    fleet.take_disk_of(2, other);
    let reason = match fleet.try_start(2).await {
        Ok(()) => tokio::time::timeout(LIMIT, fleet.node(2).expelled()).await.expect("it hears of it"),
        Err(reason) => reason,
    };
    assert!(matches!(reason, StartError::Refused { .. }) && reason.to_string().contains("cluster"), "{reason}");
    fleet.propose_among(&[1, 3], SHARD, "without it").await;
    for node in [1, 3] {
        eventually("it has all", || fleet.notes(node, SHARD) == ["before", "without it"]).await;
    }
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_sync_or_write_fails_acknowledges_nothing_and_must_end() {
    let fails: [fn(&StorageOperation) -> bool; 2] = [is_log_sync, is_log_write];
    let (mut fleet, leader) = three().await;
    for (round, fails) in (0u64..).zip(fails) {
        eventually("the preferred leader leads", || fleet.leads(leader, SHARD)).await;
        fleet.disk(leader).set_hook(move |operation| {
            if fails(operation) { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
        });
        // Whoever leads meanwhile: it is acknowledged by a quorum that the broken disk is no part of.
        fleet.propose(SHARD, &format!("round-{round}")).await;
        eventually("the process must end", || fleet.disk(leader).failure().is_some()).await;
        fleet.crash([leader], round).await;
        fleet.propose(SHARD, &format!("without-{round}")).await;
        fleet.start(leader).await;
        fleet.agrees(SHARD).await;
    }
    assert_eq!(fleet.notes(leader, SHARD), ["before", "round-0", "without-0", "round-1", "without-1"]);
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_can_not_read_its_log_for_a_follower_must_end_and_the_others_serve_it() {
    let (mut fleet, leader) = three().await;
    let follower = others(leader)[0];
    fleet.stop(follower).await;
    let padding = "x".repeat(512 << 10);
    let mut notes = vec!["before".to_owned()];
    // More than is kept in memory.
    for number in 0..20 {
        notes.push(format!("needle-{number}-{padding}"));
        fleet.propose(SHARD, notes.last().unwrap()).await;
    }
    let log = fleet.data_directory(leader).join("log");
    assert!(fleet.disk(leader).damage(&log, b"needle-3-").unwrap() > 0);
    // It leads on: nobody asks for what is damaged.
    fleet.propose(SHARD, "meanwhile").await;
    notes.push("meanwhile".to_owned());
    assert!(fleet.leads(leader, SHARD));
    fleet.start(follower).await;
    eventually("the process must end", || {
        fleet.disk(leader).failure().is_some_and(|reason| reason.contains("can not be read"))
    })
    .await;
    fleet.crash([leader], 0).await;
    eventually("the follower has all", || fleet.notes(follower, SHARD) == notes).await;
    fleet.stop_all().await;
}

/// A disk whose syncs wait until it is let go.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut is_shut = self.is_shut.lock();
        while *is_shut {
            self.changed.wait(&mut is_shut);
        }
    }

    fn set_shut(&self, is_shut: bool) {
        *self.is_shut.lock() = is_shut;
        self.changed.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_hangs_leads_nothing_and_ends_when_it_hangs_too_long() {
    let (mut fleet, leader) = three().await;
    let gate = Arc::new(Gate::default());
    let before = Arc::clone(&gate);
    let makes_ballast = |operation: &StorageOperation| matches!(operation, StorageOperation::CreateFile { path } if path.ends_with("ballast.new"));
    fleet.disk(leader).set_hook(move |operation| {
        if is_log_sync(operation) || makes_ballast(operation) {
            before.pass();
        }
        Ok(())
    });
    gate.set_shut(true);
    // So that whoever looks for room there hangs as well.
    Storage::remove(fleet.disk(leader), &fleet.data_directory(leader).join("ballast")).unwrap();
    let handle = fleet.shard(leader, SHARD);
    let term = handle.leadership().borrow().term;
    let (sent, ()) = tokio::join!(handle.propose(term, "hangs here".into()), async {
        eventually("the others lead", || others(leader).iter().any(|node| fleet.leads(*node, SHARD))).await;
        fleet.propose_among(&others(leader), SHARD, "elsewhere").await;
    });
    drop(sent);
    gate.set_shut(false);
    eventually("it leads again", || fleet.leads(leader, SHARD)).await;
    assert_eq!(fleet.disk(leader).failure(), None);

    gate.set_shut(true);
    fleet.node(leader).shard(SHARD).unwrap().propose(term, "of an old term".into()).await.unwrap_err();
    eventually("the process must end", || {
        fleet.disk(leader).failure().is_some_and(|reason| reason.contains("a sync of the log has not returned"))
    })
    .await;
    gate.set_shut(false);
    fleet.crash([leader], 1).await;
    fleet.propose(SHARD, "without it").await;
    fleet.start(leader).await;
    fleet.agrees(SHARD).await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_nearly_full_leads_nothing_until_there_is_room() {
    let (mut fleet, leader) = three().await;
    let is_full = |fleet: &Fleet, node: u64| fleet.node(node).disk().borrow().is_full;
    fleet.disk(leader).set_capacity(Some(fleet.disk(leader).used() * 100 / 96));
    eventually("another node leads", || is_full(&fleet, leader) && !fleet.leads(leader, SHARD)).await;
    fleet.propose_among(&others(leader), SHARD, "elsewhere").await;
    // As long as the others lead as well, none of them gives it back.
    fleet.disk(leader).set_capacity(Some(CAPACITY));
    eventually("it leads again", || fleet.leads(leader, SHARD)).await;
    assert!(!is_full(&fleet, leader));

    // When all are full, somebody leads all the same: only what comes from outside is refused, by the application.
    for node in 1..=3 {
        fleet.disk(node).set_capacity(Some(fleet.disk(node).used() * 100 / 96));
    }
    eventually("all are full", || (1..=3).all(|node| is_full(&fleet, node))).await;
    fleet.propose(SHARD, "what must be written").await;
    fleet.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ballast_is_given_up_for_a_start_on_a_full_disk_and_laid_again_when_there_is_room() {
    let ballast = |fleet: &Fleet| fleet.disk(2).exists(&fleet.data_directory(2).join("ballast")).unwrap();
    let (mut fleet, _) = three().await;
    assert!(ballast(&fleet));
    fleet.stop(2).await;
    // Something else fills the disk.
    let file = Storage::create(fleet.disk(2), &fleet.data_directory(2).join("else")).unwrap();
    file.set_length(CAPACITY - fleet.disk(2).used()).unwrap();
    fleet.start(2).await;
    assert!(!ballast(&fleet));
    let disk = *fleet.node(2).disk().borrow();
    assert!(disk.is_full && disk.free_bytes > 0, "{disk:?}");
    fleet.propose(SHARD, "there is some room").await;
    fleet.agrees(SHARD).await;
    file.set_length(0).unwrap();
    eventually("the ballast is back", || ballast(&fleet)).await;
    fleet.stop_all().await;
}

/// Set for the process that is to be aborted.
const DOOMED: &str = "KVARTER_TEST_DOOMED";
/// Above what a node needs to start, below a file of its log, KiB.
const FILE_KIB_MAX: u32 = 40 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_on_a_real_disk_aborts_the_process() {
    if std::env::var_os(DOOMED).is_some() {
        let mut fleet = Fleet::new(1, 1);
        fleet.start_all().await;
        let note = "x".repeat(512 << 10);
        for _note in 0..2 * FILE_KIB_MAX / 512 {
            fleet.propose(SHARD, &note).await;
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // A file that grows beyond the limit gives an error, once the signal for it is ignored.
    let limited = format!("trap '' XFSZ; ulimit -f {FILE_KIB_MAX}; exec \"$0\" \"$@\"");
    let child = Command::new("bash")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disks::a_write_that_fails_on_a_real_disk_aborts_the_process"])
        .env(DOOMED, "1")
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert_eq!(child.status.signal(), Some(6), "{}: {told}", child.status);
}
