//! Those next door to the poisoned device: sensors that report all the time, buildings that obey, and who orders them about.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvarter_api::v1::{
    Argument, CommandDelivery, CommandOutcome, CommandState, Device, IssueCommandRequest, Value, value,
};
use kvarter_api::{
    Admission, Client, CommandLedger, CommandName, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions,
    GatewayStream,
};
use kvarter_simulator::{AnsweredRound, Ledger, LoadPlan, Rounds, open_attached, register, wall_clock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{ANSWER_MAX, DISTRICT, Phase, Scene, Waits, failed};
use crate::check::CLOCK_BOUND_US;
use crate::drill::DrillError;

pub(super) const BUILDING: &str = "building";
const SENSORS: usize = 16;
const BUILDINGS: usize = 4;
/// Between two rounds of the sensors.
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Rounds without an answer before the sensors wait.
const ROUNDS_OPEN_MAX: usize = 500;
/// Between the end of a command and the next.
const PAUSE: Duration = Duration::from_millis(20);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// All of them at work.
pub(super) struct Neighbours {
    phase: watch::Sender<Phase>,
    stop_asking: CancellationToken,
    stop_obeying: CancellationToken,
    sensors: JoinSet<Result<Sensors, DrillError>>,
    operators: JoinSet<Result<Operated, DrillError>>,
    buildings: JoinSet<Result<(), DrillError>>,
}

/// What they saw.
pub(super) struct Outcome {
    pub(super) ledger: Ledger,
    pub(super) readings: Waits,
    /// From the call until the receipt says that the device obeyed.
    pub(super) commands: Waits,
    /// Commands that came to another end.
    pub(super) disobeyed: Vec<String>,
}

impl Neighbours {
    pub(super) async fn start(scene: Scene<'_>, run: &str) -> Result<Self, DrillError> {
        let client = scene.client;
        let names = |role: &str, count: usize| -> Vec<String> {
            (0..count).map(|number| format!("{DISTRICT}/devices/{role}-{run}-{number}")).collect()
        };
        let (sensors, buildings) = (names("sensor", SENSORS), names("building", BUILDINGS));
        let device = |kind: &'static str| {
            move |name: &String| Device { name: name.clone(), kind: kind.to_owned(), ..Device::default() }
        };
        let devices = sensors.iter().map(device(LoadPlan::KIND)).chain(buildings.iter().map(device(BUILDING)));
        register(client, devices.collect()).await?;
        let phase = watch::Sender::new(Phase::Before);
        let (stop_asking, stop_obeying) = (CancellationToken::new(), CancellationToken::new());
        let mut started = Self {
            phase,
            stop_asking,
            stop_obeying,
            sensors: JoinSet::new(),
            operators: JoinSet::new(),
            buildings: JoinSet::new(),
        };
        let (stream, events, _) = open_attached(client, GatewayOptions::default(), &buildings).await?;
        let names = buildings.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        started.buildings.spawn(obey(stream, events, names, started.stop_obeying.clone()));
        for (number, name) in buildings.into_iter().enumerate() {
            let (client, device, ids) = (client.clone(), name.parse()?, format!("{run}-{number}"));
            let (phase, stop) = (started.phase.subscribe(), started.stop_asking.clone());
            started.operators.spawn(operate(client, device, ids, phase, stop));
        }
        let (rounds, _) = Rounds::attach(client, sensors).await?;
        scene.subscriber.follow(vec![Arc::clone(rounds.ledger().turns())]).await;
        let sensors = Sensors { rounds, open: BTreeMap::new(), waits: Waits::default() };
        started.sensors.spawn(sensors.report(started.phase.subscribe(), started.stop_asking.clone()));
        Ok(started)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Lets everybody end what is open.
    pub(super) async fn finish(mut self) -> Result<Outcome, DrillError> {
        self.stop_asking.cancel();
        let (mut commands, mut disobeyed) = (Waits::default(), Vec::new());
        while let Some(operated) = self.operators.join_next().await {
            let operated = operated.expect("an operator does not panic and is not aborted")?;
            commands.merge(&operated.waits);
            disobeyed.extend(operated.disobeyed);
        }
        self.stop_obeying.cancel();
        while let Some(obeyed) = self.buildings.join_next().await {
            obeyed.expect("devices do not panic and are not aborted")?;
        }
        let sensors = self.sensors.join_next().await.ok_or_else(|| failed("no sensors were started"))?;
        let sensors = sensors.expect("sensors do not panic and are not aborted")?;
        Ok(Outcome { ledger: sensors.rounds.into_ledger(), readings: sensors.waits, commands, disobeyed })
    }
}

/// Sensors behind one stream, all of one shard.
struct Sensors {
    rounds: Rounds,
    /// When each round without an answer was sent.
    open: BTreeMap<u64, (Instant, Phase)>,
    waits: Waits,
}

impl Sensors {
    /// Reports until `stop`, and waits for what is open then.
    async fn report(mut self, phase: watch::Receiver<Phase>, stop: CancellationToken) -> Result<Self, DrillError> {
        let mut ticks = interval(ROUND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = ticks.tick(), if self.open.len() < ROUNDS_OPEN_MAX => {
                    let begun = (Instant::now(), *phase.borrow());
                    self.open.insert(self.rounds.send().await?, begun);
                }
                answer = self.rounds.next() => self.take(&answer?),
                () = stop.cancelled() => break,
            }
        }
        let give_up = Instant::now() + ANSWER_MAX;
        while !self.open.is_empty() {
            tokio::select! {
                answer = self.rounds.next() => self.take(&answer?),
                () = sleep_until(give_up) => return Err(failed("readings of neighbours were not answered")),
            }
        }
        Ok(self)
    }

    fn take(&mut self, answer: &AnsweredRound) {
        if let Some((begin, phase)) = self.open.remove(&answer.round) {
            self.waits.record(phase, begin.elapsed());
        }
    }
}

