//! A district's gateway and its lamps: readings up, commands and desired levels down. It outlives every node that it talks to.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kvarter_actors::message::{self, FailureReason, delivery, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{AttributeNumber, City, DeviceNumber, StreamDelivery, StreamId, StreamMailbox, ValueRef};
use kvarter_cluster::ShardId;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::call::call;
use super::history::{Arrival, ArrivedCommand, Part, SentReading};
use super::stage::{Phase, Stage, device_names};

/// `temperature` of a luminaire.
const TEMPERATURE: u16 = 8;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Gateway {
    pub(super) district: &'static str,
    stream: u128,
    /// The node that it talks to.
    pub(super) home: u64,
    pub(super) is_connected: bool,
    /// Connections that it began.
    connections: u64,
    /// What was sent last and is not acknowledged.
    outstanding: Option<message::Readings>,
    lamps: BTreeMap<u32, Lamp>,
}

#[derive(Default)]
struct Lamp {
    observed_us: i64,
    /// The highest epoch of a delivery: what comes in the name of a lower one is refused.
    epoch: u64,
    /// What it is to tell of itself: attributes that changed.
    news: BTreeMap<u32, f64>,
    /// Commands to acknowledge.
    done: Vec<String>,
}

impl Gateway {
    pub(super) fn new(district: &'static str, stream: u128, home: u64) -> Self {
        Self { district, stream, home, is_connected: false, connections: 0, outstanding: None, lamps: BTreeMap::new() }
    }

    /// Whether everything that it sent or has to say is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.outstanding.is_none() && self.lamps.values().all(|lamp| lamp.news.is_empty() && lamp.done.is_empty())
    }
}

/// Runs gateway `number` on `node` whenever that is its home.
pub(super) async fn run(stage: Arc<Stage>, city: City, node: u64, number: usize, mut random: StdRng) {
    loop {
        stage.until(|stage| stage.gateways.lock()[number].home == node).await;
        let mailbox = {
            let gateway = &mut stage.gateways.lock()[number];
            gateway.connections += 1;
            city.open_mailbox(gateway.stream)
        };
        let came = RefCell::default();
        let serving = async {
            let Some(shard) = connect(&stage, &city, number).await else {
                return tokio::time::sleep(RETRY_PAUSE).await;
            };
            stage.gateways.lock()[number].is_connected = true;
            let session = Session { stage: &stage, city: &city, number, shard, came: &came };
            while stage.gateways.lock()[number].home == node && session.step(&mut random).await {
                tokio::time::sleep(Duration::from_millis(random.random_range(10..80))).await;
            }
        };
        // What comes is judged by when it comes, whatever the gateway is waiting for.
        tokio::select! {
            biased;
            () = note_arrivals(&stage, &city, number, mailbox, &came) => {}
            () = serving => {}
        }
    }
}

/// Notes what comes for the gateway before any device looks at it: what a device refuses should not have come.
async fn note_arrivals(
    stage: &Stage,
    city: &City,
    number: usize,
    mut mailbox: StreamMailbox,
    came: &RefCell<VecDeque<StreamDelivery>>,
) {
    while let Some(delivery) = mailbox.deliveries.recv().await {
        let command = match &delivery.delivery.delivery {
            Some(delivery::Delivery::Command(command)) => {
                Some(ArrivedCommand { id: command.id.clone(), deadline_us: command.deadline_us })
            }
            Some(delivery::Delivery::Desired(_)) | None => None,
        };
        let gateway = &stage.gateways.lock()[number];
        stage.history.lock().arrivals.push(Arrival {
            shard: delivery.shard.0,
            epoch: delivery.epoch,
            stream: gateway.stream,
            connection: gateway.connections,
            arrived_us: stage.time.now_us(),
            node_us: city.cluster().ports().clock.now().0,
            command,
        });
        came.borrow_mut().push_back(delivery);
    }
}

