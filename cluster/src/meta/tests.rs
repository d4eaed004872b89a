//! Which changes the meta group's leader makes, and what they come to.

use proptest::prelude::*;

use super::decide::{Decision, decide};
use super::*;
use crate::page::PageContent as _;

fn identity(node: u64, disk: u128) -> wire::Identity {
    wire::Identity {
        node,
        disk: disk.to_be_bytes().to_vec().into(),
        zone: "zone".to_owned(),
        peer_address: format!("host-{node}:1"),
        api_address: format!("host-{node}:2"),
        ..wire::Identity::default()
    }
}

fn admitted(node: u64, disk: u128) -> Change {
    Change::Admitted(wire::NodeAdmitted { node: Some(identity(node, disk)) })
}

fn placed(shard: u32, replicas: &[u64], replaces: u64) -> Change {
    Change::Placed(wire::ReplicasPlaced { shard, replicas: replicas.to_vec(), replaces })
}

fn leaving(node: u64) -> Change {
    Change::Leaving(wire::NodeLeaving { node })
}

fn removed(node: u64) -> Change {
    Change::Removed(wire::NodeRemoved { node })
}

fn settled(shard: u32, version: u64) -> Change {
    Change::Settled(wire::ReplicasSettled { shard, version })
}

/// Three nodes and one shard, settled.
fn formed() -> MetaView {
    let mut view = MetaView::default();
    let shard = wire::ShardPlaced { shard: 1, replicas: vec![1, 2, 3], ..wire::ShardPlaced::default() };
    let formed = wire::ClusterFormed {
        cluster: 7u128.to_be_bytes().to_vec().into(),
        nodes: (1..=3).map(|node| identity(node, u128::from(node))).collect(),
        shards: vec![shard],
        replication_factor: 3,
    };
    assert!(change(&mut view, Change::Formed(formed)).unwrap());
    view
}

/// Whether the change was made; the reason when it is refused.
fn change(view: &mut MetaView, change: Change) -> Result<bool, String> {
    match decide(view, change).map_err(|status| status.message().to_owned())? {
        Decision::Answer(_) => Ok(false),
        Decision::Commit(change) => {
            view.apply(&wire::MetaChange { change: Some(change) });
            Ok(true)
        }
    }
}

#[test]
fn an_id_and_a_disk_are_admitted_once_and_together() {
    let mut view = formed();
    assert_eq!(change(&mut view, admitted(4, 4)), Ok(true));
    assert_eq!(change(&mut view, admitted(4, 4)), Ok(false), "repeating it changes nothing");
    assert!(change(&mut view, admitted(2, 99)).unwrap_err().contains("must join under a new id"));
    assert!(change(&mut view, admitted(5, 2)).unwrap_err().contains("is node-2's"));
    assert_eq!(view.nodes.len(), 4);
}

#[test]
fn a_removed_id_never_comes_back_nor_does_its_disk() {
    let mut view = formed();
    change(&mut view, admitted(4, 4)).unwrap();
    assert_eq!(change(&mut view, leaving(2)), Ok(true));
    assert_eq!(change(&mut view, leaving(2)), Ok(false));
    assert_eq!(change(&mut view, removed(2)), Ok(false), "it has a replica");
    assert_eq!(change(&mut view, placed(1, &[1, 4, 3], 0)), Ok(true));
    assert_eq!(change(&mut view, removed(2)), Ok(false), "it may have a replica still");
    assert_eq!(view.shards[&ShardId(1)].leaving, [NodeId(2)]);
    assert_eq!(change(&mut view, settled(1, 0)), Ok(false), "that was the placement before");
    assert_eq!(change(&mut view, settled(1, 1)), Ok(true));
    assert_eq!(change(&mut view, removed(2)), Ok(true));
    assert_eq!(change(&mut view, leaving(2)), Ok(false), "it is gone already");
    assert!(change(&mut view, admitted(2, 2)).unwrap_err().contains("removed"));
    assert!(change(&mut view, admitted(2, 99)).unwrap_err().contains("removed"));
    assert!(change(&mut view, admitted(5, 2)).unwrap_err().contains("is node-2's"));
}

#[test]
fn a_node_that_is_needed_may_not_leave() {
    let mut view = formed();
    let refused = change(&mut view, leaving(3)).unwrap_err();
    assert!(refused.contains("have 2 nodes, but need 3: let another node join first"), "{refused}");
    change(&mut view, admitted(4, 4)).unwrap();
    assert_eq!(change(&mut view, leaving(3)), Ok(true));
    assert!(change(&mut view, leaving(1)).is_err());
    assert!(change(&mut view, leaving(9)).unwrap_err().contains("no node-9"));
}

