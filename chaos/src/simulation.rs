//! The deterministic simulation of a whole cluster: three nodes, their disks, network and clocks in one thread, from one seed.
//!
//! Start at [`simulate`]. The nodes run `cluster` and `actors` as production does; only the ports differ (`ports`, and the
//! cluster's own disk in memory). Gateways with lamps (`gateway`) and people (`desk`) use the city while `nemesis` breaks it;
//! then all is healed, every shard must serve at every node, and `judge` holds what clients were told (`history`) against
//! the feeds. The same seed makes the same [`Trace`]. Logs are dropped meanwhile, so that replicas install
//! snapshots. Deliberately not here: the public API, and processes whose timers stand still.

mod call;
mod desk;
mod gateway;
mod history;
mod judge;
mod nemesis;
mod node;
mod ports;
mod stage;
mod tls;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::ShardId;
use serde::Serialize;
use turmoil::{Builder, Sim};

use crate::check::{ReplicaHash, Violation, Violations};
use judge::{Replicas, judge, pages};
use nemesis::Nemesis;
use stage::{Disk, NODES, Phase, SHARDS, Stage, host};
pub use trace::Trace;

/// All hosts run for so long in turn.
const TICK: Duration = Duration::from_millis(1);
const FORMING_MAX: Duration = Duration::from_secs(60);
/// How long faults are made.
const LOAD_TIME: Duration = Duration::from_secs(10);
/// After the last fault is over, every shard serves at every node within this time.
const SERVING_MAX: Duration = Duration::from_secs(20);
/// By then clients have ended what they began, commands have ended, and replicas are alike.
const QUIET_MAX: Duration = Duration::from_secs(30);
const READING_MAX: Duration = Duration::from_secs(10);
/// A multiple of the number of lists that tokio keeps tasks in.
const TASK_IDS: u64 = 64;
/// Ticks between two looks at what costs more to see.
const LOOK_TICKS: u32 = 50;

/// What a simulation came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub seed: u64,
    /// Seconds that passed in the simulation.
    pub simulated_s: f64,
    /// Calls that clients were answered.
    pub operations: u64,
    /// Faults that were made, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Snapshots that replicas installed because the log that they lacked was gone.
    pub snapshots: u64,
    pub violations: Violations,
    /// Hash of the trace, hex: equal for two runs of one seed by one program.
    pub trace_hash: String,
    #[serde(skip)]
    pub trace: Trace,
}

impl Outcome {
    pub fn is_passed(&self) -> bool {
        self.violations.count == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_passed() { "holds" } else { "BROKEN" };
        let faults: u64 = self.faults.values().sum();
        write!(
            f,
            "seed {:>6}  {:>6.1} s  {:>5} operations  {faults:>2} faults  {:>2} snapshots  {verdict}  {}",
            self.seed, self.simulated_s, self.operations, self.snapshots, self.trace_hash
        )?;
        for violation in &self.violations.first {
            write!(f, "\n    {violation}")?;
        }
        Ok(())
    }
}

/// Plays the life of a cluster that follows from `seed`, and judges it. Call it outside of any async runtime, and for the same
/// life again while nothing else in the process spawns tasks.
pub fn simulate(seed: u64) -> Outcome {
    simulate_on(seed, |disk| Arc::new(disk))
}

/// [`simulate`] with nodes that see their disks through `disk`.
fn simulate_on(seed: u64, disk: Disk) -> Outcome {
    align_task_ids();
    let stage = Stage::new(seed, disk);
    let mut nemesis = Nemesis::new(stage.random(1));
    let played = Play::new(&stage, seed).play(&mut nemesis);
    let mut violations = match &played {
        Ok(replicas) => judge(&stage.history.lock(), replicas),
        Err(reason) => broken_off(&stage, reason),
    };
    violations.require("nemesis", "faults", nemesis.made().values().sum(), 1);
    let history = stage.history.lock();
    history.feeds.iter().for_each(|((node, shard), feed)| stage.note(&format!("node-{node}, shard-{shard}: {feed:?}")));
    let trace = stage.trace();
    Outcome {
        seed,
        simulated_s: Duration::from_micros(stage.time.elapsed_us().unsigned_abs()).as_secs_f64(),
        operations: history.answered(),
        faults: nemesis.made().clone(),
        snapshots: stage.snapshots_installed(),
        violations,
        trace_hash: format!("{:032x}", trace.hash()),
        trace,
    }
}