/// Registers the lamps and opens the stream; `None`: to be tried again.
async fn connect(stage: &Stage, city: &City, number: usize) -> Option<ShardId> {
    let (district, stream, connection) = {
        let gateway = &stage.gateways.lock()[number];
        (gateway.district, StreamId(gateway.stream), gateway.connections)
    };
    let shard = city.assign_district(district).await.ok()?;
    let devices = device_names(district).map(|name| message::DeviceRegistration {
        name,
        kind: "luminaire".to_owned(),
        location: Some(message::Point { latitude_e7: 561_567_000, longitude_e7: 102_108_000 }),
        ..Default::default()
    });
    let register = message::RegisterDevices { devices: devices.collect() };
    match call(city, shard, Request::RegisterDevices(register)).await {
        Ok(Reply::DevicesRegistered(registered)) if registered.outcomes.iter().all(|one| one.outcome < 3) => {}
        _ => return None,
    }
    let open = message::OpenStream {
        stream: stream.to_message(),
        client: format!("gateway:{district}"),
        node: city.cluster().node().0,
        issued_us: stage.time.now_us(),
        connection,
        unused: false,
    };
    let Ok(Reply::StreamOpened(totals)) = call(city, shard, Request::OpenStream(open)).await else { return None };
    let (acknowledged, sent) = {
        let history = stage.history.lock();
        let parts = history.parts.get(&stream.0).map_or(&[][..], Vec::as_slice);
        (parts.iter().filter(|part| part.is_acknowledged).count() as u64, parts.len() as u64)
    };
    if !(acknowledged..=sent).contains(&totals.sequence) {
        let sequence = totals.sequence;
        stage.accuse(format!("{district}: {acknowledged} of {sent} parts were acknowledged, the shard has {sequence}"));
    }
    let attach = message::AttachDevices { stream: stream.to_message(), names: device_names(district).collect() };
    let Ok(Reply::DevicesAttached(attached)) = call(city, shard, Request::AttachDevices(attach)).await else {
        return None;
    };
    let gateway = &mut stage.gateways.lock()[number];
    for device in &attached.devices {
        gateway.lamps.entry(device.device).or_default();
    }
    stage.note(&format!("{district} is connected to {}", city.cluster().node()));
    Some(shard)
}

/// A gateway on the node of `city`.
struct Session<'a> {
    stage: &'a Stage,
    city: &'a City,
    number: usize,
    shard: ShardId,
    /// What its devices have not looked at yet.
    came: &'a RefCell<VecDeque<StreamDelivery>>,
}

