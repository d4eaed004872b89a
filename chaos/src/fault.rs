//! What a drill does to nodes, and to which of them: the plan alone. The drill's `strike` carries it out.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL: the process has no chance to react; what it wrote, the system still has.
    Kill,
    /// SIGSTOP, and SIGCONT after a time: the process does not know that it was away.
    Pause(Duration),
    /// The file system of the node's disk forgets what was not synced, then its process is killed.
    PowerCut,
}

/// Whom one strike hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// One node after the other; a round has a strike for each.
    EachInTurn,
    /// All nodes at once.
    All,
    /// The node that leads most shards when the strike comes; of equal ones, the one with the lowest id.
    BusiestLeader,
}

impl Victims {
    /// Strikes of one round on a cluster of `nodes` nodes.
    pub fn strikes_per_round(self, nodes: usize) -> usize {
        match self {
            Self::EachInTurn => nodes,
            Self::All | Self::BusiestLeader => 1,
        }
    }

    /// Ids of the nodes that strike number `strike` of a round hits, counted from 0. `leaders` has the leader of each shard now.
    pub fn choose(self, strike: usize, nodes: &[u64], leaders: &[u64]) -> Vec<u64> {
        match self {
            Self::EachInTurn => nodes.iter().skip(strike).take(1).copied().collect(),
            Self::All => nodes.to_vec(),
            Self::BusiestLeader => {
                let mut led: BTreeMap<u64, usize> = nodes.iter().map(|node| (*node, 0)).collect();
                for leader in leaders {
                    *led.entry(*leader).or_default() += 1;
                }
                led.into_iter()
                    .max_by_key(|(node, led)| (*led, Reverse(*node)))
                    .map(|(node, _)| node)
                    .into_iter()
                    .collect()
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => write!(f, "kill"),
            Self::Pause(time) => write!(f, "pause of {time:?}"),
            Self::PowerCut => write!(f, "power cut"),
        }
    }
}

impl fmt::Display for Victims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EachInTurn => "each node in turn",
            Self::All => "all nodes at once",
            Self::BusiestLeader => "the node that leads most shards",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [u64; 3] = [1, 2, 5];

    #[test]
    fn each_node_has_its_turn_in_a_round() {
        let strikes = 0..Victims::EachInTurn.strikes_per_round(NODES.len());
        let struck: Vec<_> = strikes.map(|strike| Victims::EachInTurn.choose(strike, &NODES, &[1])).collect();
        assert_eq!(struck, [[1], [2], [5]]);
    }

    #[test]
    fn all_nodes_are_struck_at_once() {
        assert_eq!(Victims::All.strikes_per_round(3), 1);
        assert_eq!(Victims::All.choose(0, &NODES, &[1]), NODES);
    }

    #[test]
    fn the_busiest_leader_is_chosen_and_of_equals_the_first() {
        let choose = |leaders: &[u64]| Victims::BusiestLeader.choose(0, &NODES, leaders);
        assert_eq!(choose(&[1, 5, 5, 2]), [5]);
        assert_eq!(choose(&[5, 2, 2, 5]), [2]);
        assert_eq!(choose(&[]), [1]);
    }
}
