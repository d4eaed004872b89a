//! Reads the feed of one shard for one subscriber: retries, gaps, and how long a slow subscriber is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use kvarter_actors::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, CityFeed, DeviceNumber, FeedBounds, FeedEntry, ShardState, StreamId};
use kvarter_api::v1::{FeedMessage, Gap};
use kvarter_cluster::{LogIndex, ShardId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cursor::{Begin, Cursor};
use super::filter::Filter;
use super::identities::Identities;
use super::translation::{Lookup, Translation, devices_of, streams_of};
use crate::api::{ask, silence};

/// A cursor that moved is told at least as often, also when the filter holds everything back.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);
/// How long a subscriber may let its messages stand.
const SLOW_WAIT: Duration = Duration::from_secs(10);
/// Before a feed that failed is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Failures in a row before the subscriber hears that another node may do better.
const FAILURES_MAX: u32 = 5;
/// For asking another replica about devices.
const IDENTITY_DEADLINE: Duration = Duration::from_secs(2);
/// A replica here tells the feed's end if it is no older.
const END_STALENESS_MAX: Duration = Duration::from_secs(1);
/// For asking the replicas what they keep; one that is down costs so long.
const BOUNDS_DEADLINE: Duration = Duration::from_millis(500);
/// Devices that are asked about at a time.
const IDENTITIES_MAX: usize = 1_000;
/// Names and kinds never change, so that any replica's word will do.
const IDENTITY_STALENESS_MAX_MS: u32 = 60_000;

/// Why a reader ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReaderEnd {
    /// The subscriber is gone.
    Lost,
    /// The subscriber did not take its messages in time.
    TooSlow,
    /// No replica told where the feed begins or ends, what comes next, or what its facts are about.
    NoReplica { shard: ShardId },
    /// The shard has not come as far as the cursor.
    Ahead { shard: ShardId, cursor: LogIndex, end: LogIndex },
}

/// The feed of one shard on its way to a subscriber.
pub(crate) struct Reader<'a> {
    city: &'a City,
    shard: ShardId,
    filter: &'a Filter,
    messages: mpsc::Sender<FeedMessage>,
    identities: Identities,
    cursor: Cursor,
    /// What the subscriber knows as its cursor, and since when.
    told: Cursor,
    told_at: Instant,
    /// Failures since entries were passed on.
    failures: u32,
}

/// The devices of the streams that opened or closed in some entries, by the stream's id.
type StreamDevices = BTreeMap<Vec<u8>, Vec<u32>>;

impl<'a> Reader<'a> {
    /// A reader that goes on behind `cursor`, which the subscriber knows.
    pub(crate) fn new(
        city: &'a City,
        shard: ShardId,
        cursor: Cursor,
        filter: &'a Filter,
        messages: mpsc::Sender<FeedMessage>,
    ) -> Self {
        let identities = Identities::default();
        let told_at = Instant::now();
        Self { city, shard, filter, messages, identities, cursor, told: cursor, told_at, failures: 0 }
    }

