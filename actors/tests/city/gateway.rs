//! A gateway as the city sees one: a stream with devices, readings and acknowledgements.

use kvarter_actors::message::{self, FailureReason, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{AttributeNumber, City, DeviceNumber, StreamDelivery, StreamId, StreamMailbox, ValueRef};
use kvarter_cluster::ShardId;

use super::fleet::{call, call_until_known, call_untraced};

pub(crate) struct Gateway {
    pub(crate) city: City,
    pub(crate) shard: ShardId,
    pub(crate) stream: StreamId,
    pub(crate) devices: Vec<DeviceNumber>,
    mailbox: StreamMailbox,
    sequence: u64,
}

impl Gateway {
    /// Registers `devices`, (name, kind), and speaks for them through a stream on the node of `city`.
    pub(crate) async fn open(city: &City, shard: ShardId, stream: u128, devices: &[(&str, &str)]) -> Self {
        let registration = |(name, kind): &(&str, &str)| message::DeviceRegistration {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            location: Some(message::Point { latitude_e7: 561_567_000, longitude_e7: 102_108_000 }),
            ..Default::default()
        };
        let register = message::RegisterDevices { devices: devices.iter().map(registration).collect() };
        let Reply::DevicesRegistered(registered) = call(city, shard, Request::RegisterDevices(register)).await.unwrap()
        else {
            panic!("a registration is answered as one")
        };
        assert!(registered.outcomes.iter().all(|outcome| outcome.outcome < 3), "{registered:?}");
        let names: Vec<_> = devices.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self::connect(city, shard, stream, names).await
    }

    /// Speaks for registered devices.
    pub(crate) async fn connect(city: &City, shard: ShardId, stream: u128, names: Vec<String>) -> Self {
        let stream = StreamId(stream);
        let mailbox = city.open_mailbox(stream.0);
        let open = message::OpenStream {
            stream: stream.to_message(),
            client: "client:test".to_owned(),
            node: city.cluster().node().0,
            issued_us: city.cluster().ports().clock.now().0,
            connection: 0,
            unused: false,
        };
        let Reply::StreamOpened(totals) = call(city, shard, Request::OpenStream(open)).await.unwrap() else {
            panic!("an opening is answered as one")
        };
        let attach = message::AttachDevices { stream: stream.to_message(), names };
        let Reply::DevicesAttached(attached) = call(city, shard, Request::AttachDevices(attach)).await.unwrap() else {
            panic!("an attachment is answered as one")
        };
        assert!(attached.devices.iter().all(|device| device.error.is_empty()), "{attached:?}");
        let devices = attached.devices.iter().map(|device| DeviceNumber(device.device)).collect();
        Self { city: city.clone(), shard, stream, devices, mailbox, sequence: totals.sequence }
    }

    /// Submits readings as (device, attribute, observed, number); returns the outcomes.
    pub(crate) async fn submit(&mut self, readings: &[(DeviceNumber, u16, i64, f64)]) -> message::ReadingsSubmitted {
        let mut columns = message::Readings::default();
        for (device, attribute, observed_us, value) in readings {
            columns.push(*device, AttributeNumber(*attribute), *observed_us, ValueRef::Number(*value));
        }
        self.submit_columns(columns).await
    }

    /// Submits readings, again when it is unknown whether they arrived: then they have no outcomes.
    pub(crate) async fn submit_columns(&mut self, readings: message::Readings) -> message::ReadingsSubmitted {
        let submit = message::SubmitReadings {
            stream: self.stream.to_message(),
            previous: self.sequence,
            sequence: self.sequence + 1,
            readings: Some(readings),
        };
        self.sequence += 1;
        match call_until_known(&self.city, self.shard, Request::SubmitReadings(submit)).await {
            Ok(Reply::ReadingsSubmitted(submitted)) => submitted,
            Err(failure) if failure.reason() == FailureReason::AlreadyAccepted => {
                message::ReadingsSubmitted { totals: failure.totals, ..Default::default() }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next delivery to one of the devices.
    pub(crate) async fn delivery(&mut self) -> StreamDelivery {
        let delivery = tokio::time::timeout(std::time::Duration::from_secs(30), self.mailbox.deliveries.recv()).await;
        delivery.expect("a delivery comes").expect("the mailbox stays open")
    }

    /// The next command, with its device.
    pub(crate) async fn command(&mut self) -> (DeviceNumber, message::CommandDelivery) {
        loop {
            let delivery = self.delivery().await.delivery;
            if let Some(message::delivery::Delivery::Command(command)) = delivery.delivery {
                return (DeviceNumber(delivery.device), command);
            }
        }
    }

    /// The command `id`, with its device; passes over what the lighting service orders meanwhile.
    pub(crate) async fn command_with_id(&mut self, id: &str) -> (DeviceNumber, message::CommandDelivery) {
        loop {
            let (device, command) = self.command().await;
            if command.id == id {
                return (device, command);
            }
        }
    }

    pub(crate) async fn acknowledge(&self, device: DeviceNumber, id: &str) {
        call(&self.city, self.shard, Self::acknowledgement(device, id)).await.unwrap();
    }

    /// As a device does that knows nothing of traces.
    pub(crate) async fn acknowledge_untraced(&self, device: DeviceNumber, id: &str) {
        call_untraced(&self.city, self.shard, Self::acknowledgement(device, id)).await.unwrap();
    }

    fn acknowledgement(device: DeviceNumber, id: &str) -> Request {
        let acknowledgement =
            message::Acknowledgement { device: device.0, id: id.to_owned(), outcome: 1, detail: "done".to_owned() };
        Request::AcknowledgeCommands(message::AcknowledgeCommands { acknowledgements: vec![acknowledgement] })
    }
}
