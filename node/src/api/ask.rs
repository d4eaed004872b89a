//! Asking a shard: how the services of the API put their requests to the city.

use std::time::Duration;

use kvarter_actors::message::{Failure, ShardRequest, shard_reply::Reply, shard_request::Request};
use kvarter_actors::{CallContext, City, Criticality};
use kvarter_cluster::ShardId;
use tonic::Status;

use crate::api::status;

/// Asks the leader of `shard`, here or one hop away.
pub(crate) async fn try_ask(
    city: &City,
    shard: ShardId,
    request: Request,
    context: CallContext,
) -> Result<Reply, Failure> {
    let request = ShardRequest {
        shard: shard.0,
        traceparent: context.traceparent.clone(),
        remaining_ms: remaining_ms(context.deadline),
        criticality: context.criticality.map_or(0, Criticality::to_message),
        request: Some(request),
    };
    city.call(request, context).await
}

/// The same for a caller of the API, who is told of a failure by a status.
pub(crate) async fn ask(city: &City, shard: ShardId, request: Request, context: CallContext) -> Result<Reply, Status> {
    try_ask(city, shard, request, context).await.map_err(|failure| status::of_failure(&failure))
}

/// The status for a reply that belongs to another request.
pub(crate) fn unexpected(shard: ShardId) -> Status {
    status::broken_contract(format!("{shard} gave an answer of another request"))
}

fn remaining_ms(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX)
}
