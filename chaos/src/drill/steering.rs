//! Commands and wishes under the fault: operators who order devices about through the public API, and devices that keep the
//! contract and note what they did, outside of the cluster.
//!
//! `operators` issue commands and watch them, `devices` obey, `registers` write and read desired attributes. Each keeps its own
//! notes; together they are the [`SteeringHistory`] that the checkers judge.
mod devices;
mod operators;
mod registers;

use std::time::Duration;

use kvarter_api::{Client, DeviceName, v1};
use kvarter_simulator::{register, wall_clock};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::DrillError;
use crate::check::{Deliveries, IssuedCommand, RegisterHistory};
use devices::{Devices, DevicesOutcome};
use operators::Operator;
pub(super) use operators::receipt_state;
use registers::Register;

/// Kind of the devices that are steered: one with a command and a writable attribute that no city service steers.
const KIND: &str = "building";
/// What commands set and what is wished for, degrees.
const ATTRIBUTE: &str = "temperatureSetpoint";
const SETPOINT_MIN: f64 = 5.0;
/// Devices in each shard that get commands; another one is wished for.
const ORDERED_PER_SHARD: usize = 2;
/// A shard notices within this time that a command's deadline has passed.
const EXPIRY_SLACK: Duration = Duration::from_secs(5);

/// One drill, whose commands are told from others' by how their ids begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    prefix: String,
}

/// Operators and devices at work.
pub(super) struct Steering {
    run: Run,
    stop_operators: CancellationToken,
    operators: JoinSet<Vec<IssuedCommand>>,
    registers: JoinSet<RegisterHistory>,
    stop_devices: CancellationToken,
    devices: JoinSet<DevicesOutcome>,
}

/// What all of them noted.
#[derive(Debug, Default)]
pub(super) struct SteeringHistory {
    /// Operators that ordered.
    pub(super) operators: usize,
    pub(super) issued: Vec<IssuedCommand>,
    pub(super) deliveries: Deliveries,
    pub(super) registers: Vec<RegisterHistory>,
    /// Why the devices' stream ended before its time.
    pub(super) failure: Option<String>,
}

impl Run {
    /// One that began at `begin_us`.
    pub(super) fn new(begin_us: i64) -> Self {
        Self { prefix: format!("drill{begin_us:x}-") }
    }

    /// Begins the ids of its commands.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a command, by its full name, is one of this drill's.
    pub(super) fn has_issued(&self, command: &str) -> bool {
        command.rsplit_once("/commands/").is_some_and(|(_, id)| id.starts_with(&self.prefix))
    }
}

impl Steering {
    /// Registers and attaches devices in `districts`, one district of each shard, and begins to steer them for `run`. `nodes` has a client
    /// for each node, which the readers use in turn; `held_up_max` is how long the drill's fault may hold up what is on its way.
    pub(super) async fn start(
        client: &Client,
        nodes: &[Client],
        districts: &[String],
        run: &Run,
        held_up_max: Duration,
    ) -> Result<Self, DrillError> {
        let names = |role: &str, count: usize| -> Result<Vec<DeviceName>, DrillError> {
            let names = districts.iter().flat_map(|district| (0..count).map(move |number| (district, number)));
            names.map(|(district, number)| Ok(format!("{district}/devices/{role}-{number}").parse()?)).collect()
        };
        let (ordered, wished) = (names("ordered", ORDERED_PER_SHARD)?, names("wished", 1)?);
        let all: Vec<String> = ordered.iter().chain(&wished).map(DeviceName::to_string).collect();
        let device = |name: &String| v1::Device { name: name.clone(), kind: KIND.to_owned(), ..v1::Device::default() };
        register(client, all.iter().map(device).collect()).await?;
        let (stop_operators, stop_devices) = (CancellationToken::new(), CancellationToken::new());
        let mut devices = JoinSet::new();
        devices.spawn(Devices::attach(client, all, held_up_max).await?.serve(stop_devices.clone()));

        let mut operators = JoinSet::new();
        for (turn, device) in ordered.into_iter().enumerate() {
            let operator = Operator { client: client.clone(), device, ids: format!("{}{turn}", run.prefix()) };
            operators.spawn(operator.work(stop_operators.clone()));
        }
        let begin = Instant::now();
        let mut registers = JoinSet::new();
        for device in wished {
            let register = Register { client: client.clone(), nodes: nodes.to_vec(), device, begin };
            registers.spawn(register.exercise(stop_operators.clone()));
        }
        Ok(Self { run: run.clone(), stop_operators, operators, registers, stop_devices, devices })
    }

    /// Lets everybody finish what is open, commands whose outcome is not known included, and takes their notes.
    pub(super) async fn finish(self) -> SteeringHistory {
        let Self { run, stop_operators, mut operators, registers, stop_devices, mut devices } = self;
        stop_operators.cancel();
        let mut history = SteeringHistory { operators: operators.len(), ..SteeringHistory::default() };
        while let Some(issued) = operators.join_next().await {
            history.issued.extend(issued.expect("an operator does not panic and is not aborted"));
        }
        history.registers = registers.join_all().await;
        sleep(time_to_end(&history.issued, wall_clock().as_microsecond())).await;
        stop_devices.cancel();
        while let Some(outcome) = devices.join_next().await {
            let DevicesOutcome { deliveries, failure } = outcome.expect("devices do not panic and are not aborted");
            history.deliveries = deliveries;
            // The devices may still have been ordered about by a drill that was broken off before.
            history.deliveries.commands.retain(|delivered| run.has_issued(&delivered.name));
            history.failure = failure.map(|error| error.to_string());
        }
        history
    }
}

/// How long commands may still be open that nobody saw end.
fn time_to_end(issued: &[IssuedCommand], now_us: i64) -> Duration {
    let is_open = |command: &&IssuedCommand| command.receipts.last().is_none_or(|last| !last.state.is_end());
    let last_us = issued.iter().filter(is_open).map(|command| command.answered_us + command.timeout_us).max();
    let left_us = last_us.map_or(0, |last_us| u64::try_from(last_us - now_us).unwrap_or(0));
    if left_us == 0 { Duration::ZERO } else { Duration::from_micros(left_us) + EXPIRY_SLACK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{FeedPosition, IssueOutcome, Receipt, ReceiptState};

    fn command(state: ReceiptState) -> IssuedCommand {
        let position = FeedPosition { index: 1, ordinal: 0 };
        IssuedCommand {
            name: "districts/d/devices/x/commands/drill1-0-0".to_owned(),
            called_us: 900,
            answered_us: 1_000,
            timeout_us: 5_000_000,
            outcome: IssueOutcome::Accepted,
            receipts: vec![Receipt { state, position, seen_us: 1_000 }],
        }
    }

    #[test]
    fn only_commands_that_nobody_saw_end_are_waited_for() {
        assert_eq!(time_to_end(&[command(ReceiptState::Failed)], 0), Duration::ZERO);
        let open = [command(ReceiptState::Failed), command(ReceiptState::Delivered)];
        assert_eq!(time_to_end(&open, 1_001_000), Duration::from_secs(4) + EXPIRY_SLACK);
        assert_eq!(time_to_end(&open, 9_000_000), Duration::ZERO);
    }

    #[test]
    fn commands_of_other_drills_are_told_apart() {
        let run = Run::new(1);
        assert!(run.has_issued("districts/d/devices/x/commands/drill1-0-0"));
        assert!(!run.has_issued("districts/d/devices/x/commands/drill12-0-0") && !run.has_issued("drill1-0-0"));
    }
}