#[test]
fn a_placement_replaces_the_one_that_its_planner_saw() {
    let mut view = formed();
    change(&mut view, admitted(4, 4)).unwrap();
    assert_eq!(change(&mut view, placed(1, &[4, 2, 3], 0)), Ok(true));
    assert_eq!(change(&mut view, placed(1, &[1, 4, 3], 0)), Ok(false));
    for nonsense in [placed(1, &[], 1), placed(1, &[4, 4], 1), placed(1, &[9], 1), placed(2, &[1], 0)] {
        assert_eq!(change(&mut view, nonsense), Ok(false));
    }
    // The move is turned before it is done: both nodes may have something.
    assert_eq!(change(&mut view, placed(1, &[1, 2, 3], 1)), Ok(true));
    let record = &view.shards[&ShardId(1)];
    assert_eq!((record.leaving.as_slice(), record.phase, record.version), ([NodeId(4)].as_slice(), Phase::Moving, 2));
}

#[test]
fn another_preferred_leader_is_no_move() {
    let mut view = formed();
    assert_eq!(change(&mut view, placed(1, &[3, 1, 2], 0)), Ok(true));
    let record = &view.shards[&ShardId(1)];
    assert_eq!((record.replicas[0], record.phase), (NodeId(3), Phase::Settled));
}

#[test]
fn a_cluster_of_the_first_versions_has_the_replicas_that_it_had() {
    let view = MetaView { replication_factor: 0, ..formed() };
    assert_eq!(view.replication_factor(), 3);
    assert_eq!(view.shards[&ShardId(1)].phase, Phase::Settled);
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..7u64, 1..7u128).prop_map(|(node, disk)| admitted(node, disk)),
        (1..7u64).prop_map(leaving),
        (1..7u64).prop_map(removed),
        (prop::collection::vec(1..7u64, 0..4), 0..6u64).prop_map(|(replicas, replaces)| placed(1, &replicas, replaces)),
        (0..6u64).prop_map(|version| settled(1, version)),
    ]
}

proptest! {
    #[test]
    fn no_order_of_changes_loses_a_replica_or_brings_an_id_back(asked in prop::collection::vec(changes(), 0..60)) {
        let mut view = formed();
        let mut gone = std::collections::BTreeSet::new();
        for ask in asked {
            let before = view.clone();
            // A refusal changes nothing.
            if change(&mut view, ask).is_err() {
                prop_assert_eq!(&view, &before);
            }
            gone.extend(before.nodes.keys().copied().filter(|node| !view.nodes.contains_key(node)));
            prop_assert!(gone.iter().all(|node| !view.nodes.contains_key(node)));
            let shard = &view.shards[&ShardId(1)];
            prop_assert!(!shard.replicas.is_empty() && shard.replicas.iter().chain(&shard.leaving).all(|node| view.nodes.contains_key(node)));
            let mut bytes = Vec::new();
            view.encode(&mut bytes);
            prop_assert_eq!(MetaView::decode(bytes.into()).unwrap(), view.clone());
        }
    }

    #[test]
    fn hostile_bytes_decode_to_a_state_or_an_error(bytes: Vec<u8>) {
        drop(MetaView::decode(bytes.clone().into()));
        if let Ok(change) = MetaState::decode(&bytes.into()) {
            formed().apply(&change);
        }
    }
}

fn raised(version: u32, nodes: &[u64]) -> Change {
    Change::VersionRaised(wire::VersionRaised { version, nodes: nodes.to_vec() })
}

#[test]
fn the_version_rises_once_every_member_knows_the_higher_one() {
    let mut view = formed();
    assert_eq!(view.version(), 1);
    let knows = |versions: [Option<u32>; 3]| move |node: NodeId| versions[usize::try_from(node.0).unwrap() - 1];
    assert_eq!(view.next_version(knows([Some(3), Some(2), Some(4)])), Some(2));
    assert_eq!(view.next_version(knows([Some(2), Some(1), Some(2)])), None, "one would not understand");
    assert_eq!(view.next_version(knows([Some(2), None, Some(2)])), None, "one has not told");
    assert_eq!(change(&mut view, raised(2, &[1, 2])), Ok(false), "the members were others when it was asked");
    assert_eq!(change(&mut view, raised(2, &[1, 2, 3])), Ok(true));
    assert_eq!(change(&mut view, raised(2, &[1, 2, 3])), Ok(false));
    let mut bytes = Vec::new();
    view.encode(&mut bytes);
    assert_eq!(MetaView::decode(bytes.into()).unwrap().version(), 2);
}

#[test]
fn a_newcomer_that_could_not_read_what_is_written_is_refused() {
    let mut view = formed();
    assert_eq!(change(&mut view, raised(2, &[1, 2, 3])), Ok(true));
    let refusal = change(&mut view, admitted(4, 4)).unwrap_err();
    assert_eq!(refusal, "node-4 knows cluster version 1, the cluster has 2: upgrade it");
    let newer = wire::Identity { version: 2, ..identity(4, 4) };
    assert_eq!(change(&mut view, Change::Admitted(wire::NodeAdmitted { node: Some(newer) })), Ok(true));
}
