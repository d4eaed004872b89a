//! Makes faults on a simulated cluster, drawn from its seed, and undoes each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kvarter_cluster::ShardId;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use turmoil::Sim;

use super::stage::{NODES, SHARDS, Stage, host};

/// Between two nodes while nothing is wrong.
pub(super) const LATENCY_MIN: Duration = Duration::from_millis(1);
pub(super) const LATENCY_MAX: Duration = Duration::from_millis(8);

/// Faults at a time.
const ACTIVE_MAX: usize = 2;

/// What is wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The power of these nodes is gone: what was not synced is lost, or torn.
    PowerCut(Vec<u64>),
    /// The process is gone; what it wrote is there.
    Kill(u64),
    /// Nothing passes from one node to the other, in one direction or both.
    Cut { from: u64, to: u64, is_one_way: bool },
    /// Nothing passes to the node or from it.
    Isolate(u64),
    /// What passes between the two arrives only when the fault is over.
    Hold(u64, u64),
    /// Everything between the two takes so long.
    Slow(u64, u64, Duration),
    /// The node's clock is so far ahead, microseconds.
    WrongClock(u64, i64),
    /// Each sync takes so long.
    SlowDisk(u64, Duration),
    /// As the others see a process that is paused: nothing comes from it and it answers nothing until the fault is over; then
    /// everything arrives at once. Its timers and its disk go on.
    Stall(u64),
}

/// Of each class there is one fault at a time, so that none undoes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Death,
    Network,
    Clock,
    Disk,
}

impl Fault {
    fn class(&self) -> Class {
        match self {
            Self::PowerCut(_) | Self::Kill(_) => Class::Death,
            Self::Cut { .. } | Self::Isolate(_) | Self::Hold(..) | Self::Slow(..) | Self::Stall(_) => Class::Network,
            Self::WrongClock(..) => Class::Clock,
            Self::SlowDisk(..) => Class::Disk,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::PowerCut(nodes) if nodes.len() > 1 => "power cut of all",
            Self::PowerCut(_) => "power cut",
            Self::Kill(_) => "kill",
            Self::Cut { is_one_way: true, .. } => "one-way cut",
            Self::Cut { .. } => "cut",
            Self::Isolate(_) => "isolation",
            Self::Hold(..) => "held link",
            Self::Slow(..) => "slow link",
            Self::WrongClock(..) => "wrong clock",
            Self::SlowDisk(..) => "slow disk",
            Self::Stall(_) => "stall",
        }
    }

    fn draw(class: Class, random: &mut StdRng) -> Self {
        let node = random.random_range(1..=NODES);
        let other = 1 + (node + random.random_range(0..NODES - 1)) % NODES;
        match class {
            Class::Death => match random.random_range(0..6) {
                0..3 => Self::PowerCut(vec![node]),
                3 => Self::PowerCut((1..=NODES).collect()),
                _ => Self::Kill(node),
            },
            Class::Network => match random.random_range(0..6) {
                0 => Self::Cut { from: node, to: other, is_one_way: true },
                1 => Self::Cut { from: node, to: other, is_one_way: false },
                2 => Self::Isolate(node),
                3 => Self::Hold(node, other),
                4 => Self::Stall(node),
                _ => Self::Slow(node, other, Duration::from_millis(random.random_range(30..400))),
            },
            Class::Clock => Self::WrongClock(node, random.random_range(-3_000_000..3_000_000)),
            Class::Disk => Self::SlowDisk(node, Duration::from_millis(random.random_range(20..400))),
        }
    }

    fn time(&self, random: &mut StdRng) -> Duration {
        Duration::from_millis(match self.class() {
            Class::Death => random.random_range(200..3_000),
            Class::Network => random.random_range(300..6_000),
            Class::Clock | Class::Disk => random.random_range(1_000..8_000),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerCut(nodes) => write!(f, "{}: {nodes:?}", self.name()),
            Self::Kill(node) | Self::Isolate(node) | Self::Stall(node) => write!(f, "{}: {node}", self.name()),
            Self::Cut { from, to, .. } => write!(f, "{}: {from} to {to}", self.name()),
            Self::Hold(one, other) => write!(f, "{}: {one} and {other}", self.name()),
            Self::Slow(one, other, time) => write!(f, "{}: {one} and {other}, {time:?}", self.name()),
            Self::WrongClock(node, ahead_us) => write!(f, "{}: {node} is {ahead_us} µs ahead", self.name()),
            Self::SlowDisk(node, time) => write!(f, "{}: {node}, {time:?}", self.name()),
        }
    }
}

pub(super) struct Nemesis {
    random: StdRng,
    active: Vec<(i64, Fault)>,
    next_us: i64,
    next_compaction_us: i64,
    made: BTreeMap<&'static str, u64>,
}

fn others(node: u64) -> impl Iterator<Item = u64> {
    (1..=NODES).filter(move |other| *other != node)
}

fn later(from_us: i64, by: Duration) -> i64 {
    from_us + i64::try_from(by.as_micros()).expect("a simulation is short")
}

impl Nemesis {
    pub(super) fn new(random: StdRng) -> Self {
        Self { random, active: Vec::new(), next_us: 0, next_compaction_us: 0, made: BTreeMap::new() }
    }

    /// How many faults of which kind were made.
    pub(super) fn made(&self) -> &BTreeMap<&'static str, u64> {
        &self.made
    }

