//! Makes devices known: registers them with the cluster and attaches them to a gateway stream, all or with a clear error.
use kvarter_api::{ApiError, Client, GatewayEvents, GatewayOptions, GatewayStream, SendError, v1};

/// Few enough that a call keeps its deadline even when each device is the first of its district, which is slow.
const DEVICES_PER_CALL: usize = 100;

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
pub async fn register(client: &Client, devices: Vec<v1::Device>) -> Result<(), EnrollError> {
    register_each(client, devices.into_iter()).await
}

/// The same for devices that are made one after the other. Ends at the first call in which one is refused.
pub(crate) async fn register_each(
    client: &Client,
    mut devices: impl Iterator<Item = v1::Device>,
) -> Result<(), EnrollError> {
    loop {
        let part: Vec<v1::Device> = devices.by_ref().take(DEVICES_PER_CALL).collect();
        if part.is_empty() {
            return Ok(());
        }
        let registrations = client.register(part).await.map_err(EnrollError::NotRegistered)?;
        none_refused(registrations.iter().map(|registered| (registered.name.as_str(), registered.error.as_str())))?;
    }
}

/// Opens a stream and attaches `devices` (full names) under their places. Returns their shards too, in the same order.
pub async fn open_attached(
    client: &Client,
    options: GatewayOptions,
    devices: &[String],
) -> Result<(GatewayStream, GatewayEvents, Vec<u32>), EnrollError> {
    let (stream, events) = GatewayStream::open(client, options).await.map_err(EnrollError::NotOpened)?;
    let attachments = (0..).zip(devices).map(|(alias, device)| v1::Attachment { alias, device: device.clone() });
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
    use super::*;

    #[test]
    fn the_first_refused_device_is_named_and_all_are_counted() {
        assert!(none_refused([("a", ""), ("b", "")].into_iter()).is_ok());
        let error = none_refused([("a", ""), ("b", "no such kind"), ("c", "full")].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "2 of 3 devices were refused, e.g. b: no such kind");
    }
}
