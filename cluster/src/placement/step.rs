//! What the leader of a group does next to the group's membership.

use std::collections::BTreeSet;

use crate::NodeId;

/// A group as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) leader: NodeId,
    /// More than one set while a change is under way (joint consensus).
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// Members that answer and lack next to nothing; the leader is one of them.
    pub(crate) caught_up: BTreeSet<NodeId>,
    /// Those of them that a leadership may be handed to.
    pub(crate) heirs: BTreeSet<NodeId>,
}

/// The members that a group is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
}

/// One change of a group's membership. Each is safe by itself, and the group may stay for ever between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The group is as it is to be.
    Settled,
    /// Nothing can be done before a member has caught up, or may lead.
    Wait,
    /// Ends a change that an earlier leader began.
    FinishChange,
    AddLearner(NodeId),
    /// One voter more, one fewer, or one in the place of another. Who loses its vote stays as learner.
    SetVoters(BTreeSet<NodeId>),
    RemoveLearner(NodeId),
    /// The leader is to lose its vote; a voter that stays leads on.
    HandOver(NodeId),
}

/// The next step from `group` to `goal`.
///
/// A voter is taken away only together with a new one that has caught up, or where the goal has fewer voters. So the group never
/// has fewer voters that answer than before or than it is to have, and a voter that is dead can be replaced.
pub(crate) fn next_step(group: &Group, goal: &Goal) -> Step {
    let voters = match group.voters.as_slice() {
        [voters] => voters,
        [.., last] if !last.contains(&group.leader) => {
            // It would end the change and its own leadership with it, and leave the group to an election.
            let heir = last.intersection(&group.heirs).next().copied();
            return heir.map_or(Step::FinishChange, Step::HandOver);
        }
        _ => return Step::FinishChange,
    };
    let wanted = || goal.voters.iter().chain(&goal.learners).copied();
    if let Some(missing) = wanted().find(|node| !voters.contains(node) && !group.learners.contains(node)) {
        return Step::AddLearner(missing);
    }
    if *voters == goal.voters {
        let surplus = group.learners.iter().copied().find(|node| !goal.learners.contains(node));
        return surplus.map_or(Step::Settled, Step::RemoveLearner);
    }
    let risen = goal.voters.iter().copied().find(|node| !voters.contains(node) && group.caught_up.contains(node));
    // Those that do not answer go first: they only count against the quorum.
    let mut leavers: Vec<NodeId> = voters.difference(&goal.voters).copied().collect();
    leavers.sort_by_key(|node| (group.caught_up.contains(node), *node));
    let leaver = leavers.iter().copied().find(|node| *node != group.leader);
    let is_rising = goal.voters.iter().any(|node| !voters.contains(node));
    let mut next = voters.clone();
    match (risen, leaver) {
        (Some(risen), Some(leaver)) => {
            next.insert(risen);
            next.remove(&leaver);
        }
        // Only the leader is left to go. Its successor comes first, where there is nobody yet to hand over to.
        (Some(risen), None) if leavers.is_empty() || successor(group, goal, voters).is_none() => {
            next.insert(risen);
        }
        (None, _) if is_rising => return Step::Wait,
        (None, Some(leaver)) => {
            next.remove(&leaver);
        }
        (_, None) => return successor(group, goal, voters).map_or(Step::Wait, Step::HandOver),
    }
    Step::SetVoters(next)
}

/// Who is to lead on when the leader goes.
fn successor(group: &Group, goal: &Goal, voters: &BTreeSet<NodeId>) -> Option<NodeId> {
    let mut candidates = goal.voters.intersection(voters).copied();
    candidates.find(|node| *node != group.leader && group.heirs.contains(node))
}
