//! Commands to devices beside the readings: how long until one is promised, and until its device has it.
//!
//! The devices are water meters with a valve on a gateway stream of their own, so that nobody else orders them; they obey at
//! once.
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kvarter_api::{
    Admission, Client, CommandLedger, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, v1,
};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::calls::{self, CallReport};
use super::schedule::Schedule;
use super::{EVENTS_MAX, LoadPlan, Serial};
use crate::clock::wall_clock;
use crate::enroll::{EnrollError, open_attached, register};
use crate::latency::{Latencies, LatencySummary};

const KIND: &str = "water_meter";
const ACTION: &str = "set_valve";
const ARGUMENT: &str = "open";
/// By turns: enough that a valve has obeyed long before its next order.
const VALVES: u32 = 1_000;
const CLOCK_BOUND: Duration = Duration::from_millis(500);
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The figures of the commands of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CommandReport {
    /// Until a command was durable: accepted, as its caller is told.
    #[serde(flatten)]
    pub accepted: CallReport,
    /// Commands that their devices got, each once.
    pub delivered: u64,
    /// From the moment a command was due until its device had it.
    pub delivery: LatencySummary,
}

#[derive(Debug)]
pub(super) struct Commands {
    client: Client,
    valves: Vec<DeviceName>,
    stream: GatewayStream,
    events: GatewayEvents,
    /// Begins the ids of the commands; no other load has it.
    run: String,
    commands_per_s: f64,
}

impl Commands {
    /// Registers the valves and attaches them.
    pub(super) async fn prepare(client: &Client, plan: &LoadPlan, commands_per_s: f64) -> Result<Self, EnrollError> {
        let LoadPlan { district_prefix, districts, .. } = plan;
        let name = |number: u32| format!("districts/{district_prefix}-{}/devices/valve-{number}", number % districts);
        let names: Vec<String> = (0..VALVES).map(name).collect();
        let device = |name: &String| v1::Device { name: name.clone(), kind: KIND.to_owned(), ..v1::Device::default() };
        register(client, names.iter().map(device).collect()).await?;
        let options = GatewayOptions { events_max: EVENTS_MAX };
        let (stream, events, _shards) = open_attached(client, options, &names).await?;
        let valves = names.iter().filter_map(|name| name.parse().ok()).collect();
        let run = format!("load-{}", wall_clock().as_microsecond());
        Ok(Self { client: client.clone(), valves, stream, events, run, commands_per_s })
    }

    pub(super) fn commands_per_s(&self) -> f64 {
        self.commands_per_s
    }

    /// Orders the valves by turns until the schedule is over or `stop`; then waits up to `patience` for what is on its way.
    pub(super) async fn run(
        self,
        schedule: Schedule,
        start: Instant,
        stop: CancellationToken,
        patience: Duration,
    ) -> CommandReport {
        let Self { client, valves, stream, mut events, run, commands_per_s } = self;
        let deliveries = Deliveries::default();
        let issue = |number: u64| {
            let id = format!("{run}-{number}");
            deliveries.expect(&id, schedule.due(Serial(number)), schedule.is_measured(Serial(number)));
            let place = usize::try_from(number % valves.len() as u64).expect("below the number of valves");
            let request = order(&valves[place], id);
            let client = client.clone();
            async move { client.issue_command(request).await.is_ok() }
        };
        let obeying = obey(&valves, (&stream, &mut events), &deliveries, start);
        let issuing = async {
            let accepted = calls::run((schedule, commands_per_s), start, &stop, issue).await;
            let mut delivered = deliveries.delivered.subscribe();
            let all = delivered.wait_for(|delivered| *delivered >= accepted.answered);
            // Whether all have come is told by the numbers.
            drop(timeout(patience, async { all.await.is_ok() }).await);
            accepted
        };
        let accepted = tokio::select! {
            accepted = issuing => accepted,
            never = obeying => match never {},
        };
        stream.close(CLOSE_PATIENCE).await;
        let delivered = *deliveries.delivered.borrow();
        CommandReport { accepted, delivered, delivery: deliveries.latencies().summary() }
    }
}

fn order(valve: &DeviceName, id: String) -> v1::IssueCommandRequest {
    let open = v1::Value { kind: Some(v1::value::Kind::Boolean(true)) };
    v1::IssueCommandRequest {
        device: valve.to_string(),
        action: ACTION.to_owned(),
        arguments: vec![v1::Argument { name: ARGUMENT.to_owned(), value: Some(open) }],
        request_id: id,
        ..v1::IssueCommandRequest::default()
    }
}

/// Lets the valves obey, which are attached in their order. Never returns: a stream that has ended delivers nothing more.
async fn obey(
    valves: &[DeviceName],
    (stream, events): (&GatewayStream, &mut GatewayEvents),
    deliveries: &Deliveries,
    start: Instant,
) -> Infallible {
    let mut ledger = CommandLedger::new(CLOCK_BOUND);
    while let Some(event) = events.next().await {
        let GatewayEvent::Command(delivery) = event else { continue };
        let Some(valve) = usize::try_from(delivery.alias).ok().and_then(|alias| valves.get(alias)) else { continue };
        let acknowledgement = match ledger.admit(valve, &delivery, SystemTime::from(wall_clock())) {
            Admission::Execute => {
                deliveries.arrived(&delivery.id, start.elapsed());
                ledger.complete(valve, delivery.alias, delivery.id, v1::CommandOutcome::Succeeded, String::new())
            }
            Admission::Answer(acknowledgement) => acknowledgement,
            Admission::Executing | Admission::Refuse(_) => continue,
        };
        if stream.acknowledge(acknowledgement).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// What is on its way; the calls that are open bound it, and those whose commands were lost.
#[derive(Default)]
struct Deliveries {
    /// By id: when it was due, and whether it counts.
    expected: Mutex<BTreeMap<String, (Duration, bool)>>,
    latencies: Mutex<Latencies>,
    delivered: Arc<watch::Sender<u64>>,
}

impl Deliveries {
    fn expect(&self, id: &str, due: Duration, is_measured: bool) {
        lock(&self.expected).insert(id.to_owned(), (due, is_measured));
    }

    fn arrived(&self, id: &str, at: Duration) {
        // Of an earlier load, whose valves were the same.
        let Some((due, is_measured)) = lock(&self.expected).remove(id) else { return };
        if is_measured {
            self.latencies().record(at.saturating_sub(due));
        }
        self.delivered.send_modify(|delivered| *delivered += 1);
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        lock(&self.latencies)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
