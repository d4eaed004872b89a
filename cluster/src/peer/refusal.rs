//! Why a node turns another one away, and what the other makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::SetOnce;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::REACHABLE_WITHIN;
use crate::NodeId;

/// A process that hears for so long that another one is its node is too many.
const DOUBLED_MAX: Duration = Duration::from_secs(5);

/// Marks refusals that are about the node and not about the request.
const KEY: &str = "kvarter-refusal";

/// Why a node has no part in its cluster, as the others told it: it should end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expulsion {
    /// It was removed, and its id is never used again.
    Removed,
    /// Its disk is not the one that it had, another process runs from that, or it is of another cluster.
    Refused { reason: String },
}

/// A refusal that tells a node that it may have no part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Removed,
    /// A process was started as the same node later.
    Superseded,
    /// Another process is the same node, or was a moment ago.
    Doubled,
    /// It has another disk, or is of another cluster. Of two strangers, each says so of the other.
    Stranger,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Removed, Self::Superseded, Self::Doubled, Self::Stranger];

    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Superseded => "superseded",
            Self::Doubled => "doubled",
            Self::Stranger => "stranger",
        }
    }

    pub(super) fn status(self, reason: String) -> Status {
        let mut status = refused(reason);
        status.metadata_mut().insert(KEY, MetadataValue::from_static(self.name()));
        status
    }

    pub(super) fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(KEY)?.to_str().ok()?;
        Self::ALL.into_iter().find(|refusal| refusal.name() == name)
    }
}

/// Whether this node has a part in its cluster, as the others tell it.
#[derive(Default)]
pub(crate) struct Standing {
    /// Set once this node learns that it has none.
    expelled: SetOnce<Expulsion>,
    /// Nodes that called another cluster, or another disk, and when they last did.
    strangers: Mutex<BTreeMap<NodeId, Instant>>,
    /// Since when every round of probes has met a node that knows another process of this node.
    doubled_since: Mutex<Option<Instant>>,
}

impl Standing {
    /// Ends when this node learns that it has no part in the cluster.
    pub(crate) async fn expelled(&self) -> &Expulsion {
        self.expelled.wait().await
    }

    /// Why this node has no part in the cluster, if it has heard so.
    pub(crate) fn expulsion(&self) -> Option<&Expulsion> {
        self.expelled.get()
    }

    pub(super) fn expel(&self, expulsion: Expulsion) {
        // The first reason stands.
        self.expelled.set(expulsion).ok();
    }

    /// Notes that `from` called another cluster or disk than there is here, and returns what it hears.
    pub(super) fn called_by_stranger(&self, from: NodeId, reason: String) -> Status {
        self.strangers.lock().insert(from, Instant::now());
        Refusal::Stranger.status(reason)
    }

    /// Notes when a refusal says that this node has no part in the cluster, whoever says so.
    pub(super) fn hear(&self, status: &Status) {
        match Refusal::of(status) {
            Some(Refusal::Removed) => self.expel(Expulsion::Removed),
            Some(Refusal::Superseded) => self.expel(Expulsion::Refused { reason: status.message().to_owned() }),
            // Whether it is this node that has to go, a round of probes tells.
            Some(Refusal::Stranger | Refusal::Doubled) | None => {}
        }
    }

    /// Notes when most nodes and this one take each other for strangers, or any has known another process of it for long;
    /// `answers` are those of one round of probes.
    pub(super) fn hear_round<T>(&self, answers: &[(NodeId, Result<T, Status>)], now: Instant) {
        let refusals = |refusal: Refusal| {
            let failures = answers.iter().filter_map(|(node, answer)| Some((*node, answer.as_ref().err()?)));
            failures.filter(move |(_, status)| Refusal::of(status) == Some(refusal))
        };
        let mut strangers = self.strangers.lock();
        strangers.retain(|_, called| now.duration_since(*called) < REACHABLE_WITHIN);
        let refused_by = refusals(Refusal::Stranger).map(|(node, _)| node);
        let strange: BTreeSet<NodeId> = strangers.keys().copied().chain(refused_by).collect();
        let nodes = answers.len() + 1;
        if strange.len() * 2 > nodes {
            let told = refusals(Refusal::Stranger).next().map(|(_, status)| status.message().to_owned());
            let reason = told
                .unwrap_or_else(|| format!("{} nodes know this one in their cluster with another disk", strange.len()));
            self.expel(Expulsion::Refused { reason });
        }
        let mut since = self.doubled_since.lock();
        match refusals(Refusal::Doubled).next() {
            None => *since = None,
            Some((_, doubled)) => {
                if now.duration_since(*since.get_or_insert(now)) > DOUBLED_MAX {
                    self.expel(Expulsion::Refused { reason: doubled.message().to_owned() });
                }
            }
        }
    }
}

/// A refusal without a meaning of its own.
pub(super) fn refused(reason: String) -> Status {
    Status::permission_denied(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_status() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(&refusal.status("so it is".to_owned())), Some(refusal));
        }
        assert_eq!(Refusal::of(&refused("a malformed request".to_owned())), None);
    }

    type Answer = Result<(), Status>;

    #[tokio::test]
    async fn most_nodes_have_to_take_a_node_for_a_stranger() {
        let stranger = || Err(Refusal::Stranger.status("of another cluster".to_owned()));
        let silent = || Err(Status::unavailable("down"));
        let known: fn() -> Answer = || Ok(());
        for (answers, callers, is_expelled) in [
            (vec![stranger()], vec![], false),
            (vec![stranger(), known()], vec![2], false),
            (vec![stranger(), silent()], vec![], false),
            (vec![], vec![], false),
            (vec![stranger(), stranger()], vec![], true),
            (vec![stranger(), silent()], vec![3], true),
            (vec![silent(), silent()], vec![2, 3], true),
            (vec![stranger(), stranger(), known(), known()], vec![2, 3], false),
            (vec![stranger(), known(), stranger(), stranger()], vec![], true),
        ] {
            let standing = Standing::default();
            let answers: Vec<_> = (2..).map(NodeId).zip(answers).collect();
            for node in callers {
                drop(standing.called_by_stranger(NodeId(node), "this is another".to_owned()));
            }
            standing.hear_round(&answers, Instant::now());
            assert_eq!(standing.expulsion().is_some(), is_expelled, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn a_node_ends_that_others_have_known_another_process_of_for_long() {
        let doubled: [(NodeId, Answer); 2] =
            [(NodeId(2), Err(Refusal::Doubled.status("it lives".to_owned()))), (NodeId(3), Ok(()))];
        let (begin, half) = (Instant::now(), DOUBLED_MAX / 2 + Duration::from_millis(1));
        let is_expelled = |rounds: &[&[_]]| {
            let standing = Standing::default();
            (0..).zip(rounds).for_each(|(number, round)| standing.hear_round(round, begin + half * number));
            standing.expulsion().is_some()
        };
        assert!(!is_expelled(&[&doubled, &doubled]));
        assert!(!is_expelled(&[&doubled, &doubled, &[], &doubled, &doubled]), "it was another process's end");
        assert!(is_expelled(&[&doubled, &doubled, &doubled]));
    }
}