/// Takes tokio's ids for tasks, which are counted through the whole process, to where they are alike for every simulation: a
/// runtime that ends drops its tasks in an order that depends on them, and with the tasks their connections.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("this runtime needs nothing");
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        while tasks.spawn(async {}).id().to_string().parse().is_ok_and(|id: u64| !id.is_multiple_of(TASK_IDS)) {}
        while tasks.join_next().await.is_some() {}
    });
}

/// What is known of a simulation that has no end to be judged.
fn broken_off(stage: &Stage, reason: &str) -> Violations {
    let mut violations = Violations::default();
    let history = stage.history.lock();
    history.broken.iter().for_each(|what| violations.add(Violation::Broken { what: what.clone() }));
    violations.add(Violation::DrillAborted { reason: reason.to_owned() });
    violations
}

/// A simulation while it goes on.
struct Play<'a> {
    stage: &'a Arc<Stage>,
    sim: ManuallyDrop<Sim<'a>>,
    elapsed: Duration,
    /// A host's runtime can not be dropped any more.
    is_panicked: bool,
}

impl Drop for Play<'_> {
    fn drop(&mut self) {
        if !self.is_panicked {
            // Never used again: this is the end of its owner.
            drop(ManuallyDrop::into_inner(std::mem::replace(&mut self.sim, ManuallyDrop::new(Builder::new().build()))));
        }
    }
}

impl<'a> Play<'a> {
    fn new(stage: &'a Arc<Stage>, seed: u64) -> Self {
        let mut sim = Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .tick_duration(TICK)
            .min_message_latency(nemesis::LATENCY_MIN)
            .max_message_latency(nemesis::LATENCY_MAX)
            .tcp_capacity(1024)
            .build();
        for node in 1..=NODES {
            let stage = Arc::clone(stage);
            sim.host(host(node), move || node::run(Arc::clone(&stage), node));
        }
        Self { stage, sim: ManuallyDrop::new(sim), elapsed: Duration::ZERO, is_panicked: false }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.elapsed += TICK;
        self.stage.time.set_elapsed_us(i64::try_from(self.elapsed.as_micros()).expect("a simulation is short"));
        let sim = &mut *self.sim;
        match catch_unwind(AssertUnwindSafe(|| sim.step())) {
            Ok(stepped) => stepped.map_err(|error| error.to_string())?,
            Err(_panic) => {
                self.is_panicked = true;
                return Err("a panic ended it".to_owned());
            }
        };
        let nodes = self.stage.nodes.lock();
        match nodes.iter().find_map(|(id, node)| Some((id, node.disk.failure()?))) {
            Some((node, reason)) => Err(format!("the disk of node-{node} failed: {reason}")),
            None => Ok(()),
        }
    }

    /// Goes on until `holds`, which is looked at now and then; an error names `what` when that takes `limit`.
    fn until(&mut self, limit: Duration, what: &str, holds: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let end = self.elapsed + limit;
        while !holds(self.stage) {
            if self.elapsed >= end {
                return Err(format!("after {limit:?}, {what}"));
            }
            for _ in 0..LOOK_TICKS {
                self.tick()?;
            }
        }
        Ok(())
    }

