//! Devices that report one number each, in rounds, on one gateway stream.
use std::collections::BTreeSet;
use std::time::Duration;

use kvarter_api::v1::{Attachment, Device, Reading, Value, reading, value};
use kvarter_api::{Client, DeviceName, GatewayOptions, GatewayStream, StreamTotals};
use kvarter_cluster::Ports;
use tokio::time::timeout;

use crate::fleet::PATIENCE;

const KIND: &str = "air_quality";
const ATTRIBUTE: &str = "no2";
const DISTRICTS: usize = 12;
const DEVICES_PER_DISTRICT: usize = 5;
const ROUND_INTERVAL_US: i64 = 1_000_000;
/// The first round is so long ago that all rounds lie in the past.
const AGE_US: i64 = 3_600_000_000;

/// One reading as the feed shows it: device and time of the observation.
pub(crate) type Observation = (String, i64);

pub(crate) struct Sensors {
    devices: Vec<DeviceName>,
    stream: GatewayStream,
    attribute: u32,
    first_observed_us: i64,
    rounds: u32,
}

impl Sensors {
    /// Registers the devices, and attaches them to a new stream.
    pub(crate) async fn connect(client: &Client) -> Self {
        let place = |number: usize| (format!("district-{}", number % DISTRICTS), format!("sensor-{number}"));
        let names = (0..DISTRICTS * DEVICES_PER_DISTRICT).map(place);
        let devices: Vec<_> = names.map(|(district, device)| DeviceName::new(&district, &device).unwrap()).collect();
        let device = |name: &DeviceName| Device { name: name.to_string(), kind: KIND.to_owned(), ..Device::default() };
        let registrations = client.register(devices.iter().map(device).collect()).await.expect("registered");
        assert!(registrations.iter().all(|registration| registration.error.is_empty()), "{registrations:?}");

        let kind = client.kind(KIND).await.expect("a built-in kind");
        let attribute = kind.attributes.iter().find(|attribute| attribute.name == ATTRIBUTE).unwrap().number;
        // Nobody reads the events: the totals tell what matters here.
        let (stream, _) = GatewayStream::open(client, GatewayOptions::default()).await.expect("a stream");
        let attachments =
            (0..).zip(&devices).map(|(alias, name)| Attachment { alias, device: name.to_string(), first: false });
        let attached = stream.attach(attachments.collect()).await.expect("attached");
        assert!(attached.iter().all(|device| device.error.is_empty()), "{attached:?}");
        let first_observed_us = Ports::system().clock.now().0 - AGE_US;
        Self { devices, stream, attribute, first_observed_us, rounds: 0 }
    }

    /// Sends one reading of each device, and does not wait for their acknowledgement.
    pub(crate) async fn send_round(&mut self) {
        let reading = |alias| Reading {
            alias,
            attribute: self.attribute,
            observed_us: self.observed_us(self.rounds),
            value: Some(reading::Value::Number(f64::from(self.rounds))),
        };
        let count = u32::try_from(self.devices.len()).unwrap();
        timeout(PATIENCE, self.stream.send((0..count).map(reading).collect())).await.expect("room").expect("a stream");
        self.rounds += 1;
    }

    /// Waits until all that was sent is acknowledged. Everything was new and in order, so all of it must be stored.
    pub(crate) async fn acknowledged(&self) {
        let totals = timeout(PATIENCE, self.stream.drained()).await;
        let totals =
            totals.unwrap_or_else(|_| panic!("not acknowledged: {:?}", self.stream.totals())).expect("a stream");
        let sent = u64::try_from(self.devices.len()).unwrap() * u64::from(self.rounds);
        let expected = StreamTotals { sent, acknowledged: sent, stored: sent, ..StreamTotals::default() };
        assert_eq!(totals, expected);
    }

    pub(crate) fn devices(&self) -> &[DeviceName] {
        &self.devices
    }

    /// Every reading that was sent.
    pub(crate) fn observations(&self) -> BTreeSet<Observation> {
        let of_device = |device: &DeviceName| {
            let name = device.to_string();
            (0..self.rounds).map(move |round| (name.clone(), self.observed_us(round)))
        };
        self.devices.iter().flat_map(of_device).collect()
    }

    /// Demands that every twin shows the last round, read linearizably through `client`.
    pub(crate) async fn check_twins(&self, client: &Client) {
        let last = Some(Value { kind: Some(value::Kind::Number(f64::from(self.rounds - 1))) });
        for device in &self.devices {
            let twin = client.twin(device, Duration::ZERO).await.expect("a twin").twin.expect("it is set");
            let reported = twin.reported.iter().find(|reported| reported.attribute == ATTRIBUTE);
            assert_eq!(reported.and_then(|reported| reported.value.clone()), last, "{device}");
        }
    }

    fn observed_us(&self, round: u32) -> i64 {
        self.first_observed_us + i64::from(round) * ROUND_INTERVAL_US
    }
}
