//! One reading that makes the code for its device panic: that device alone is quarantined, and its neighbours notice nothing.
//!
//! In one district, sensors report and buildings obey all the while; one building reports the poison and is then given a command,
//! so that its code runs. Compared is what neighbours waited before that and since then. Needs nodes that fail on the poison:
//! see [`Poison`]. `neighbours` has those who must not notice.
mod neighbours;

use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::v1::{Command, CommandState, Device, Reading, ReadingOutcome, reading, value};
use kvarter_api::{Client, CommandName, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream};
use kvarter_simulator::{Latencies, open_attached, register, wall_clock};
use tokio::time::{Instant, sleep, timeout};

use super::{Aftermath, Scene, failed};
use crate::check::{Violation, Violations};
use crate::drill::DrillError;
use crate::stage::Poison;
use neighbours::{BUILDING, Neighbours, issue};

const DISTRICT: &str = "districts/poison";
/// Neighbours are watched for so long before the poison.
const CALM: Duration = Duration::from_secs(8);
/// Five failures, with waits between them that double from a second, give or take.
const QUARANTINE_MAX: Duration = Duration::from_secs(60);
/// Neighbours are watched for so long once the device is in quarantine.
const AFTERWARDS: Duration = Duration::from_secs(4);
const ANSWER_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// More than waiting twice as long and this is no noise.
const NOISE: Duration = Duration::from_millis(20);
/// The poisoned device's first command outlives its failures; its last one is given to a device in quarantine.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
const ATTRIBUTE: &str = "temperature";
const WHOLESOME: f64 = 20.0;

/// Whether something began before the poison or since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    During,
}

/// What neighbours waited.
#[derive(Debug, Default)]
struct Waits {
    before: Latencies,
    during: Latencies,
}

impl Waits {
    fn record(&mut self, phase: Phase, wait: Duration) {
        match phase {
            Phase::Before => self.before.record(wait),
            Phase::During => self.during.record(wait),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.before.merge(&other.before);
        self.during.merge(&other.during);
    }
}

pub(super) async fn administer(scene: Scene<'_>) -> Result<Aftermath, DrillError> {
    let client = scene.client;
    let run = format!("{:x}", wall_clock().as_microsecond());
    let leaders = scene.health.leaderships().await?;
    let before = quarantined(scene).await?;
    let mut poisoned = Poisoned::open(client, &run).await?;
    let neighbours = Neighbours::start(scene, &run).await?;
    sleep(CALM).await;

    neighbours.enter(Phase::During);
    let begin = Instant::now();
    poisoned.report(Poison::NUMBER).await?;
    let mut violations = Violations::default();
    poisoned.judge_stored(client, &mut violations).await?;
    let first = format!("{run}-first");
    issue(client, &poisoned.name, &first, FIRST_TIMEOUT).await?;
    let expected: BTreeSet<String> = [poisoned.name.to_string()].into();
    let mut found = BTreeSet::new();
    while found.is_empty() && begin.elapsed() < QUARANTINE_MAX {
        sleep(LOOK_INTERVAL).await;
        found = quarantined(scene).await?.difference(&before).cloned().collect();
    }
    let quarantined_after = begin.elapsed();
    let last = format!("{run}-last");
    issue(client, &poisoned.name, &last, LAST_TIMEOUT).await?;
    sleep(AFTERWARDS).await;
    // A neighbour may have followed meanwhile.
    found = quarantined(scene).await?.difference(&before).cloned().collect();
    if found != expected {
        violations.add(Violation::QuarantineWrong { expected, found });
    }
    let outcome = neighbours.finish().await?;
    poisoned.judge_commands(client, &[first, last], &mut violations).await?;
    // Whoever leads next runs the device's code again.
    poisoned.report(WHOLESOME).await?;
    poisoned.judge_untold(&mut violations);
    scene.judge_same_leaders(&leaders, &mut violations).await?;

    outcome.disobeyed.into_iter().for_each(|what| violations.add(Violation::Broken { what }));
    let mut aftermath = Aftermath { ledgers: vec![outcome.ledger], violations, ..Aftermath::default() };
    judge_waits("readings", &outcome.readings, &mut aftermath);
    judge_waits("commands", &outcome.commands, &mut aftermath);
    let [readings, readings_during, commands, commands_during] =
        [&outcome.readings.before, &outcome.readings.during, &outcome.commands.before, &outcome.commands.during]
            .map(|waits| waits.summary().p99_ms);
    aftermath.figures = [
        ("quarantined after s", quarantined_after.as_secs_f64()),
        ("neighbours' readings p99 ms before", readings),
        ("neighbours' readings p99 ms during", readings_during),
        ("neighbours' commands p99 ms before", commands),
        ("neighbours' commands p99 ms during", commands_during),
    ]
    .into();
    Ok(aftermath)
}

/// Devices in quarantine at any node.
async fn quarantined(scene: Scene<'_>) -> Result<BTreeSet<String>, DrillError> {
    let mut devices = BTreeSet::new();
    for node in scene.health.clients() {
        let answer = node.local_replicas(false).await?;
        devices.extend(answer.replicas.into_iter().flat_map(|replica| replica.quarantined_devices));
    }
    Ok(devices)
}

fn judge_waits(what: &'static str, waits: &Waits, aftermath: &mut Aftermath) {
    let Waits { before, during } = waits;
    aftermath.acts += before.count() + during.count();
    // A hundredth of fewer is nobody.
    for seen in [before.count(), during.count()] {
        aftermath.violations.require("strikes", what, seen, 100);
    }
    let (before_ms, during_ms) = (before.summary().p99_ms, during.summary().p99_ms);
    if during_ms > 2.0 * before_ms + NOISE.as_secs_f64() * 1e3 {
        let [before_us, during_us] = [before_ms, during_ms].map(micros);
        aftermath.violations.add(Violation::NeighboursSlower { what, before_us, during_us });
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "latencies are far below 2^64")]
fn micros(ms: f64) -> u64 {
    (ms * 1e3) as u64
}

/// The device whose code is to fail.
struct Poisoned {
    name: DeviceName,
    stream: GatewayStream,
    events: GatewayEvents,
    attribute: u32,
    told: Vec<String>,
}

impl Poisoned {
    async fn open(client: &Client, run: &str) -> Result<Self, DrillError> {
        let kind = client.kind(BUILDING).await?;
        let attribute = kind.attributes.iter().find(|attribute| attribute.name == ATTRIBUTE).map(|it| it.number);
        let attribute = attribute.ok_or_else(|| failed(format!("{BUILDING} has no {ATTRIBUTE}")))?;
        let name: DeviceName = format!("{DISTRICT}/devices/poisoned-{run}").parse()?;
        let device = Device { name: name.to_string(), kind: BUILDING.to_owned(), ..Device::default() };
        register(client, vec![device]).await?;
        let (stream, events, _) = open_attached(client, GatewayOptions::default(), &[name.to_string()]).await?;
        Ok(Self { name, stream, events, attribute, told: Vec::new() })
    }