impl Session<'_> {
    /// Takes what was delivered, and says what there is to say. `false`: to be connected anew.
    async fn step(&self, random: &mut StdRng) -> bool {
        let came = self.came.take();
        came.into_iter().for_each(|delivery| self.take(delivery));
        self.acknowledge().await;
        self.submit(random).await
    }

    fn take(&self, StreamDelivery { epoch, delivery, .. }: StreamDelivery) {
        let gateway = &mut self.stage.gateways.lock()[self.number];
        let Some(lamp) = gateway.lamps.get_mut(&delivery.device) else {
            return self.stage.accuse(format!("{}: a delivery for device {}", gateway.district, delivery.device));
        };
        if epoch < lamp.epoch {
            return;
        }
        lamp.epoch = epoch;
        match delivery.delivery {
            Some(delivery::Delivery::Command(command)) => {
                // The contract of a device: by its own clock never after the deadline, and each id once.
                let mut history = self.stage.history.lock();
                if self.stage.time.now_us() < command.deadline_us || history.executed.contains(&command.id) {
                    if history.executed.insert(command.id.clone()) {
                        drop(history);
                        self.stage.note(&format!("{} is executed", command.id));
                    }
                    lamp.done.push(command.id);
                }
            }
            Some(delivery::Delivery::Desired(desired)) => {
                for attribute in desired.attributes {
                    if let Some(message::value::Kind::Number(level)) = attribute.value.and_then(|value| value.kind) {
                        lamp.news.insert(attribute.attribute, level);
                    }
                }
            }
            None => {}
        }
    }

    async fn acknowledge(&self) {
        let acknowledgements: Vec<_> = {
            let gateway = &self.stage.gateways.lock()[self.number];
            let done = gateway.lamps.iter().flat_map(|(device, lamp)| lamp.done.iter().map(|id| (*device, id.clone())));
            done.map(|(device, id)| message::Acknowledgement { device, id, outcome: 1, detail: String::new() })
                .collect()
        };
        if acknowledgements.is_empty() {
            return;
        }
        let acknowledge = message::AcknowledgeCommands { acknowledgements: acknowledgements.clone() };
        // What is not taken is said again.
        if call(self.city, self.shard, Request::AcknowledgeCommands(acknowledge)).await.is_ok() {
            let gateway = &mut self.stage.gateways.lock()[self.number];
            for said in acknowledgements {
                if let Some(lamp) = gateway.lamps.get_mut(&said.device) {
                    lamp.done.retain(|id| *id != said.id);
                }
            }
        }
    }

    /// Sends what is outstanding, or else what the lamps have to say. `false`: the stream must be opened again.
    async fn submit(&self, random: &mut StdRng) -> bool {
        let Some((stream, sequence, readings)) = self.next_part(random) else { return true };
        let submit = message::SubmitReadings {
            stream: StreamId(stream).to_message(),
            previous: sequence - 1,
            sequence,
            readings: Some(readings),
        };
        match call(self.city, self.shard, Request::SubmitReadings(submit)).await {
            Ok(Reply::ReadingsSubmitted(submitted)) => {
                if submitted.outcomes.iter().any(|outcome| *outcome > 2) {
                    self.stage.accuse(format!("part {sequence} of {stream:032x}: {:?}", submitted.outcomes));
                }
                self.acknowledged(stream, sequence);
                true
            }
            Ok(other) => {
                self.stage.accuse(format!("readings were answered with {other:?}"));
                true
            }
            Err(failure) => match failure.reason() {
                FailureReason::AlreadyAccepted => {
                    self.acknowledged(stream, sequence);
                    true
                }
                FailureReason::NotLeader | FailureReason::Unknown | FailureReason::Overloaded => true,
                // A stream that the shard lost is known by its totals once it is opened again.
                _ => {
                    self.stage.note(&format!("part {sequence} of {stream:032x} is refused: {}", failure.message));
                    tokio::time::sleep(RETRY_PAUSE).await;
                    false
                }
            },
        }
    }

    fn acknowledged(&self, stream: u128, sequence: u64) {
        let mut history = self.stage.history.lock();
        let place = usize::try_from(sequence - 1).expect("few parts are sent");
        let Some(part) = history.parts.get_mut(&stream).and_then(|parts| parts.get_mut(place)) else { return };
        if !std::mem::replace(&mut part.is_acknowledged, true) {
            drop(history);
            self.stage.gateways.lock()[self.number].outstanding = None;
            self.stage.note(&format!("part {sequence} of {stream:032x} is acknowledged"));
        }
    }

    fn next_part(&self, random: &mut StdRng) -> Option<(u128, u64, message::Readings)> {
        let gateway = &mut self.stage.gateways.lock()[self.number];
        let mut history = self.stage.history.lock();
        let parts = history.parts.entry(gateway.stream).or_default();
        if gateway.outstanding.is_none() {
            if self.stage.phase() == Phase::Reading {
                return None;
            }
            let is_load = matches!(self.stage.phase(), Phase::Load | Phase::Healed);
            let now_us = self.stage.time.now_us();
            let mut readings = message::Readings { base_us: now_us, ..Default::default() };
            let mut sent = Vec::new();
            for (device, lamp) in &mut gateway.lamps {
                if is_load && random.random_bool(0.5) {
                    lamp.news.insert(TEMPERATURE.into(), f64::from(random.random_range(-20..40)));
                }
                for (attribute, value) in std::mem::take(&mut lamp.news) {
                    lamp.observed_us = now_us.max(lamp.observed_us + 1);
                    let number = AttributeNumber::from_message(attribute)?;
                    readings.push(DeviceNumber(*device), number, lamp.observed_us, ValueRef::Number(value));
                    sent.push(SentReading { device: *device, attribute, observed_us: lamp.observed_us });
                }
            }
            if sent.is_empty() {
                return None;
            }
            parts.push(Part { shard: self.shard.0, readings: sent, is_acknowledged: false });
            gateway.outstanding = Some(readings);
        }
        Some((gateway.stream, parts.len() as u64, gateway.outstanding.clone()?))
    }
}
