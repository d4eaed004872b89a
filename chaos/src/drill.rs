//! A drill: under load, a fault strikes nodes of a cluster again and again.
//!
//! Hypothesis: every shard takes writes again, and in the end nothing that was acknowledged is missing, doubled or different
//! between replicas; commands had their effects once, in time, and their receipts say so; twins were registers all the while.
//! `strike` makes the fault and undoes it, `probe` measures the outages, `steering` issues commands and obeys them, `subscriber`
//! reads the feed all the while, `health` decides when the next strike is fair, `evidence` collects what else the checkers judge.
//! The drill strikes no more when the cluster does not come back, and judges all the same.
mod evidence;
mod health;
mod probe;
mod report;
mod steering;
mod strike;
mod subscriber;

use std::time::Duration;

use kvarter_api::{ApiError, Client, ConnectError, MalformedName, SendError};
use kvarter_simulator::{
    EnrollError, Ledger, Load, LoadError, LoadOutcome, LoadPlan, LoadProgress, RoundsError, wall_clock,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::check::{Violation, Violations, check_registers};
use crate::fault::{Fault, Victims};
use crate::fleet::{Fleet, FleetError};
use crate::journal::{FaultError, UndoError};
use crate::stage::{ClockShift, HostUnable};
use evidence::{Evidence, FeedFindings};
use health::Health;
use probe::Probe;
pub use report::{Checked, DrillReport, Figures, StrikeRecord, Verdict};
use steering::{Run, Steering, SteeringHistory};
use strike::{Scene, Strike};
use subscriber::Subscriber;

/// Longest outage that is waited for; also the time in which a struck node must be back and in step.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// Longest wait for acknowledgements that are open when the load stops.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Acknowledgements that the load gets between two strikes at least.
const ACKNOWLEDGED_MIN: u64 = 1_000;
/// The load ends when the drill says so, and this is longer than any drill.
const LOAD_DURATION: Duration = Duration::from_secs(7 * 86_400);

/// A fault that strikes again and again under load.
#[derive(Clone, Debug)]
pub struct Drill {
    pub fault: Fault,
    pub victims: Victims,
    /// At least 1; [`Victims::strikes_per_round`] says how many strikes that makes.
    pub rounds: u32,
    pub devices: u32,
    /// Readings in a second during the whole drill.
    pub readings_per_s: f64,
    /// Gateway streams of the load.
    pub lanes: u32,
}

/// Why a drill could not be carried out. A broken promise is no error; it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("a drill needs at least one round")]
    NoRounds,
    #[error("this fault can not be made here: {0}")]
    Unable(HostUnable),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("the fault can not be undone, `kvarter-chaos heal` tries again: {0}")]
    NotUndone(#[from] UndoError),
    #[error("not a device's name")]
    Name(#[from] MalformedName),
    #[error("an assault can not be carried out: {reason}")]
    Assault { reason: String },
    #[error("a gateway stream of the drill failed")]
    NotSent(#[from] SendError),
    #[error("a gateway stream of the drill failed")]
    Rounds(#[from] RoundsError),
    #[error("the cluster is not whole within {waited:?}: {missing}")]
    NotWhole { waited: Duration, missing: String },
    #[error("node {id} was struck, but its process {pid} still runs")]
    StrikeWithoutEffect { id: u64, pid: i32 },
    #[error("node {id} was started again before its disk was back")]
    NodeBeforeDisk { id: u64 },
    #[error("node {id} did not {what} within {waited:?}")]
    Overdue { id: u64, what: &'static str, waited: Duration },
    #[error("a second process of node {id} can not be started: {reason}")]
    NoSecond { id: u64, reason: String },
    #[error("the clock of node {id} was set {wanted}, and the node tells: {told}")]
    ClockNotSet { id: u64, wanted: ClockShift, told: String },
    #[error("{fault} of node {id}: nobody took over shard {shard} from it")]
    NotTakenOver { id: u64, fault: Fault, shard: u32 },
}

impl Drill {
    /// Says why the host, or the cluster as it was started, can not have this fault, if it can not.
    pub fn unable(&self, fleet: &Fleet) -> Result<Option<HostUnable>, DrillError> {
        strike::unable(self.fault, fleet)
    }

    /// Runs the drill against the cluster of `client`, whose processes are `fleet`.
    ///
    /// Fails only when it can not be carried out from the beginning; whatever goes wrong after the first strike is in the report.
    pub async fn run(&self, client: &Client, fleet: &Fleet) -> Result<DrillReport, DrillError> {
        if self.rounds == 0 {
            return Err(DrillError::NoRounds);
        }
        if let Some(unable) = self.unable(fleet)? {
            return Err(DrillError::Unable(unable));
        }
        let health = Health::new(client, fleet)?;
        let shards = health.wait_until_whole(RECOVERY_MAX).await?;
        tracing::info!(shards = shards.len(), "the cluster is whole");

        let mut probe = Probe::open(client).await?;
        let load = Load::prepare(client, self.plan()).await?;
        let run = Run::new(wall_clock().as_microsecond());
        // Nobody has said anything yet.
        let subscriber = Subscriber::open(client, run.clone()).await?;
        subscriber.follow(load.turns()).await;
        subscriber.follow(vec![probe.turns()]).await;
        let held_up_max = self.fault.duration().unwrap_or_default();
        let steering = Steering::start(client, health.clients(), &probe.districts(), &run, held_up_max).await?;
        tracing::info!(devices = self.devices, shards = load.shards().len(), "load begins");
        let (progress, acknowledged) = watch::channel(0);
        let stop_load = CancellationToken::new();
        let mut loading = JoinSet::new();
        loading.spawn({
            let stop_load = stop_load.clone();
            let tell = move |now: LoadProgress| {
                progress.send_replace(now.totals.acknowledged);
            };
            async move { load.run(&stop_load, DRAIN_MAX, tell).await }
        });

        let mut violations = Violations::default();
        let mut strikes = Vec::new();
        let mut found = Found::default();
        let scene = Scene { client, fleet, health: &health, subscriber: &subscriber };
        let struck = self.strike(scene, &mut probe, acknowledged, &mut strikes, &mut found).await;
        if let Err(abort) = struck {
            tracing::warn!(reason = with_causes(&abort), "no more strikes");
            violations.add(abort.into());
        }

        stop_load.cancel();
        let load = match loading.join_next().await {
            Some(outcome) => outcome.expect("a load does not panic and is not aborted"),
            None => unreachable!("the load was started above"),
        };
        tracing::info!(sent = load.report.sent, unanswered = load.report.unanswered, "load ended");
        let history = steering.finish().await;
        tracing::info!(commands = history.issued.len(), "operators and devices are done");
        if let Some(failure) = &history.failure {
            let reason = format!("the gateway stream of the devices that obey failed: {failure}");
            violations.add(Violation::DrillAborted { reason });
        }
        let LoadOutcome { report: load, mut ledgers, .. } = load;
        ledgers.extend(found.ledgers);
        let (checked, verdict) = match examine(client, &health, subscriber, probe, ledgers, &history).await {
            Ok((checked, verdict)) => {
                (checked, Verdict { availability: violations, strikes: found.violations, ..verdict })
            }
            Err(error) => {
                let reason = format!("nothing can be checked: {}", with_causes(&error));
                violations.add(Violation::DrillAborted { reason });
                (Checked::default(), Verdict::unchecked(violations))
            }
        };
        Ok(DrillReport::new(self, health.nodes(), strikes, load, checked, verdict))
    }

    fn plan(&self) -> LoadPlan {
        LoadPlan {
            devices: self.devices,
            districts: LoadPlan::DISTRICTS,
            readings_per_s: self.readings_per_s,
            duration: LOAD_DURATION,
            lanes: self.lanes,
            linger: Duration::from_millis(5),
            district_prefix: "drill".to_owned(),
        }
    }

    async fn strike(
        &self,
        scene: Scene<'_>,
        probe: &mut Probe,
        mut acknowledged: watch::Receiver<u64>,
        strikes: &mut Vec<StrikeRecord>,
        found: &mut Found,
    ) -> Result<(), Abort> {
        let Scene { fleet, health, .. } = scene;
        let nodes: Vec<u64> = fleet.nodes().map_err(DrillError::from)?.iter().map(|node| node.id).collect();
        for round in 1..=self.rounds {
            for turn in 0..self.victims.strikes_per_round(nodes.len()) {
                health.wait_until_whole(RECOVERY_MAX).await?;
                health.wait_until_in_step(RECOVERY_MAX).await?;
                wait_until_loaded(&mut acknowledged).await?;
                // A probe that works before the strike: what it shows afterwards is the strike's doing.
                probe.measure(RECOVERY_MAX).await?;
                let leaders = health.leaders().await.map_err(DrillError::from)?;
                let victims = self.victims.choose(turn, &nodes, &leaders);
                let strike = Strike::make(self.fault, round, scene, &victims).await?;
                let (outage, undone) = tokio::join!(probe.measure(RECOVERY_MAX), Box::pin(strike.undo()));
                let (outage, mut aftermath) = (outage?, undone?);
                found.violations.append(std::mem::take(&mut aftermath.violations));
                found.ledgers.append(&mut aftermath.ledgers);
                let record = StrikeRecord::new(round, strike.struck(), &leaders, &outage, aftermath);
                let StrikeRecord { outage_ms, taken_over_ms, slowest_shard, shards_led, .. } = record;
                tracing::info!(round, nodes = ?victims, shards_led, outage_ms, taken_over_ms, slowest_shard, "struck");
                strikes.push(record);
                if let Some((shard, waited)) = outage.not_serving() {
                    return Err(Abort::ShardNotServing { shard, waited });
                }
            }
        }
        Ok(health.wait_until_whole(RECOVERY_MAX).await.map(|_shards| ())?)
    }
}

/// Waits until the load has got acknowledgements from now on: a strike right after the last one would find nothing to lose.
async fn wait_until_loaded(acknowledged: &mut watch::Receiver<u64>) -> Result<(), DrillError> {
    let goal = *acknowledged.borrow() + ACKNOWLEDGED_MIN;
    match timeout(RECOVERY_MAX, acknowledged.wait_for(|now| *now >= goal)).await {
        Ok(Ok(_reached)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            let missing = format!("the load did not get {ACKNOWLEDGED_MIN} acknowledgements");
            Err(DrillError::NotWhole { waited: RECOVERY_MAX, missing })
        }
    }
}

/// Collects the evidence and lets the checkers judge it; the verdict on availability is the drill's own.
async fn examine(
    client: &Client,
    health: &Health<'_>,
    subscriber: Subscriber,
    mut probe: Probe,
    mut ledgers: Vec<Ledger>,
    history: &SteeringHistory,
) -> Result<(Checked, Verdict), DrillError> {
    let ends = probe.mark_ends(DRAIN_MAX).await?;
    ledgers.push(probe.into_ledger());
    let readings = ledgers.iter().map(Ledger::accepted_count).sum();
    let devices = ledgers.iter().map(|ledger| ledger.devices().len() as u64).sum();
    let shards = ends.len();
    let evidence = Evidence { client, health, ledgers: &ledgers, history };
    tracing::info!("reading the feed to its end");
    let begin = subscriber.begin_cursors();
    let read = subscriber.finish(ends.clone()).await;
    tracing::info!("reading the feed again");
    let read_again = Subscriber::open_again(client, &read, begin).await?.finish(ends.clone()).await;
    let FeedFindings { facts, feed, log, commands, counts } = evidence.feed(read, read_again, shards);
    let (registers, register_counts) = check_registers(&history.registers, history.registers.len() as u64);
    tracing::info!(facts, "reading the twins");
    let twins = evidence.twins().await?;
    tracing::info!("comparing the replicas");
    let replicas = evidence.replicas(&ends.keys().copied().collect()).await?;
    let verdict = Verdict { feed, log, twins, replicas, commands, registers, ..Verdict::default() };
    let checked = Checked {
        readings,
        facts,
        twins: devices,
        shards: shards as u64,
        commands: counts,
        registers: register_counts,
    };
    Ok((checked, verdict))
}

/// Microseconds since 1970.
fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))
}

/// The error and what caused it, one after the other.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What strikes found themselves.
#[derive(Debug, Default)]
struct Found {
    violations: Violations,
    ledgers: Vec<Ledger>,
}

/// Why there are no more strikes.
#[derive(Debug, thiserror::Error)]
enum Abort {
    #[error(transparent)]
    Drill(#[from] DrillError),
    #[error("shard {shard} took no write for {waited:?}")]
    ShardNotServing { shard: u32, waited: Duration },
}

impl From<Abort> for Violation {
    fn from(abort: Abort) -> Self {
        match abort {
            Abort::ShardNotServing { shard, waited } => Self::ShardNotServing { shard, waited_s: waited.as_secs() },
            Abort::Drill(error) => Self::DrillAborted { reason: with_causes(&error) },
        }
    }
}
