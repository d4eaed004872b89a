//! Linearizable reads of twins beside the readings.
use std::time::Duration;

use kvarter_api::{Client, DeviceName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{self, CallReport};
use super::schedule::Schedule;

/// Reads that are to be issued while readings are sent.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) client: Client,
    /// At least one.
    pub(super) devices: Vec<DeviceName>,
    pub(super) reads_per_s: f64,
}

impl Reads {
    /// Reads the twins by turns.
    pub(super) async fn run(self, schedule: Schedule, start: Instant, stop: CancellationToken) -> CallReport {
        let read = |number: u64| {
            let place = usize::try_from(number % self.devices.len() as u64).expect("below the number of devices");
            let (client, device) = (self.client.clone(), self.devices[place].clone());
            async move { client.twin(&device, Duration::ZERO).await.is_ok() }
        };
        calls::run((schedule, self.reads_per_s), start, &stop, read).await
    }
}
