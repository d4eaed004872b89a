//! Devices that keep the contract: each id once, in time, by the latest leader's word; and that note every delivery.
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kvarter_api::v1::{CommandAcknowledgement, CommandDelivery, CommandOutcome, DesiredState, Reading, reading, value};
use kvarter_api::{
    Admission, ApiError, Client, CommandLedger, DeviceName, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream,
    SendError,
};
use kvarter_simulator::{open_attached, wall_clock};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::check::{CLOCK_BOUND_US, Deed, DeliveredCommand, DeliveredDesired, Deliveries};
use crate::drill::DrillError;

/// So that answers are on their way when a strike comes.
const ANSWER_DELAY_STEP: Duration = Duration::from_millis(7);
const ANSWER_DELAY_STEPS: u64 = 30;
/// Every so many commands a device fails.
const FAILS_EVERY: u64 = 7;
/// Every so many commands a device's answer gets lost: the next delivery asks for it again.
const FORGETS_EVERY: u64 = 23;
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// All steered devices behind one gateway stream.
pub(super) struct Devices {
    stream: GatewayStream,
    events: GatewayEvents,
    /// By alias.
    names: Vec<DeviceName>,
    ledger: CommandLedger,
    deliveries: Deliveries,
    /// Counts connections of the stream.
    connection: u64,
    held_up_max: Duration,
    executed: u64,
    /// Answers, and when they are due; the number tells apart what is due at once.
    answers: BTreeMap<(Instant, u64), CommandAcknowledgement>,
}

pub(super) struct DevicesOutcome {
    pub(super) deliveries: Deliveries,
    pub(super) failure: Option<ApiError>,
}

impl Devices {
    /// `held_up_max`: how long the drill's fault may hold up what is on its way to a device.
    pub(super) async fn attach(client: &Client, names: Vec<String>, held_up_max: Duration) -> Result<Self, DrillError> {
        let (stream, events, _shards) = open_attached(client, GatewayOptions::default(), &names).await?;
        let names = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let ledger = CommandLedger::new(Duration::from_micros(CLOCK_BOUND_US.unsigned_abs()));
        let (deliveries, answers) = (Deliveries::default(), BTreeMap::new());
        Ok(Self { stream, events, names, ledger, deliveries, connection: 0, held_up_max, executed: 0, answers })
    }

    /// Obeys until `stop`.
    pub(super) async fn serve(mut self, stop: CancellationToken) -> DevicesOutcome {
        let mut failure = None;
        while !stop.is_cancelled() {
            let due = self.answers.first_key_value().map(|((due, _), _)| *due);
            let served = tokio::select! {
                () = stop.cancelled() => break,
                event = self.events.next() => match event {
                    Some(GatewayEvent::Command(delivery)) => self.obey(&delivery).await,
                    Some(GatewayEvent::Desired(desired)) => self.comply(desired).await,
                    Some(GatewayEvent::Resumed { .. }) => {
                        self.connection += 1;
                        Ok(())
                    }
                    Some(GatewayEvent::Failed(error)) => {
                        failure = Some(error);
                        break;
                    }
                    None => break,
                    Some(_of_readings) => Ok(()),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.answer().await,
            };
            // When nothing can be sent any more, the last event says why.
            drop(served);
        }
        self.stream.close(CLOSE_PATIENCE).await;
        DevicesOutcome { deliveries: self.deliveries, failure }
    }

    async fn obey(&mut self, delivery: &CommandDelivery) -> Result<(), SendError> {
        let now = SystemTime::from(wall_clock());
        let CommandDelivery { alias, id, shard, epoch, deadline, .. } = delivery;
        let device = usize::try_from(*alias).ok().and_then(|alias| self.names.get(alias));
        let admission = device.map(|device| self.ledger.admit(device, delivery, now));
        let deed = (admission == Some(Admission::Execute)).then(|| {
            self.executed += 1;
            if self.executed.is_multiple_of(FAILS_EVERY) { Deed::Failed } else { Deed::Done }
        });
        self.deliveries.commands.push(DeliveredCommand {
            name: format!("{}/commands/{id}", self.name(*alias)),
            connection: self.connection,
            shard: *shard,
            epoch: *epoch,
            deadline_us: deadline.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000),
            arrived_us: micros(now),
            held_up_max_us: i64::try_from(self.held_up_max.as_micros()).unwrap_or(i64::MAX / 2),
            deed,
        });
        if let Some(Admission::Answer(acknowledgement)) = admission {
            return self.stream.acknowledge(acknowledgement).await;
        }
        if let Some((device, deed)) = device.zip(deed) {
            let (outcome, detail) = match deed {
                Deed::Done => (CommandOutcome::Succeeded, ""),
                Deed::Failed => (CommandOutcome::Failed, "the valve is stuck"),
            };
            let answer = self.ledger.complete(device, *alias, id.clone(), outcome, detail.to_owned());
            if !self.executed.is_multiple_of(FORGETS_EVERY) {
                let steps = u32::try_from(self.executed % ANSWER_DELAY_STEPS).unwrap_or(0);
                self.answers.insert((Instant::now() + ANSWER_DELAY_STEP * steps, self.executed), answer);
            }
        }
        Ok(())
    }

    /// Sends the answer that is due next.
    async fn answer(&mut self) -> Result<(), SendError> {
        match self.answers.pop_first() {
            Some((_, answer)) => self.stream.acknowledge(answer).await,
            None => Ok(()),
        }
    }

    fn name(&self, alias: u32) -> &str {
        usize::try_from(alias).ok().and_then(|alias| self.names.get(alias)).map_or("nobody", DeviceName::as_str)
    }

    /// Does what is wished for, and reports it.
    async fn comply(&mut self, desired: DesiredState) -> Result<(), SendError> {
        let DesiredState { alias, attributes, shard, epoch } = desired;
        let (device, behind) = (self.name(alias).to_owned(), self.deliveries.commands.len());
        let connection = self.connection;
        self.deliveries.desired.push(DeliveredDesired { device, connection, shard, epoch, behind });
        if self.ledger.fence(shard, epoch).is_err() {
            return Ok(());
        }
        let observed_us = wall_clock().as_microsecond();
        let report = |wish: kvarter_api::v1::DesiredAttribute| match wish.value?.kind? {
            value::Kind::Number(number) => {
                let value = Some(reading::Value::Number(number));
                Some(Reading { alias, attribute: wish.attribute, observed_us, value })
            }
            _ => None,
        };
        let readings: Vec<Reading> = attributes.into_iter().filter_map(report).collect();
        if readings.is_empty() { Ok(()) } else { self.stream.send(readings).await.map(drop) }
    }
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
