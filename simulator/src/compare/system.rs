//! What the comparison does to a system, the same for both.
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use super::CompareError;
use super::drive::{Group, Writer};
use super::payload::Payload;
use crate::clock::wall_clock;

/// A running system of three nodes.
pub(crate) trait System {
    type Writer: Writer;
    const NAME: &'static str;

    /// The processes of its nodes.
    fn pids(&self) -> Result<Vec<u32>, CompareError>;

    /// Connects clients, and makes the devices known for which they speak.
    fn writers(&mut self, clients: &Clients) -> impl Future<Output = Result<Vec<Self::Writer>, CompareError>>;

    /// Kills, as a power failure would, the node that leads most groups; returns the groups that it led.
    fn kill_leader(&mut self) -> impl Future<Output = Result<BTreeSet<Group>, CompareError>>;

    /// Stops all nodes in order; their data stays.
    fn pause(&mut self) -> impl Future<Output = Result<(), CompareError>>;

    /// Starts all nodes on their data; returns once writes are acknowledged through every node.
    fn resume(&mut self) -> impl Future<Output = Result<(), CompareError>>;
}

/// Clients that write side by side, each for devices of its own, which are one district.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clients {
    pub(crate) count: usize,
    /// All clients together; at least one each.
    pub(crate) devices: usize,
    pub(crate) payload: Payload,
    /// Begins the names of the districts.
    pub(crate) prefix: String,
    /// For one request.
    pub(crate) patience: Duration,
    /// etcd's clients are connected to the leader alone.
    pub(crate) leader_only: bool,
    /// Of the first observations; later ones are a microsecond apart.
    pub(crate) first_observed_us: i64,
}

impl Clients {
    /// Longer than etcd's own limit for a request.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

    pub(crate) fn new(count: usize, devices: usize, payload: Payload) -> Self {
        Self {
            count,
            devices: devices.max(count),
            payload,
            prefix: format!("compare-{count}"),
            patience: Self::PATIENCE,
            leader_only: false,
            first_observed_us: wall_clock().as_microsecond(),
        }
    }

    /// One client with one device, to see whether a system writes.
    pub(crate) fn probe() -> Self {
        Self { prefix: "probe".to_owned(), patience: Duration::from_secs(1), ..Self::new(1, 1, Payload::Number) }
    }

    /// Names of the devices of client `number`.
    pub(crate) fn devices_of(&self, number: usize) -> impl Iterator<Item = String> + '_ {
        let of_client = (number..self.devices).step_by(self.count);
        of_client.map(move |device| format!("districts/{}-{number}/devices/d-{device}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_one_client() {
        let clients = Clients::new(7, 100, Payload::Number);
        let names: BTreeSet<String> =
            (0..7).flat_map(|number| clients.devices_of(number).collect::<Vec<_>>()).collect();
        assert_eq!(names.len(), 100);
        assert!(clients.devices_of(6).all(|name| name.starts_with("districts/compare-7-6/devices/")));
    }
}