    /// Ends and begins what is due.
    pub(super) fn step(&mut self, sim: &mut Sim<'_>, stage: &Stage) {
        let now_us = stage.time.elapsed_us();
        let (ended, active) = std::mem::take(&mut self.active).into_iter().partition(|(ends_us, _)| *ends_us <= now_us);
        self.active = active;
        for (_, fault) in ended as Vec<(i64, Fault)> {
            undo(&fault, sim, stage);
        }
        self.compact(now_us, stage);
        if self.next_us > now_us {
            return;
        }
        self.next_us = later(now_us, Duration::from_millis(self.random.random_range(200..1_500)));
        let classes = [Class::Death, Class::Death, Class::Network, Class::Network, Class::Clock, Class::Disk]
            .into_iter()
            .filter(|class| self.active.iter().all(|(_, fault)| fault.class() != *class))
            .collect::<Vec<_>>();
        if self.active.len() < ACTIVE_MAX
            && let Some(class) = classes.choose(&mut self.random)
        {
            let fault = Fault::draw(*class, &mut self.random);
            self.make(&fault, sim, stage);
            *self.made.entry(fault.name()).or_default() += 1;
            self.active.push((later(now_us, fault.time(&mut self.random)), fault));
        }
    }

    /// Now and then most nodes write checkpoints and drop their logs: who lacks what is dropped has to install a snapshot.
    fn compact(&mut self, now_us: i64, stage: &Stage) {
        if self.next_compaction_us > now_us {
            return;
        }
        self.next_compaction_us = later(now_us, Duration::from_millis(self.random.random_range(300..2_000)));
        for node in 1..=NODES {
            for shard in (0..=SHARDS).map(ShardId) {
                if self.random.random_bool(0.7) {
                    stage.compact(node, shard);
                }
            }
        }
        *self.made.entry("compaction").or_default() += 1;
    }

    /// Ends everything at once.
    pub(super) fn heal(&mut self, sim: &mut Sim<'_>, stage: &Stage) {
        for (_, fault) in std::mem::take(&mut self.active) {
            undo(&fault, sim, stage);
        }
    }

    fn make(&mut self, fault: &Fault, sim: &mut Sim<'_>, stage: &Stage) {
        stage.note(&fault.to_string());
        match fault {
            Fault::PowerCut(nodes) => nodes.iter().for_each(|node| self.crash(*node, sim, stage, true)),
            Fault::Kill(node) => self.crash(*node, sim, stage, false),
            Fault::Cut { from, to, is_one_way: true } => sim.partition_oneway(host(*from), host(*to)),
            Fault::Cut { from, to, is_one_way: false } => sim.partition(host(*from), host(*to)),
            Fault::Isolate(node) => others(*node).for_each(|other| sim.partition(host(*node), host(other))),
            Fault::Hold(one, other) => sim.hold(host(*one), host(*other)),
            Fault::Slow(one, other, time) => sim.set_link_latency(host(*one), host(*other), *time),
            Fault::WrongClock(node, ahead_us) => stage.nodes.lock()[node].clock.set_ahead_us(*ahead_us),
            Fault::SlowDisk(node, time) => stage.nodes.lock()[node].disk.set_sync_time(*time),
            Fault::Stall(node) => others(*node).for_each(|other| sim.hold(host(*node), host(other))),
        }
    }

    fn crash(&mut self, node: u64, sim: &mut Sim<'_>, stage: &Stage, is_power_cut: bool) {
        sim.crash(host(node));
        let city = {
            let staged = &mut stage.nodes.lock();
            let staged = staged.get_mut(&node).expect("faults are made on nodes of the stage");
            staged.disk = if is_power_cut { staged.disk.crash(self.random.random()) } else { staged.disk.kill() };
            staged.city.take()
        };
        stage.end_life(node, city.as_ref());
        drop(city);
        // Who talked to this node turns to another one.
        for gateway in stage.gateways.lock().iter_mut().filter(|gateway| gateway.home == node) {
            gateway.home = 1 + (node + self.random.random_range(0..NODES - 1)) % NODES;
        }
        for home in stage.subscriptions.lock().values_mut().filter(|home| **home == node) {
            *home = 1 + (node + self.random.random_range(0..NODES - 1)) % NODES;
        }
    }
}

fn undo(fault: &Fault, sim: &mut Sim<'_>, stage: &Stage) {
    stage.note(&format!("over: {fault}"));
    match fault {
        Fault::PowerCut(nodes) => nodes.iter().for_each(|node| sim.bounce(host(*node))),
        Fault::Kill(node) => sim.bounce(host(*node)),
        Fault::Cut { from, to, .. } => sim.repair(host(*from), host(*to)),
        Fault::Isolate(node) => others(*node).for_each(|other| sim.repair(host(*node), host(other))),
        Fault::Hold(one, other) => sim.release(host(*one), host(*other)),
        Fault::Slow(one, other, _) => {
            sim.set_link_latency(host(*one), host(*other), LATENCY_MIN);
            sim.set_link_max_message_latency(host(*one), host(*other), LATENCY_MAX);
        }
        Fault::WrongClock(node, _) => stage.nodes.lock()[node].clock.set_ahead_us(0),
        Fault::SlowDisk(node, _) => stage.nodes.lock()[node].disk.set_sync_time(Duration::ZERO),
        Fault::Stall(node) => others(*node).for_each(|other| sim.release(host(*node), host(other))),
    }
}
