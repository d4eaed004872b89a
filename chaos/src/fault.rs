//! What a drill does to nodes, and to which of them: the plan alone. The drill's `strike` carries it out.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::stage::{ClockShift, CutOff};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL: the process has no chance to react; what it wrote, the system still has.
    Kill,
    /// SIGSTOP, and SIGCONT after a time: the process does not know that it was away.
    Pause(Duration),
    /// The file system of the node's disk forgets what was not synced, then its process is killed.
    PowerCut,
    /// Every write to the node's disk, its syncs included, hangs for a time.
    HungDisk(Duration),
    /// The node's disk writes a few times in a second for a time.
    SlowDisk(Duration),
    /// The node's wall clock is wrong for a time: see [`ClockFault::of_round`].
    Clock(Duration),
    /// The network loses everything between the node and others for a time.
    Cut(CutOff, Duration),
    /// The node's disk is full for a time. In even rounds, nothing at all is free when its process starts again after SIGKILL.
    FullDisk(Duration),
    /// The node is killed, and finds another disk than it left: a damaged, an empty or a strange one; the rounds take turns.
    Damage,
    /// A second process with the node's id: on an empty disk in odd rounds, on a copy of the node's disk in even ones.
    Double,
    /// Clients that misbehave.
    Assault(Assault),
}

/// What a node finds in place of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// A bit is flipped where the log tells its syncs, behind what was acknowledged last. Damage in an entry itself shows when it is read.
    FlippedLog,
    /// The log lacks its end, and with it what was acknowledged last.
    ShortLog,
    /// A bit in each 64 KiB of its checkpoints is flipped.
    FlippedCheckpoint,
    WipedDisk,
    /// The disk that a node with the same id had in another cluster.
    ForeignDisk,
}

impl Damage {
    /// All of them, in the order in which rounds take turns.
    pub(crate) const ALL: [Self; 5] =
        [Self::FlippedLog, Self::ShortLog, Self::FlippedCheckpoint, Self::WipedDisk, Self::ForeignDisk];

    pub(crate) fn of_round(round: u32) -> Self {
        Self::ALL[round.saturating_sub(1) as usize % Self::ALL.len()]
    }

    /// Whether the node must end, and be taken in by nobody: it can not know what it has acknowledged. Otherwise it must come back,
    /// with what it has or with a peer's.
    pub(crate) fn is_refused(self) -> bool {
        match self {
            Self::FlippedCheckpoint => false,
            Self::FlippedLog | Self::ShortLog | Self::WipedDisk | Self::ForeignDisk => true,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlippedLog => "a flipped bit in its log",
            Self::ShortLog => "a log without its end",
            Self::FlippedCheckpoint => "flipped bits in its checkpoints",
            Self::WipedDisk => "an empty disk",
            Self::ForeignDisk => "a disk of another cluster",
        })
    }
}

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockFault {
    Off(ClockShift),
    /// It jumps from ahead to behind and back, again and again.
    Jumping,
}

impl ClockFault {
    const SHIFT_S: i64 = 600;

    /// Ten minutes ahead, ten minutes behind, jumping: the rounds take turns.
    pub fn of_round(round: u32) -> Self {
        match round % 3 {
            1 => Self::Off(ClockShift { ahead_s: Self::SHIFT_S }),
            2 => Self::Off(ClockShift { ahead_s: -Self::SHIFT_S }),
            _ => Self::Jumping,
        }
    }

    /// Where the clock goes first.
    pub fn first(self) -> ClockShift {
        match self {
            Self::Off(shift) => shift,
            Self::Jumping => ClockShift { ahead_s: Self::SHIFT_S },
        }
    }
}

/// Clients that misbehave, at all nodes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assault {
    /// What is no TLS, no gRPC, no protobuf, or breaks a rule of the API; and strangers' certificates.
    Garbage,
    /// More readings and commands than the cluster can take: twice as many in odd rounds, ten times as many in even ones.
    Overload,
    /// A reading that makes the code for its device panic.
    Poison,
    /// Gateways whose connections are cut again and again, thousands of streams, streams and feeds that nobody reads.
    Streams,
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

impl Fault {
    /// Where the fault is about nodes in other ways than ending their processes: how long it lasts.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Kill | Self::PowerCut | Self::Damage | Self::Double | Self::Assault(_) => None,
            Self::Pause(time)
            | Self::HungDisk(time)
            | Self::SlowDisk(time)
            | Self::FullDisk(time)
            | Self::Clock(time)
            | Self::Cut(_, time) => Some(time),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => write!(f, "kill"),
            Self::Pause(time) => write!(f, "pause of {time:?}"),
            Self::PowerCut => write!(f, "power cut"),
            Self::HungDisk(time) => write!(f, "disk that hangs for {time:?}"),
            Self::SlowDisk(time) => write!(f, "disk that is slow for {time:?}"),
            Self::Clock(time) => write!(f, "clock that is wrong for {time:?}"),
            Self::Cut(from, time) => write!(f, "network cut from {from} for {time:?}"),
            Self::FullDisk(time) => write!(f, "disk that is full for {time:?}"),
            Self::Damage => write!(f, "damaged, empty or strange disk"),
            Self::Double => write!(f, "second process with the id"),
            Self::Assault(Assault::Garbage) => write!(f, "hostile input"),
            Self::Assault(Assault::Overload) => write!(f, "overload"),
            Self::Assault(Assault::Poison) => write!(f, "poisoned reading"),
            Self::Assault(Assault::Streams) => write!(f, "misbehaving streams and readers"),
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
    fn clocks_go_wrong_in_every_way_within_three_rounds() {
        let faults = [1, 2, 3].map(ClockFault::of_round);
        let off = |ahead_s| ClockFault::Off(ClockShift { ahead_s });
        assert_eq!(faults, [off(600), off(-600), ClockFault::Jumping]);
        assert_eq!(faults.map(|fault| fault.first().ahead_s), [600, -600, 600]);
    }

    #[test]
    fn disks_are_damaged_in_every_way_within_five_rounds() {
        let damages: Vec<_> = (1..=5).map(Damage::of_round).collect();
        assert_eq!(damages, Damage::ALL);
        assert_eq!(Damage::of_round(6), Damage::ALL[0]);
    }

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
