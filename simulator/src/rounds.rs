//! Devices that report in rounds over one gateway stream: each batch has one reading of each device.
use kvarter_api::v1::ReadingOutcome;
use kvarter_api::{
    ApiError, BatchAcknowledgement, BatchSequence, Client, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream,
    SendError,
};

use crate::clock::wall_clock;
use crate::enroll::open_attached;
use crate::load::{Ledger, LoadError, Serial, load_attribute};

/// A gateway stream and what its devices remember. Rounds count from 0.
#[derive(Debug)]
pub struct Rounds {
    stream: GatewayStream,
    events: GatewayEvents,
    attribute: u32,
    ledger: Ledger,
    answered: u64,
}

/// What was said to readings of one round; those of another shard may be answered apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredRound {
    pub round: u64,
    pub readings: Vec<AnsweredReading>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredReading {
    /// Turn of the device.
    pub turn: usize,
    pub is_accepted: bool,
}

/// Why there are no more answers.
#[derive(Debug, thiserror::Error)]
pub enum RoundsError {
    #[error(transparent)]
    Failed(ApiError),
    #[error(transparent)]
    NotSent(#[from] SendError),
}

impl Rounds {
    /// Attaches `devices`, which are of a load's kind and registered; returns the shard of each, too.
    pub async fn attach(client: &Client, devices: Vec<String>) -> Result<(Self, Vec<u32>), LoadError> {
        let attribute = load_attribute(client).await?;
        let (stream, events, shards) = open_attached(client, GatewayOptions::default(), &devices).await?;
        let ledger = Ledger::new(devices, wall_clock().as_microsecond());
        Ok((Self { stream, events, attribute, ledger, answered: 0 }, shards))
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn into_ledger(self) -> Ledger {
        self.ledger
    }

    /// Rounds that were sent.
    pub fn sent(&self) -> u64 {
        self.ledger.sent() / self.devices()
    }

    /// Readings that were sent and have no answer.
    pub fn open(&self) -> u64 {
        self.ledger.sent() - self.answered
    }

    /// Sends the next round and returns its number; waits for room in the stream's window.
    ///
    /// Dropping the future withdraws the round.
    pub async fn send(&mut self) -> Result<u64, RoundsError> {
        let (round, first) = (self.sent(), self.ledger.sent());
        let serials = (first..first + self.devices()).map(Serial);
        let readings = serials.map(|serial| self.ledger.turns().reading(serial, self.attribute)).collect();
        self.stream.send(readings).await?;
        for _ in 0..self.devices() {
            self.ledger.send();
        }
        Ok(round)
    }

    /// The next answer, which the ledger knows then. Cancel safe.
    pub async fn next(&mut self) -> Result<AnsweredRound, RoundsError> {
        loop {
            match self.events.next().await {
                Some(GatewayEvent::Acknowledged(acknowledgement)) => return Ok(self.take(&acknowledgement)),
                Some(GatewayEvent::Failed(error)) => return Err(RoundsError::Failed(error)),
                None => return Err(SendError::Ended.into()),
                Some(
                    GatewayEvent::Command(_)
                    | GatewayEvent::Desired(_)
                    | GatewayEvent::Moving
                    | GatewayEvent::Disconnected(_)
                    | GatewayEvent::Resumed { .. }
                    | GatewayEvent::Detached { .. },
                ) => {}
            }
        }
    }

    fn take(&mut self, acknowledgement: &BatchAcknowledgement) -> AnsweredRound {
        // Batches count from 1.
        let BatchSequence(sequence) = acknowledgement.sequence;
        let round = sequence - 1;
        self.answered += acknowledgement.readings.len() as u64;
        let mut readings = Vec::with_capacity(acknowledgement.readings.len());
        for reading in &acknowledgement.readings {
            let serial = Serial(round * self.devices() + u64::from(reading.index));
            let is_accepted = reading.outcome != ReadingOutcome::Rejected;
            if is_accepted {
                self.ledger.accept(serial);
            } else {
                self.ledger.reject(serial);
            }
            readings.push(AnsweredReading { turn: self.ledger.turns().turn(serial), is_accepted });
        }
        AnsweredRound { round, readings }
    }

    fn devices(&self) -> u64 {
        self.ledger.devices().len() as u64
    }
}