/// Does what is ordered to `devices`, in the order of their aliases, at once, until `stop`.
async fn obey(
    stream: GatewayStream,
    mut events: GatewayEvents,
    devices: Vec<DeviceName>,
    stop: CancellationToken,
) -> Result<(), DrillError> {
    let mut ledger = CommandLedger::new(Duration::from_micros(CLOCK_BOUND_US.unsigned_abs()));
    while let Some(event) = stop.run_until_cancelled(events.next()).await {
        let delivery = match event {
            Some(GatewayEvent::Command(delivery)) => delivery,
            Some(GatewayEvent::Failed(error)) => return Err(error.into()),
            None => return Err(failed("the stream of the neighbours' buildings ended")),
            Some(_of_readings) => continue,
        };
        let device = usize::try_from(delivery.alias).ok().and_then(|alias| devices.get(alias));
        let device = device.ok_or_else(|| failed("a command came for a device that is not attached"))?;
        match ledger.admit(device, &delivery, SystemTime::from(wall_clock())) {
            Admission::Execute => {
                let CommandDelivery { alias, id, .. } = delivery;
                let answer = ledger.complete(device, alias, id, CommandOutcome::Succeeded, String::new());
                stream.acknowledge(answer).await?;
            }
            Admission::Answer(answer) => stream.acknowledge(answer).await?,
            Admission::Executing | Admission::Refuse(_) => {}
        }
    }
    Ok(())
}

/// What one operator saw.
#[derive(Default)]
struct Operated {
    waits: Waits,
    disobeyed: Vec<String>,
}

/// Gives `device` one command after the other until `stop`.
async fn operate(
    client: Client,
    device: DeviceName,
    ids: String,
    phase: watch::Receiver<Phase>,
    stop: CancellationToken,
) -> Result<Operated, DrillError> {
    let mut operated = Operated::default();
    let mut numbers = 0_u64..;
    while let Some(number) = numbers.next().filter(|_| !stop.is_cancelled()) {
        let (now, begin) = (*phase.borrow(), Instant::now());
        let id = format!("{ids}-{number}");
        issue(&client, &device, &id, COMMAND_TIMEOUT).await?;
        let name: CommandName = format!("{device}/commands/{id}").parse()?;
        let mut watch = client.watch_command(&name);
        let mut state = CommandState::Unspecified;
        while let Some(command) = timeout(ANSWER_MAX, watch.next()).await.unwrap_or(Ok(None))? {
            state = command.state();
        }
        if state == CommandState::Succeeded {
            operated.waits.record(now, begin.elapsed());
        } else {
            operated.disobeyed.push(format!("{name} ended as {state:?}"));
        }
        stop.run_until_cancelled(sleep(PAUSE)).await;
    }
    Ok(operated)
}

/// Orders `device` to another temperature.
pub(super) async fn issue(client: &Client, device: &DeviceName, id: &str, timeout: Duration) -> Result<(), DrillError> {
    let setpoint = Value { kind: Some(value::Kind::Number(21.0)) };
    let request = IssueCommandRequest {
        device: device.to_string(),
        action: "set_temperature".to_owned(),
        arguments: vec![Argument { name: "setpoint".to_owned(), value: Some(setpoint) }],
        timeout: prost_types::Duration::try_from(timeout).ok(),
        request_id: id.to_owned(),
        ..IssueCommandRequest::default()
    };
    client.issue_command(request).await?;
    Ok(())
}
