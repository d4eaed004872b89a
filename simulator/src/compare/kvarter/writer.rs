//! One client of Kvarter: a gateway stream with one batch of readings at a time.
use kvarter_api::{BatchSequence, Client, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, v1};

use crate::compare::CompareError;
use crate::compare::drive::{Group, WriteError, Writer};
use crate::compare::payload::Payload;
use crate::compare::system::Clients;
use crate::enroll::open_attached;

pub(crate) struct GatewayWriter {
    stream: GatewayStream,
    events: GatewayEvents,
    payload: Payload,
    attribute: u32,
    devices: u64,
    first_observed_us: i64,
    written: u64,
}

impl GatewayWriter {
    /// Opens a stream for `devices`, which are registered.
    pub(crate) async fn open(
        client: Client,
        devices: Vec<String>,
        clients: Clients,
        kinds: Vec<v1::Kind>,
    ) -> Result<Self, CompareError> {
        let (kind, attribute) = clients.payload.attribute();
        let kind = kinds.iter().find(|known| known.name == kind);
        let attribute = kind.and_then(|kind| kind.attributes.iter().find(|known| known.name == attribute));
        let attribute = attribute.ok_or(CompareError::CatalogMismatch)?.number;
        let (stream, events, _shards) = open_attached(&client, GatewayOptions::default(), &devices).await?;
        let (payload, first_observed_us) = (clients.payload, clients.first_observed_us);
        Ok(Self { stream, events, payload, attribute, devices: devices.len() as u64, first_observed_us, written: 0 })
    }

    fn next_reading(&mut self) -> v1::Reading {
        let serial = self.written;
        self.written += 1;
        let alias = u32::try_from(serial % self.devices).expect("aliases are 32 bits wide");
        let observed_us = self.first_observed_us + (serial / self.devices).cast_signed();
        self.payload.reading(alias, self.attribute, observed_us, serial)
    }

    /// Waits for the outcomes of all readings of the batch.
    async fn acknowledged(&mut self, batch: BatchSequence) -> Result<Group, WriteError> {
        loop {
            match self.events.next().await {
                Some(GatewayEvent::Acknowledged(acknowledged)) => {
                    let stored = |outcome| {
                        outcome == v1::ReadingOutcome::Stored || outcome == v1::ReadingOutcome::AcceptedEarlier
                    };
                    if let Some(reading) = acknowledged.readings.iter().find(|reading| !stored(reading.outcome)) {
                        let problem = format!("kvarter: a reading is {:?} {:?}", reading.outcome, reading.rejection);
                        return Err(WriteError(problem));
                    }
                    if acknowledged.sequence == batch && acknowledged.is_complete {
                        return Ok(Group(acknowledged.shard.unwrap_or_default()));
                    }
                }
                Some(GatewayEvent::Failed(error)) => return Err(WriteError(format!("kvarter: {error}"))),
                Some(_) => {}
                None => return Err(WriteError("kvarter: the stream has ended".to_owned())),
            }
        }
    }
}

impl Writer for GatewayWriter {
    async fn write(&mut self, records: u32) -> Result<Group, WriteError> {
        let readings = (0..records).map(|_| self.next_reading()).collect();
        let batch = self.stream.send(readings).await.map_err(|error| WriteError(format!("kvarter: {error}")))?;
        self.acknowledged(batch).await
    }
}
