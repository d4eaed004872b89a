//! Getting the twins of many devices: grouped by shard, all shards at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join_all, try_join_all};
use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, DeviceName};
use kvarter_api::v1::{BatchGetTwinsRequest, BatchGetTwinsResponse};
use kvarter_cluster::ShardId;
use tonic::{Code, Status};

use crate::api::conversion::twin;
use crate::api::{ask, name, route, status};

/// Names in one request.
const NAMES_MAX: usize = 1_000;

/// The twins that exist, in the order of the request, and the names of the others.
pub(crate) async fn get(
    city: &City,
    request: BatchGetTwinsRequest,
    context: CallContext,
) -> Result<BatchGetTwinsResponse, Status> {
    let BatchGetTwinsRequest { names, consistency } = request;
    if names.len() > NAMES_MAX {
        let problem = format!("{} names, at most {NAMES_MAX} are allowed", names.len());
        return Err(status::invalid("names", problem));
    }
    let mut devices = Vec::with_capacity(names.len());
    let mut known = BTreeSet::new();
    for (place, public) in names.iter().enumerate() {
        let field = format!("names[{place}]");
        devices.push(name::parse_device(public, &field)?);
        if !known.insert(public) {
            return Err(status::invalid(field, "the same device came before"));
        }
    }
    let consistency = Some(twin::consistency_from_public(consistency));
    let shards = shards_of(city, &devices).await?;
    let mut groups: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
    for device in &devices {
        if let Some(shard) = shards.get(device.district()) {
            groups.entry(*shard).or_default().push(device.as_str().to_owned());
        }
    }
    let reads = groups.into_iter().map(|(shard, names)| {
        let read = shard_request::Request::ReadTwins(message::ReadTwins { names, consistency });
        let context = context.clone();
        async move {
            match ask::ask(city, shard, read, context).await? {
                Reply::TwinsRead(read) => Ok(read),
                _ => Err(ask::unexpected(shard)),
            }
        }
    });
    let reads = try_join_all(reads).await?;
    let age_ms = reads.iter().map(|read| read.age_ms).max().unwrap_or_default();
    let twins = reads.into_iter().flat_map(|read| read.twins).map(|twin| (twin.name.clone(), twin));
    let mut twins: BTreeMap<String, message::Twin> = twins.collect();
    let catalog = city.catalog().borrow().clone();
    let mut response = BatchGetTwinsResponse { age_ms, ..BatchGetTwinsResponse::default() };
    for (device, public) in devices.iter().zip(names) {
        match twins.remove(device.as_str()) {
            Some(found) => response.twins.push(twin::to_public(found, &catalog)),
            None => response.missing.push(public),
        }
    }
    Ok(response)
}

/// The shards of the districts that exist.
async fn shards_of<'d>(city: &City, devices: &'d [DeviceName]) -> Result<BTreeMap<&'d str, ShardId>, Status> {
    let districts: BTreeSet<_> = devices.iter().map(DeviceName::district).collect();
    let found = join_all(districts.into_iter().map(async |district| (district, route::shard_of(city, district).await)));
    let mut shards = BTreeMap::new();
    for (district, shard) in found.await {
        match shard {
            Ok(shard) => {
                shards.insert(district, shard);
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    Ok(shards)
}
