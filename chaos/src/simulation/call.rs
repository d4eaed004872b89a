//! Calls of the city by simulated clients.

use std::time::Duration;

use kvarter_actors::message::{self, Failure, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{CallContext, City};
use kvarter_cluster::ShardId;

/// After which a client hears that nothing is known.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

pub(super) async fn call(city: &City, shard: ShardId, request: Request) -> Result<Reply, Failure> {
    let request = message::ShardRequest { shard: shard.0, request: Some(request), ..Default::default() };
    let context = CallContext { deadline: DEADLINE, ..CallContext::default() };
    city.call(request, context).await
}
