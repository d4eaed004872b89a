//! Makes devices known: registers them with the cluster and attaches them to a gateway stream, all or with a clear error.
use kvarter_api::{ApiError, Client, GatewayEvents, GatewayOptions, GatewayStream, SendError, v1};
use tokio::task::JoinSet;

/// Few enough that a call keeps its deadline even when the cluster is busy with all the calls beside it.
const DEVICES_PER_CALL: usize = 500;
/// A call that begins many districts makes them one after the other, each with a round of the meta group.
const DISTRICTS_PER_CALL: usize = 50;
/// Calls on their way at a time: enough that every shard has one to decide while others travel.
const CALLS_MAX: usize = 24;
/// Devices whose registrations are in memory at a time.
const DEVICES_HELD_MAX: usize = 50_000;

#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error("devices could not be registered")]
    NotRegistered(#[source] ApiError),
    #[error("a gateway stream could not be opened")]
    NotOpened(#[source] ApiError),
    #[error("devices could not be attached")]
    NotAttached(#[source] SendError),
    #[error("{refused} of {devices} devices were refused, e.g. {device}: {reason}")]
    DevicesRefused { refused: usize, devices: usize, device: String, reason: String },
}

/// Registers all `devices`; those that were registered before stay as they are.
///
/// Several calls run side by side, each with whole districts where it can: then a call is one batch of one shard. After the
/// first failure no further call begins.
pub async fn register(client: &Client, devices: Vec<v1::Device>) -> Result<(), EnrollError> {
    let mut waiting = calls(devices).into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < CALLS_MAX
            && let Some(devices) = waiting.next()
        {
            let client = client.clone();
            running.spawn(async move { client.register(devices).await });
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        let registered =
            ended.expect("a call does not panic and is not aborted").map_err(EnrollError::NotRegistered)?;
        none_refused(registered.iter().map(|registered| (registered.name.as_str(), registered.error.as_str())))?;
    }
}

/// The same for devices that are made one after the other, too many to hold them all.
pub(crate) async fn register_each(
    client: &Client,
    mut devices: impl Iterator<Item = v1::Device>,
) -> Result<(), EnrollError> {
    loop {
        let part: Vec<v1::Device> = devices.by_ref().take(DEVICES_HELD_MAX).collect();
        if part.is_empty() {
            return Ok(());
        }
        register(client, part).await?;
    }
}

/// Deals the devices out to calls, sorted by district.
fn calls(mut devices: Vec<v1::Device>) -> Vec<Vec<v1::Device>> {
    devices.sort_by(|left, right| district(&left.name).cmp(district(&right.name)));
    let mut calls: Vec<Vec<v1::Device>> = Vec::new();
    let mut districts = 0;
    for device in devices {
        let call = calls.last_mut().filter(|call| call.len() < DEVICES_PER_CALL);
        let is_same = call.as_ref().and_then(|call| call.last()).is_some_and(|last| same_district(last, &device));
        match call {
            Some(call) if is_same || districts < DISTRICTS_PER_CALL => {
                districts += usize::from(!is_same);
                call.push(device);
            }
            Some(_) | None => {
                districts = 1;
                calls.push(vec![device]);
            }
        }
    }
    calls
}

fn same_district(left: &v1::Device, right: &v1::Device) -> bool {
    district(&left.name) == district(&right.name)
}

/// `districts/{district}` of a device's name; a malformed name is left for the cluster to refuse.
fn district(name: &str) -> &str {
    name.split_once("/devices/").map_or(name, |(district, _)| district)
}

/// Opens a stream and attaches `devices` (full names) under their places. Returns their shards too, in the same order.
pub async fn open_attached(
    client: &Client,
    options: GatewayOptions,
    devices: &[String],
) -> Result<(GatewayStream, GatewayEvents, Vec<u32>), EnrollError> {
    let (stream, events) = GatewayStream::open(client, options).await.map_err(EnrollError::NotOpened)?;
    let attachments =
        (0..).zip(devices).map(|(alias, device)| v1::Attachment { alias, device: device.clone(), first: false });
    let attached = stream.attach(attachments.collect()).await.map_err(EnrollError::NotAttached)?;
    none_refused(devices.iter().zip(&attached).map(|(device, attached)| (device.as_str(), attached.error.as_str())))?;
    Ok((stream, events, attached.iter().map(|device| device.shard).collect()))
}

/// Takes names with what is wrong about them; empty is nothing.
fn none_refused<'a>(outcomes: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), EnrollError> {
    let (mut devices, mut refused, mut first) = (0, 0, None);
    for (device, error) in outcomes {
        devices += 1;
        if !error.is_empty() {
            refused += 1;
            first.get_or_insert((device, error));
        }
    }
    match first {
        None => Ok(()),
        Some((device, reason)) => {
            let (device, reason) = (device.to_owned(), reason.to_owned());
            Err(EnrollError::DevicesRefused { refused, devices, device, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_first_refused_device_is_named_and_all_are_counted() {
        assert!(none_refused([("a", ""), ("b", "")].into_iter()).is_ok());
        let error = none_refused([("a", ""), ("b", "no such kind"), ("c", "full")].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "2 of 3 devices were refused, e.g. b: no such kind");
    }

    fn devices(count: usize, districts: usize) -> Vec<v1::Device> {
        let name = |number: usize| format!("districts/{}/devices/{number}", number % districts);
        (0..count).map(|number| v1::Device { name: name(number), ..v1::Device::default() }).collect()
    }

    #[test]
    fn calls_hold_every_device_once_and_keep_districts_together() {
        let calls = calls(devices(3_000, 4));
        let of_call = |call: &Vec<v1::Device>| call.iter().map(|device| district(&device.name).to_owned()).collect();
        let districts: Vec<BTreeSet<String>> = calls.iter().map(of_call).collect();
        assert!(calls.iter().all(|call| call.len() <= DEVICES_PER_CALL));
        assert!(districts.iter().all(|districts| districts.len() <= 2), "{districts:?}");
        let names: BTreeSet<_> = calls.into_iter().flatten().map(|device| device.name).collect();
        assert_eq!(names.len(), 3_000);
    }

    #[test]
    fn a_call_begins_few_districts() {
        let calls = calls(devices(1_000, 1_000));
        assert_eq!(calls.iter().map(Vec::len).max(), Some(DISTRICTS_PER_CALL));
        assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), 1_000);
    }
}
