//! Noticing that a stream waits in vain for what a shard does: a replica that hears from no leader has nothing to say, and would
//! say nothing for ever.

use std::time::Duration;

use kvarter_actors::City;
use kvarter_cluster::ShardId;
use tokio::time::sleep;

/// A replica that has not held all that is committed for so long may be cut off from the others.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Ends when the replica of `shard` here is cut off from the others, [`SILENCE_MAX`] from now at the earliest. Pending for ever
/// on a node without a replica: there the others are asked, and it is known whether they answer.
pub(crate) async fn cut_off(city: &City, shard: ShardId) {
    sleep(SILENCE_MAX).await;
    while !is_cut_off(city, shard) {
        sleep(LOOK_INTERVAL).await;
    }
}

fn is_cut_off(city: &City, shard: ShardId) -> bool {
    let Some(replica) = city.cluster().shard(shard) else { return false };
    if let Some(age) = replica.staleness() {
        return age > SILENCE_MAX;
    }
    // It has heard of no leader since it was opened. While it is filled the others serve, if they can be reached.
    !city.reaches_another(shard)
}
