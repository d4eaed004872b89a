//! The Raft library's types as this crate uses them, and their form on the wire and on disk.
//! No type of the library leaves the crate.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{EmptyNode, EntryPayload};
use openraft_rt_tokio::TokioRuntime;

use crate::{DamagedBytes, wire};

/// An opaque payload of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The answer of `apply`: nothing, since the proposer knows what it proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied;

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("applied")
    }
}

/// tokio, with random numbers that follow from the seed of [`seeded`].
type Runtime = DeterministicRng<TokioRuntime>;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = EmptyNode,
        AsyncRuntime = Runtime,
);

/// Runs `task` so that all random numbers of the Raft library in it, and in what it spawns, follow from `seed`. The library
/// spawns nowhere else: it would panic.
pub(crate) fn seeded<F: Future>(seed: u64, task: F) -> impl Future<Output = F::Output> + use<F> {
    Runtime::scope(seed, task)
}

pub(crate) type LeaderId = openraft::alias::CommittedLeaderIdOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

fn missing(field: &str) -> DamagedBytes {
    DamagedBytes { reason: format!("{field} is missing") }
}

pub(crate) fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.committed_leader_id().term, node: id.committed_leader_id().node_id, index: id.index() }
}

pub(crate) fn log_id_from_wire(id: wire::LogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.node }, id.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id().term, node: vote.leader_id().node_id, committed: vote.is_committed() }
}

pub(crate) fn vote_from_wire(vote: Option<wire::Vote>) -> Result<Vote, DamagedBytes> {
    let vote = vote.ok_or_else(|| missing("vote"))?;
    Ok(if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) })
}

fn membership_to_wire(membership: &Membership) -> wire::Membership {
    let voters = membership.get_joint_config().iter();
    wire::Membership {
        voters: voters.map(|set| wire::NodeSet { nodes: set.iter().copied().collect() }).collect(),
        learners: membership.learner_ids().collect(),
    }
}

fn membership_from_wire(membership: wire::Membership) -> Membership {
    let voters: Vec<BTreeSet<u64>> = membership.voters.into_iter().map(|set| set.nodes.into_iter().collect()).collect();
    let nodes: BTreeSet<u64> = voters.iter().flatten().copied().chain(membership.learners).collect();
    Membership::new_with_defaults(voters, nodes)
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(
    stored: Option<wire::StoredMembership>,
) -> Result<StoredMembership, DamagedBytes> {
    let stored = stored.ok_or_else(|| missing("membership"))?;
    let membership = membership_from_wire(stored.membership.ok_or_else(|| missing("membership"))?);
    Ok(StoredMembership::new(stored.log_id.map(log_id_from_wire), membership))
}

pub(crate) fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let leader = entry.log_id.committed_leader_id();
    wire::Entry {
        index: entry.log_id.index(),
        term: leader.term,
        node: leader.node_id,
        payload: match &entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(payload) => Some(wire::entry::Payload::Normal(payload.0.clone())),
            EntryPayload::Membership(membership) => {
                Some(wire::entry::Payload::Membership(membership_to_wire(membership)))
            }
        },
    }
}

pub(crate) fn entry_from_wire(entry: wire::Entry) -> Entry {
    Entry {
        log_id: LogId::new(LeaderId { term: entry.term, node_id: entry.node }, entry.index),
        payload: match entry.payload {
            None => EntryPayload::Blank,
            Some(wire::entry::Payload::Normal(bytes)) => EntryPayload::Normal(Payload(bytes)),
            Some(wire::entry::Payload::Membership(membership)) => {
                EntryPayload::Membership(membership_from_wire(membership))
            }
        },
    }
}

/// Bytes that an entry holds in memory, roughly.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = 64;
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len() + OVERHEAD,
        EntryPayload::Blank | EntryPayload::Membership(_) => OVERHEAD,
    }
}
