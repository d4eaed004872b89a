//! Where districts live: the way from a name in a request to a shard.

use std::time::Duration;

use kvarter_actors::City;
use kvarter_cluster::ShardId;
use tokio::time::timeout;
use tonic::Status;

use crate::api::status;

/// A district that another node has just made is known here within this time, or does not exist.
pub(crate) const DISTRICT_WAIT: Duration = Duration::from_millis(500);

/// The shard of a district that must exist, `{district}`.
///
/// An unknown district is waited for: the caller may have made it through another node a moment ago.
pub(crate) async fn shard_of(city: &City, district: &str) -> Result<ShardId, Status> {
    let mut meta = city.cluster().meta_changes();
    let known = async {
        loop {
            meta.borrow_and_update();
            if let Some(shard) = city.shard_of(district) {
                return Some(shard);
            }
            meta.changed().await.ok()?;
        }
    };
    let found = timeout(DISTRICT_WAIT, known).await.ok().flatten();
    found.ok_or_else(|| status::not_found(format!("there is no district `{district}`")))
}

/// All shards of the city in the order of their ids.
pub(crate) fn shards(city: &City) -> Vec<ShardId> {
    city.cluster().meta().shards.keys().copied().filter(|shard| *shard != ShardId::META).collect()
}
