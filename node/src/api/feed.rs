//! FeedService: the committed facts of the city, in order, from cursors.
//!
//! A subscription is one task that reads all its shards ([`reader`]) into one bounded stream. What subscribers see of
//! an entry is said in [`translation`].

mod cursor;
mod filter;
mod identities;
mod reader;
mod translation;

#[cfg(test)]
mod translation_tests;

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{FuturesUnordered, StreamExt};
use kvarter_actors::City;
use kvarter_api::v1::feed_service_server::FeedService;
use kvarter_api::v1::{FeedMessage, SubscribeRequest};
use kvarter_cluster::ShardId;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use self::cursor::Cursor;
use self::filter::Filter;
use self::reader::{Reader, ReaderEnd};
use crate::api::outlet::{OutletStream, outlet};
use crate::api::{Lifetime, route, status};

/// Messages on their way to a subscriber; each has some thousand facts at most.
const MESSAGES_MAX: usize = 32;

/// The service.
pub(crate) struct Feeds {
    city: City,
    lifetime: Lifetime,
}

impl Feeds {
    pub(crate) fn new(city: City, lifetime: Lifetime) -> Self {
        Self { city, lifetime }
    }

    /// The shards in which a fact can pass the filter.
    async fn wanted(&self, filter: &Filter) -> Result<Vec<ShardId>, Status> {
        let mut wanted = BTreeSet::new();
        for district in filter.districts() {
            wanted.insert(route::shard_of(&self.city, district).await?);
        }
        Ok(if wanted.is_empty() { route::shards(&self.city) } else { wanted.into_iter().collect() })
    }
}

#[tonic::async_trait]
impl FeedService for Feeds {
    type SubscribeStream = OutletStream<FeedMessage>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        if self.lifetime.drain.is_cancelled() {
            return Err(status::draining());
        }
        let SubscribeRequest { cursors, filter, from_beginning } = request.into_inner();
        let filter = Filter::from_public(filter)?;
        let begins =
            cursor::begins(&cursors, from_beginning, &route::shards(&self.city), &self.wanted(&filter).await?)?;
        let mut cursors = BTreeMap::new();
        let begun = begins.into_iter().map(|(shard, begin)| async move {
            reader::begin(&self.city, shard, begin).await.map(|cursor| (shard, cursor))
        });
        for begun in futures::future::join_all(begun).await {
            let (shard, cursor) = begun.map_err(|end| end_status(&end))?;
            cursors.insert(shard, cursor);
        }
        let (messages, ending, stream) = outlet(MESSAGES_MAX);
        let (city, lifetime) = (self.city.clone(), self.lifetime.clone());
        self.lifetime.tasks.spawn(async move {
            if let Some(status) = serve(&city, &lifetime, cursors, &filter, messages).await {
                ending.with(status);
            }
        });
        Ok(Response::new(stream))
    }
}

/// Serves one subscription to its end; the status is for the subscriber.
async fn serve(
    city: &City,
    lifetime: &Lifetime,
    cursors: BTreeMap<ShardId, Cursor>,
    filter: &Filter,
    messages: mpsc::Sender<FeedMessage>,
) -> Option<Status> {
    let beginnings = cursors.iter().map(|(shard, cursor)| cursor.to_public(*shard)).collect();
    messages.send(FeedMessage { beginnings, ..FeedMessage::default() }).await.ok()?;
    let read = |(shard, cursor)| Reader::new(city, shard, cursor, filter, messages.clone()).run();
    let mut readers: FuturesUnordered<_> = cursors.into_iter().map(read).collect();
    tokio::select! {
        () = lifetime.drain.cancelled() => Some(status::draining()),
        () = lifetime.stop.cancelled() => Some(status::stopping()),
        () = messages.closed() => None,
        Some(end) = readers.next() => match end {
            ReaderEnd::Lost => None,
            end @ (ReaderEnd::TooSlow | ReaderEnd::NoReplica { .. } | ReaderEnd::Ahead { .. }) => Some(end_status(&end)),
        },
    }
}

fn end_status(end: &ReaderEnd) -> Status {
    match end {
        ReaderEnd::NoReplica { shard } => status::no_replica(*shard),
        ReaderEnd::Ahead { shard, cursor, end } => {
            status::invalid("cursors", format!("the feed of {shard} ends at {end}, the cursor is ahead at {cursor}"))
        }
        ReaderEnd::TooSlow | ReaderEnd::Lost => status::too_slow(),
    }
}
