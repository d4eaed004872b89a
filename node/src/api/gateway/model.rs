//! A shard as streams see it, for tests: opens streams, attaches devices, and takes parts by comparing sequences.

use std::collections::{BTreeMap, BTreeSet};

use kvarter_actors::ValueRef;
use kvarter_actors::message::{self, Failure, FailureReason, StreamTotals, shard_reply::Reply, shard_request::Request};

/// Devices whose names end so are not registered.
pub(crate) const UNREGISTERED: &str = "-ghost";

/// The state of one shard.
#[derive(Default)]
pub(crate) struct ModelShard {
    streams: BTreeMap<Vec<u8>, ModelStream>,
    /// Number by name; `None`: retired.
    devices: BTreeMap<String, Option<u32>>,
    devices_count: u32,
    /// The integer of every reading that was stored, in order.
    pub(crate) stored: Vec<i64>,
    pub(crate) acknowledged: Vec<message::Acknowledgement>,
}

struct ModelStream {
    client: String,
    totals: StreamTotals,
    connection: u64,
    is_open: bool,
}

impl ModelShard {
    pub(crate) fn answer(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::OpenStream(open) => self.open(&open),
            Request::AttachDevices(attach) => {
                self.stream(&attach.stream)?;
                let devices = attach.names.into_iter().map(|name| self.attach(name)).collect();
                Ok(Reply::DevicesAttached(message::DevicesAttached { devices }))
            }
            Request::SubmitReadings(submit) => self.submit(submit),
            Request::CloseStream(close) => {
                if let Some(known) = self.streams.get_mut(&close.stream[..])
                    && close.connection >= known.connection
                {
                    (known.connection, known.is_open) = (close.connection, false);
                }
                Ok(Reply::Done(message::Done::default()))
            }
            Request::AcknowledgeCommands(said) => {
                self.acknowledged.extend(said.acknowledgements);
                Ok(Reply::Done(message::Done::default()))
            }
            other => unreachable!("streams do not ask {other:?}"),
        }
    }

    pub(crate) fn device(&self, name: &str) -> u32 {
        self.devices[name].expect("not retired")
    }

    pub(crate) fn retire(&mut self, name: &str) {
        self.devices.insert(name.to_owned(), None);
    }

    pub(crate) fn totals(&self, stream: &[u8]) -> StreamTotals {
        self.streams.get(stream).map_or_else(StreamTotals::default, |known| known.totals)
    }

    /// The connection that holds the stream open.
    pub(crate) fn connection(&self, stream: &[u8]) -> Option<u64> {
        self.streams.get(stream).filter(|known| known.is_open).map(|known| known.connection)
    }

    fn open(&mut self, open: &message::OpenStream) -> Result<Reply, Failure> {
        let known = self.streams.entry(open.stream.to_vec()).or_insert_with(|| ModelStream {
            client: open.client.clone(),
            totals: StreamTotals::default(),
            connection: open.connection,
            is_open: true,
        });
        if known.client != open.client {
            return Err(Failure::new(FailureReason::Forbidden, "of another client"));
        }
        if open.connection < known.connection || (open.connection == known.connection && !known.is_open) {
            return Err(Failure::new(FailureReason::Superseded, "of an older connection"));
        }
        (known.connection, known.is_open) = (open.connection, true);
        Ok(Reply::StreamOpened(known.totals))
    }

    fn attach(&mut self, name: String) -> message::AttachedDevice {
        if name.ends_with(UNREGISTERED) {
            return message::AttachedDevice { device: 0, error: format!("device `{name}` is not registered") };
        }
        let (next, known) = (self.devices_count, self.devices.contains_key(&name));
        self.devices_count += u32::from(!known);
        match self.devices.entry(name).or_insert(Some(next)) {
            Some(device) => message::AttachedDevice { device: *device, error: String::new() },
            None => message::AttachedDevice { device: 0, error: "retired".to_owned() },
        }
    }

    fn stream(&mut self, stream: &[u8]) -> Result<&mut StreamTotals, Failure> {
        let known = self.streams.get_mut(stream).map(|known| &mut known.totals);
        known.ok_or_else(|| Failure::new(FailureReason::StreamExpired, "not known"))
    }

    fn submit(&mut self, submit: message::SubmitReadings) -> Result<Reply, Failure> {
        let devices: BTreeSet<u32> = self.devices.values().copied().flatten().collect();
        let totals = self.stream(&submit.stream)?;
        if submit.sequence <= totals.sequence || submit.previous != totals.sequence {
            let is_known = submit.sequence <= totals.sequence;
            let reason = if is_known { FailureReason::AlreadyAccepted } else { FailureReason::SequenceGap };
            return Err(Failure { totals: Some(*totals), ..Failure::new(reason, "out of order") });
        }
        let readings = submit.readings.expect("readings");
        assert!(readings.is_rectangular() && !readings.is_empty());
        let mut outcomes = Vec::new();
        let mut rejections = Vec::new();
        let mut stored = Vec::new();
        for reading in readings.iter() {
            let Some(ValueRef::Integer(integer)) = reading.value else { unreachable!("an integer was sent") };
            if devices.contains(&reading.device.0) {
                outcomes.push(1);
                stored.push(integer);
                totals.stored += 1;
            } else {
                outcomes.push(4);
                rejections.push(1);
                totals.rejected += 1;
            }
        }
        totals.sequence = submit.sequence;
        let totals = Some(*totals);
        self.stored.extend(stored);
        Ok(Reply::ReadingsSubmitted(message::ReadingsSubmitted { outcomes, rejections, totals, index: 0 }))
    }
}
