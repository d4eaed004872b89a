//! Subscriptions over connections that are lost.

use std::sync::{Arc, Mutex};

use kvarter_api::v1::feed_service_server::{FeedService, FeedServiceServer};
use kvarter_api::v1::{Fact, FeedMessage, Position, SubscribeRequest};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::node::Nodes;

const SHARDS: u32 = 3;

/// A feed with an endless number of facts in each shard, on nodes that lose each connection after some messages.
#[derive(Clone, Default)]
struct Feed {
    connections: Arc<Mutex<usize>>,
}

#[tonic::async_trait]
impl FeedService for Feed {
    type SubscribeStream = tokio_stream::Iter<std::vec::IntoIter<Result<FeedMessage, Status>>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let connection = {
            let mut connections = self.connections.lock().expect("no test panicked");
            *connections += 1;
            *connections
        };
        let mut cursors = request.into_inner().cursors;
        if cursors.is_empty() {
            cursors = (1..=SHARDS).map(|shard| Position { shard, index: 10, ordinal: 0 }).collect();
        }
        assert_eq!(cursors.len(), SHARDS as usize, "a subscription that is resumed names every shard");
        let mut messages = vec![Ok(FeedMessage { beginnings: cursors.clone(), ..FeedMessage::default() })];
        // Shards differ in speed, so that some have said nothing when the connection is lost.
        for step in 0..connection % 4 {
            let cursor = &mut cursors[(connection + step) % SHARDS as usize];
            cursor.index += 1;
            let fact = Fact { position: Some(*cursor), ..Fact::default() };
            let (shard, next) = (cursor.shard, Some(*cursor));
            messages.push(Ok(FeedMessage { shard, facts: vec![fact], next, ..FeedMessage::default() }));
        }
        messages.push(Err(Status::unavailable("the connection broke")));
        Ok(Response::new(tokio_stream::iter(messages)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_has_no_gap_and_no_repeat() {
    let mut nodes = Nodes::new();
    for _ in 0..2 {
        nodes.start(Routes::new(FeedServiceServer::new(Feed::default()))).await;
    }
    let client = nodes.client().await;
    let mut subscription = client.subscribe(SubscribeRequest::default()).await.expect("a node is up");
    let mut last = [10_u64; SHARDS as usize];
    for _ in 0..20 {
        let message = subscription.next().await.expect("the subscription goes on");
        for fact in message.facts {
            let position = fact.position.expect("a fact has a position");
            let last = &mut last[position.shard as usize - 1];
            *last += 1;
            assert_eq!(position.index, *last, "shard {}", position.shard);
        }
    }
    let cursors: Vec<_> = subscription.cursors().iter().map(|cursor| cursor.index).collect();
    assert_eq!(cursors, last);
}