    /// Reports `temperature`, which must be stored.
    async fn report(&mut self, temperature: f64) -> Result<(), DrillError> {
        let (observed_us, value) = (wall_clock().as_microsecond(), Some(reading::Value::Number(temperature)));
        let reading = Reading { alias: 0, attribute: self.attribute, observed_us, value };
        let sent = self.stream.send(vec![reading]).await?;
        loop {
            let event = timeout(ANSWER_MAX, self.events.next()).await;
            match event.map_err(|_elapsed| failed("a reading of the poisoned device was not answered"))? {
                Some(GatewayEvent::Acknowledged(answer)) if answer.sequence == sent => {
                    let is_stored = answer.readings.iter().all(|it| it.outcome == ReadingOutcome::Stored);
                    return if is_stored { Ok(()) } else { Err(failed("a reading of the poisoned device is refused")) };
                }
                Some(GatewayEvent::Failed(error)) => return Err(error.into()),
                None => return Err(failed("the poisoned device's stream ended")),
                Some(event) => self.note(&event),
            }
        }
    }

    fn note(&mut self, event: &GatewayEvent) {
        if let GatewayEvent::Command(delivery) = event {
            self.told.push(delivery.id.clone());
        }
    }

    /// A poisoned reading is an acknowledged one.
    async fn judge_stored(&self, client: &Client, violations: &mut Violations) -> Result<(), DrillError> {
        let twin = client.twin(&self.name, Duration::ZERO).await?.twin.unwrap_or_default();
        let reported = twin.reported.iter().find(|reported| reported.attribute == ATTRIBUTE);
        let shown = reported.and_then(|reported| reported.value.as_ref()?.kind.clone());
        if shown != Some(value::Kind::Number(Poison::NUMBER)) {
            violations.add(Violation::Broken { what: format!("the twin of {} shows {shown:?}", self.name) });
        }
        Ok(())
    }

    /// Commands of a device whose code fails expire, and block nobody.
    async fn judge_commands(
        &self,
        client: &Client,
        ids: &[String],
        violations: &mut Violations,
    ) -> Result<(), DrillError> {
        for id in ids {
            let name: CommandName = format!("{}/commands/{id}", self.name).parse()?;
            let mut watch = client.watch_command(&name);
            let mut state = CommandState::Unspecified;
            while let Ok(Some(command)) = timeout(FIRST_TIMEOUT + ANSWER_MAX, watch.next()).await.unwrap_or(Ok(None)) {
                state = Command::state(&command);
            }
            if state != CommandState::Expired {
                violations.add(Violation::Broken { what: format!("{name} ended as {state:?}, not as expired") });
            }
        }
        Ok(())
    }

    fn judge_untold(mut self, violations: &mut Violations) {
        while let Some(event) = self.events.next_now() {
            self.note(&event);
        }
        for id in self.told {
            violations.add(Violation::Broken { what: format!("{}/commands/{id} was delivered", self.name) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(before_ms: u64, during_ms: u64, count: u64) -> Aftermath {
        let mut waits = Waits::default();
        for _ in 0..count {
            waits.record(Phase::Before, Duration::from_millis(before_ms));
            waits.record(Phase::During, Duration::from_millis(during_ms));
        }
        let mut aftermath = Aftermath::default();
        judge_waits("readings", &waits, &mut aftermath);
        aftermath
    }

    #[test]
    fn neighbours_that_wait_longer_than_noise_explains_are_noticed() {
        assert_eq!(waits(10, 39, 200).violations.count, 0);
        let slower = waits(10, 45, 200);
        assert!(matches!(slower.violations.first[..], [Violation::NeighboursSlower { what: "readings", .. }]));
        assert_eq!(slower.acts, 400);
    }

    #[test]
    fn few_neighbours_are_no_evidence() {
        assert_eq!(waits(10, 10, 99).violations.count, 2);
    }
}