    fn play(&mut self, nemesis: &mut Nemesis) -> Result<Replicas, String> {
        let are_connected = |stage: &Stage| stage.gateways.lock().iter().all(|gateway| gateway.is_connected);
        self.until(FORMING_MAX, "the cluster is not formed", are_connected)?;
        self.stage.enter(Phase::Load);
        let end = self.elapsed + LOAD_TIME;
        while self.elapsed < end {
            nemesis.step(&mut self.sim, self.stage);
            self.tick()?;
        }
        nemesis.heal(&mut self.sim, self.stage);
        self.stage.enter(Phase::Healed);
        let served_everywhere = usize::try_from(NODES * u64::from(SHARDS)).expect("few shards");
        self.until(SERVING_MAX, "a shard does not serve at a node", |stage| {
            stage.served.lock().len() == served_everywhere
        })?;
        self.stage.enter(Phase::Quiet);
        // Whatever was asked before is answered, or given up, by then.
        let answered = self.elapsed + call::DEADLINE;
        while self.elapsed <= answered {
            self.tick()?;
        }
        self.until(QUIET_MAX, "the city is not quiet, or its replicas differ", is_quiet)?;
        let replicas = replicas(self.stage);
        self.stage.enter(Phase::Reading);
        self.until(READING_MAX, "the feeds are not read", |stage| {
            let history = stage.history.lock();
            let is_current = |(shard, applied): (&u32, &u64)| {
                let subscribed = history.subscribed.get(shard).and_then(|feed| feed.last());
                let feed = history.feeds.get(&(1, *shard)).and_then(|feed| feed.iter().rfind(|one| one.0 <= *applied));
                subscribed.map(|last| last.0) >= feed.map(|last| last.0)
            };
            history.feeds.len() == served_everywhere && replicas.applied.iter().all(is_current)
        })?;
        // Services go on writing now and then: what came after the replicas were seen is left out.
        let mut history = self.stage.history.lock();
        for (shard, applied) in &replicas.applied {
            let of_nodes = history.feeds.iter_mut().filter(|((_, of), _)| of == shard).map(|(_, feed)| feed);
            of_nodes.for_each(|feed| feed.retain(|(index, _)| index <= applied));
            if let Some(feed) = history.subscribed.get_mut(shard) {
                feed.retain(|(index, _)| index <= applied);
            }
        }
        drop(history);
        Ok(replicas)
    }
}

/// Whether clients have ended what they began, commands have ended, and all replicas of each shard are at one index.
fn is_quiet(stage: &Stage) -> bool {
    let nodes = stage.nodes.lock();
    let is_alike = |shard: u32| {
        let mut applied = nodes.values().map(|node| Some(node.city.as_ref()?.view(ShardId(shard))?.applied));
        let first = applied.next().flatten();
        first.is_some() && applied.all(|other| other == first)
    };
    let has_open = |shard: u32| {
        let mut cities = nodes.values().filter_map(|node| node.city.as_ref());
        cities.any(|city| city.counters(ShardId(shard)).is_none_or(|counters| counters.commands_open > 0))
    };
    stage.gateways.lock().iter().all(gateway::Gateway::is_done)
        && (1..=SHARDS).all(|shard| is_alike(shard) && !has_open(shard))
}

fn replicas(stage: &Stage) -> Replicas {
    let nodes = stage.nodes.lock();
    let cities = || nodes.iter().filter_map(|(id, node)| Some((*id, node.city.as_ref()?)));
    let (mut hashes, mut states, mut at) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for shard in 1..=SHARDS {
        for (node, city) in cities() {
            let Some(handle) = city.cluster().shard(ShardId(shard)) else { continue };
            let (applied, hash) = handle.state_hash();
            hashes.push(ReplicaHash { shard, node, applied_index: applied.0, hash: format!("{hash:032x}") });
            states.entry(shard).or_insert_with(|| pages(&handle.view().state));
            at.insert(shard, applied.0);
        }
    }
    Replicas { hashes, pages: states, applied: at, nodes: NODES, shards: SHARDS }
}

#[cfg(test)]
mod tests;
