//! Those next door to the poisoned device: sensors that report all the time, buildings that obey, and who orders them about.
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kvarter_api::v1::{
    Argument, CommandDelivery, CommandOutcome, CommandState, Device, IssueCommandRequest, Reading, ReadingOutcome,
    Value, reading, value,
};
use kvarter_api::{
    Admission, BatchSequence, Client, CommandLedger, CommandName, DeviceName, GatewayEvent, GatewayEvents,
    GatewayOptions, GatewayStream,
};
use kvarter_simulator::{Ledger, LoadPlan, Serial, load_attribute, open_attached, register, wall_clock};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{ANSWER_MAX, DISTRICT, Phase, Waits, failed};
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
    pub(super) async fn start(client: &Client, run: &str) -> Result<Self, DrillError> {
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
        let sensors = Sensors::attach(client, sensors).await?;
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
        Ok(Outcome { ledger: sensors.ledger, readings: sensors.waits, commands, disobeyed })
    }
}

/// Sensors behind one stream; a round is a batch with one reading of each.
struct Sensors {
    stream: GatewayStream,
    events: GatewayEvents,
    attribute: u32,
    ledger: Ledger,
    open: BTreeMap<u64, (Instant, Phase)>,
    waits: Waits,
}

impl Sensors {
    async fn attach(client: &Client, names: Vec<String>) -> Result<Self, DrillError> {
        let attribute = load_attribute(client).await?;
        let (stream, events, _) = open_attached(client, GatewayOptions::default(), &names).await?;
        let ledger = Ledger::new(names, wall_clock().as_microsecond());
        Ok(Self { stream, events, attribute, ledger, open: BTreeMap::new(), waits: Waits::default() })
    }

    /// Reports until `stop`, and waits for what is open then.
    async fn report(mut self, phase: watch::Receiver<Phase>, stop: CancellationToken) -> Result<Self, DrillError> {
        let mut rounds = interval(ROUND_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = rounds.tick(), if self.open.len() < ROUNDS_OPEN_MAX => {
                    let now = *phase.borrow();
                    self.send_round(now).await?;
                }
                event = self.events.next() => self.take(event)?,
                () = stop.cancelled() => break,
            }
        }
        let give_up = Instant::now() + ANSWER_MAX;
        while !self.open.is_empty() {
            tokio::select! {
                event = self.events.next() => self.take(event)?,
                () = sleep_until(give_up) => return Err(failed("readings of neighbours were not answered")),
            }
        }
        Ok(self)
    }

    async fn send_round(&mut self, phase: Phase) -> Result<(), DrillError> {
        let first = self.ledger.sent();
        let readings = (0..).zip(first..first + self.ledger.devices().len() as u64).map(|(alias, number)| Reading {
            alias,
            attribute: self.attribute,
            observed_us: self.ledger.observed_us(Serial(number)),
            value: Some(reading::Value::Number(1.0)),
        });
        let readings: Vec<Reading> = readings.collect();
        let (begin, count) = (Instant::now(), readings.len());
        let BatchSequence(sequence) = self.stream.send(readings).await?;
        for _reading in 0..count {
            self.ledger.send();
        }
        self.open.insert(sequence, (begin, phase));
        Ok(())
    }

    fn take(&mut self, event: Option<GatewayEvent>) -> Result<(), DrillError> {
        let answer = match event {
            Some(GatewayEvent::Acknowledged(answer)) => answer,
            Some(GatewayEvent::Failed(error)) => return Err(error.into()),
            None => return Err(failed("the stream of the neighbours' sensors ended")),
            Some(_of_others) => return Ok(()),
        };
        let BatchSequence(sequence) = answer.sequence;
        if let Some((begin, phase)) = self.open.remove(&sequence) {
            self.waits.record(phase, begin.elapsed());
        }
        // Batches count from 1, rounds from 0.
        let first = (sequence - 1) * self.ledger.devices().len() as u64;
        for reading in &answer.readings {
            let serial = Serial(first + u64::from(reading.index));
            match reading.outcome {
                ReadingOutcome::Rejected => self.ledger.reject(serial),
                _ => self.ledger.accept(serial),
            }
        }
        Ok(())
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
