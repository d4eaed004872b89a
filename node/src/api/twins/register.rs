//! Registering a batch of devices: grouped by shard, all shards at once, one outcome a device.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join_all, try_join_all};
use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City};
use kvarter_api::v1::{Device, DeviceRegistration, RegistrationOutcome};
use kvarter_cluster::ShardId;
use tonic::Status;

use crate::api::conversion::twin;
use crate::api::{ask, status};

/// Devices in one request.
const DEVICES_MAX: usize = 1_000;

/// The devices of one shard, with their places in the request.
#[derive(Default)]
struct Group {
    places: Vec<usize>,
    devices: Vec<message::DeviceRegistration>,
}

/// Registers `devices`; the outcomes are in their order. Repeating the same call is safe.
///
/// A malformed name refuses the device, not the batch. When a shard does not answer, the whole call fails.
pub(crate) async fn register(
    city: &City,
    devices: Vec<Device>,
    context: CallContext,
) -> Result<Vec<DeviceRegistration>, Status> {
    if devices.len() > DEVICES_MAX {
        let problem = format!("{} devices, at most {DEVICES_MAX} are allowed", devices.len());
        return Err(status::invalid("devices", problem));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = devices.iter().position(|device| !names.insert(device.name.as_str())) {
        return Err(status::invalid(format!("devices[{twice}].name"), "the same device came before"));
    }
    let mut outcomes: Vec<_> = devices
        .iter()
        .map(|device| DeviceRegistration { name: device.name.clone(), ..DeviceRegistration::default() })
        .collect();
    let mut accepted = Vec::with_capacity(devices.len());
    for (place, device) in devices.into_iter().enumerate() {
        match twin::registration_from_public(device, &format!("devices[{place}]")) {
            Ok((name, registration)) => accepted.push((place, name.district().to_owned(), registration)),
            Err(status) => {
                outcomes[place].outcome = RegistrationOutcome::Rejected.into();
                outcomes[place].error = status.message().to_owned();
            }
        }
    }
    let shards = assign(city, accepted.iter().map(|(_, district, _)| district.as_str()).collect()).await?;
    let mut groups: BTreeMap<ShardId, Group> = BTreeMap::new();
    for (place, district, registration) in accepted {
        let group = groups.entry(shards[&district]).or_default();
        group.places.push(place);
        group.devices.push(registration);
    }
    for (places, registered) in register_groups(city, groups, context).await? {
        for (place, registered) in places.into_iter().zip(registered) {
            outcomes[place].outcome = twin::registration_outcome_to_public(registered.outcome).into();
            outcomes[place].error = registered.error;
        }
    }
    Ok(outcomes)
}

/// The shards of the districts; those that are new are created.
async fn assign(city: &City, districts: BTreeSet<&str>) -> Result<BTreeMap<String, ShardId>, Status> {
    let assigned = try_join_all(districts.into_iter().map(|district| async move {
        let shard = match city.shard_of(district) {
            Some(shard) => shard,
            None => city.assign_district(district).await?,
        };
        Ok::<_, Failure>((district.to_owned(), shard))
    }));
    Ok(assigned.await.map_err(|failure| status::of_failure(&failure))?.into_iter().collect())
}

type Registered = (Vec<usize>, Vec<message::RegistrationOutcome>);

async fn register_groups(
    city: &City,
    groups: BTreeMap<ShardId, Group>,
    context: CallContext,
) -> Result<Vec<Registered>, Status> {
    let is_split = groups.len() > 1;
    let calls = groups.into_iter().map(|(shard, Group { places, devices })| {
        let context = context.clone();
        async move {
            let request = shard_request::Request::RegisterDevices(message::RegisterDevices { devices });
            match ask::try_ask(city, shard, request, context).await {
                Ok(Reply::DevicesRegistered(registered)) if registered.outcomes.len() == places.len() => {
                    Ok((places, registered.outcomes))
                }
                Ok(_) => Err(ask::unexpected(shard)),
                Err(failure) => Err(status::of_failure(&perhaps_elsewhere(failure, is_split))),
            }
        }
    });
    join_all(calls).await.into_iter().collect()
}

/// A shard that certainly did not apply its group says nothing about the groups of other shards.
fn perhaps_elsewhere(failure: Failure, is_split: bool) -> Failure {
    match failure.reason() {
        FailureReason::NotLeader | FailureReason::Overloaded | FailureReason::DiskFull if is_split => {
            Failure { reason: FailureReason::Unknown.into(), ..failure }
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_over_several_shards_is_never_certainly_not_applied() {
        for reason in [FailureReason::NotLeader, FailureReason::Overloaded, FailureReason::DiskFull] {
            let failure = || Failure { reason: reason.into(), ..Failure::default() };
            assert_eq!(perhaps_elsewhere(failure(), true).reason(), FailureReason::Unknown);
            assert_eq!(perhaps_elsewhere(failure(), false).reason(), reason);
        }
    }
}