    /// Sends what is and comes behind the cursor, until the subscriber ends it.
    pub(crate) async fn run(mut self) -> ReaderEnd {
        match self.read().await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn read(&mut self) -> Result<Infallible, ReaderEnd> {
        let mut catalog = self.city.catalog();
        let mut feed = self.city.feed(self.shard, self.cursor.after());
        loop {
            let tell_at = self.told_at + CURSOR_INTERVAL;
            tokio::select! {
                entries = feed.next() => match entries {
                    Ok(entries) => {
                        if catalog.has_changed().unwrap_or(false) {
                            catalog.borrow_and_update();
                            self.identities.forget();
                        }
                        match self.learn(&entries, feed.position()).await {
                            Ok(streams) => self.pass_on(&entries, feed.position(), &streams).await?,
                            // Facts about unknown devices could not be told: these entries are read again.
                            Err(failure) => feed = self.reopen(&failure).await?,
                        }
                    }
                    Err(failure) => feed = self.reopen(&failure).await?,
                },
                () = silence::cut_off(self.city, self.shard) => return Err(ReaderEnd::NoReplica { shard: self.shard }),
                () = sleep_until(tell_at), if self.told != self.cursor => self.send(self.bare_message()).await?,
            }
        }
    }

    async fn reopen(&mut self, failure: &Failure) -> Result<CityFeed, ReaderEnd> {
        self.failures += 1;
        if self.failures > FAILURES_MAX {
            tracing::info!(shard = %self.shard, failure = failure.message, "a subscriber is sent to another node");
            return Err(ReaderEnd::NoReplica { shard: self.shard });
        }
        match failure.reason() {
            FailureReason::Gone => self.jump_to_first_kept().await?,
            // Where no replica answers, waiting here is in vain.
            _ => drop(bounds(self.city, self.shard).await?),
        }
        sleep(RETRY_PAUSE).await;
        Ok(self.city.feed(self.shard, self.cursor.after()))
    }

    /// Moves on to the first entry that is kept, and tells the gap before it if there is one.
    async fn jump_to_first_kept(&mut self) -> Result<(), ReaderEnd> {
        let (from, to) = (self.cursor, first_kept(self.city, self.shard).await?);
        if to.index <= from.after() {
            return Ok(());
        }
        self.cursor = to;
        let gap = Gap { from: Some(from.to_public(self.shard)), to: Some(to.to_public(self.shard)) };
        self.send(FeedMessage { gap: Some(gap), ..self.bare_message() }).await
    }

    async fn pass_on(
        &mut self,
        entries: &[FeedEntry],
        through: LogIndex,
        streams: &StreamDevices,
    ) -> Result<(), ReaderEnd> {
        let (messages, cursor) = self.translate(entries, &|stream| streams.get(stream).cloned().unwrap_or_default());
        self.cursor = cursor.max(Cursor::behind(through));
        self.failures = 0;
        for message in messages {
            self.send(message).await?;
        }
        Ok(())
    }

    fn translate(
        &mut self,
        entries: &[FeedEntry],
        stream_devices: &dyn Fn(&[u8]) -> Vec<u32>,
    ) -> (Vec<FeedMessage>, Cursor) {
        let catalog = self.city.catalog().borrow().clone();
        let lookup = Lookup { shard: self.shard, filter: self.filter, catalog: &catalog, stream_devices };
        let mut translation = Translation::new(lookup, &mut self.identities, self.cursor);
        entries.iter().for_each(|entry| translation.add(entry));
        translation.finish()
    }

    /// Learns who the devices in `entries` are, retired or not, and which of them were connected by a stream: from the replica
    /// here, else from another one. When it fails, facts about some device could not be told.
    async fn learn(&mut self, entries: &[FeedEntry], through: LogIndex) -> Result<StreamDevices, Failure> {
        let catalog = self.city.catalog().borrow().clone();
        // A replica here that is behind the entries does not know all that they are about.
        let replica = self.city.cluster().shard(self.shard);
        let view = replica.map(|replica| replica.view()).filter(|view| view.applied >= through);
        let mut streams = StreamDevices::new();
        for stream in entries.iter().flat_map(|entry| streams_of(&entry.facts)) {
            if !streams.contains_key(stream) {
                let devices = match &view {
                    Some(view) => devices_of_stream(&view.state, stream),
                    None => self.ask_for_stream(stream).await?,
                };
                streams.insert(stream.to_vec(), devices);
            }
        }
        let named = entries.iter().flat_map(|entry| devices_of(&entry.facts));
        let named = named.chain(streams.values().flatten().copied());
        let mut unknown: BTreeSet<u32> = named.filter(|device| !self.identities.knows(*device)).collect();
        if let Some(view) = &view {
            for device in unknown {
                if let Some((name, kind)) = view.state.identity(DeviceNumber(device)) {
                    self.identities.learn(device, name, kind, &catalog, self.filter);
                }
            }
            return Ok(streams);
        }
        while let Some(first) = unknown.first().copied() {
            for twin in self.ask_for_devices(&unknown).await? {
                self.identities.learn(twin.device, &twin.name, &twin.kind, &catalog, self.filter);
                unknown.remove(&twin.device);
            }
            if unknown.contains(&first) {
                let text = format!("{}: the replica that answered does not know device {first}", self.shard);
                return Err(Failure::new(FailureReason::NotLeader, text));
            }
        }
        Ok(streams)
    }

    /// Some of `devices`, the first of them if the replica that answers has heard of it.
    async fn ask_for_devices(&self, devices: &BTreeSet<u32>) -> Result<Vec<message::Twin>, Failure> {
        let list = message::ListTwins {
            devices: devices.iter().copied().take(IDENTITIES_MAX).collect(),
            from_device: devices.first().copied().unwrap_or_default(),
            limit: u32::try_from(IDENTITIES_MAX).expect("a small constant"),
            consistency: Some(message::Consistency { staleness_max_ms: IDENTITY_STALENESS_MAX_MS }),
            ..message::ListTwins::default()
        };
        match self.ask(shard_request::Request::ListTwins(list)).await? {
            Reply::TwinsListed(listed) => Ok(listed.twins),
            _ => Err(self.unexpected()),
        }
    }

    /// The devices of a stream. One that its shard does not know has none.
    async fn ask_for_stream(&self, stream: &[u8]) -> Result<Vec<u32>, Failure> {
        let read = message::ReadStream { stream: stream.to_vec().into() };
        match self.ask(shard_request::Request::ReadStream(read)).await? {
            Reply::StreamRead(read) => Ok(read.devices),
            _ => Err(self.unexpected()),
        }
    }

    async fn ask(&self, request: shard_request::Request) -> Result<Reply, Failure> {
        let context = CallContext { deadline: IDENTITY_DEADLINE, ..CallContext::default() };
        ask::try_ask(self.city, self.shard, request, context).await
    }

    fn unexpected(&self) -> Failure {
        Failure::new(FailureReason::Unknown, format!("{} gave an answer of another request", self.shard))
    }

    fn bare_message(&self) -> FeedMessage {
        let next = Some(self.cursor.to_public(self.shard));
        FeedMessage { shard: self.shard.0, next, ..FeedMessage::default() }
    }

    async fn send(&mut self, message: FeedMessage) -> Result<(), ReaderEnd> {
        let told = message.next.map_or(self.told, |next| Cursor::from_public(&next));
        match timeout(SLOW_WAIT, self.messages.send(message)).await {
            Ok(Ok(())) => {
                self.told = told;
                self.told_at = Instant::now();
                Ok(())
            }
            Ok(Err(_)) => Err(ReaderEnd::Lost),
            Err(_) => Err(ReaderEnd::TooSlow),
        }
    }
}

fn devices_of_stream(state: &ShardState, stream: &[u8]) -> Vec<u32> {
    let stream = StreamId::from_message(stream).and_then(|id| state.stream(id));
    stream.map_or_else(Vec::new, |stream| stream.devices.iter().map(|device| device.0).collect())
}

/// The cursor with which `begin` means to go on.
pub(crate) async fn begin(city: &City, shard: ShardId, begin: Begin) -> Result<Cursor, ReaderEnd> {
    match begin {
        Begin::Behind(cursor) => checked(city, shard, cursor).await,
        Begin::FirstKept => first_kept(city, shard).await,
        Begin::End => {
            let replica = city.cluster().shard(shard);
            let fresh = replica.filter(|replica| replica.staleness().is_some_and(|age| age <= END_STALENESS_MAX));
            Ok(Cursor::behind(match fresh {
                Some(replica) => replica.view().applied,
                None => bounds(city, shard).await?.applied,
            }))
        }
    }
}

/// The cursor, unless its shard certainly has not come so far, as when it was restored from an older state.
async fn checked(city: &City, shard: ShardId, cursor: Cursor) -> Result<Cursor, ReaderEnd> {
    if city.view(shard).is_some_and(|view| cursor.index <= view.applied) {
        return Ok(cursor);
    }
    // A replica may lag behind what the caller has seen at another one; a leader that is confirmed has it all.
    let list = message::ListTwins { devices: vec![0], limit: 1, ..message::ListTwins::default() };
    let context = CallContext { deadline: BOUNDS_DEADLINE, ..CallContext::default() };
    match ask::try_ask(city, shard, shard_request::Request::ListTwins(list), context).await {
        Ok(Reply::TwinsListed(message::TwinsListed { applied: end @ 1.., .. })) if end < cursor.index.0 => {
            Err(ReaderEnd::Ahead { shard, cursor: cursor.index, end: LogIndex(end) })
        }
        // Nobody can tell for the moment. What is ahead finds no replica to read from.
        Ok(_) | Err(_) => Ok(cursor),
    }
}

/// Before the first entry that any replica keeps: one that came by snapshot keeps fewer than the others.
async fn first_kept(city: &City, shard: ShardId) -> Result<Cursor, ReaderEnd> {
    Ok(Cursor::behind(LogIndex(bounds(city, shard).await?.first.0.saturating_sub(1))))
}

async fn bounds(city: &City, shard: ShardId) -> Result<FeedBounds, ReaderEnd> {
    city.feed_bounds(shard, BOUNDS_DEADLINE).await.map_err(|_failure| ReaderEnd::NoReplica { shard })
}
