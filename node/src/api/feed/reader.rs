//! Reads the feed of one shard for one subscriber: retries, gaps, and how long a slow subscriber is waited for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use kvarter_actors::message::{self, FailureReason, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, CityFeed, DeviceNumber, FeedBounds, FeedEntry, ShardState, StreamId};
use kvarter_api::v1::{FeedMessage, Gap};
use kvarter_cluster::{LogIndex, ShardId, View};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cursor::{Begin, Cursor};
use super::filter::Filter;
use super::identities::Identities;
use super::translation::{Lookup, Translation, devices_of, streams_of};
use crate::api::ask;

/// A cursor that moved is told at least as often, also when the filter holds everything back.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);
/// How long a subscriber may let its messages stand.
const SLOW_WAIT: Duration = Duration::from_secs(10);
/// Before a feed that failed is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// For asking another replica about devices.
const IDENTITY_DEADLINE: Duration = Duration::from_secs(2);
/// A replica here tells the feed's end if it is no older.
const END_STALENESS_MAX: Duration = Duration::from_secs(1);
/// For asking the replicas what they keep; one that is down costs so long.
const BOUNDS_DEADLINE: Duration = Duration::from_millis(500);
const IDENTITIES_MAX: u32 = 1_000;
/// Names and kinds never change, so that any replica's word will do.
const IDENTITY_STALENESS_MAX_MS: u32 = 60_000;

/// Why a reader ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReaderEnd {
    /// The subscriber is gone.
    Lost,
    /// The subscriber did not take its messages in time.
    TooSlow,
    /// No replica told where the feed begins or ends.
    NoReplica { shard: ShardId },
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
}

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
        Self { city, shard, filter, messages, identities, cursor, told: cursor, told_at: Instant::now() }
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
                        self.pass_on(&entries, feed.position()).await?;
                    }
                    Err(failure) => feed = self.reopen(failure.reason()).await?,
                },
                () = sleep_until(tell_at), if self.told != self.cursor => self.send(self.bare_message()).await?,
            }
        }
    }

    async fn reopen(&mut self, reason: FailureReason) -> Result<CityFeed, ReaderEnd> {
        if reason == FailureReason::Gone {
            self.jump_to_first_kept().await?;
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

    async fn pass_on(&mut self, entries: &[FeedEntry], through: LogIndex) -> Result<(), ReaderEnd> {
        // A replica here that is behind the entries does not know all that they are about.
        let replica = self.city.cluster().shard(self.shard);
        let view = replica.map(|replica| replica.view()).filter(|view| view.applied >= through);
        self.learn(entries, view.as_deref()).await;
        let streams = match &view {
            Some(_) => BTreeMap::new(),
            None => self.ask_for_streams(entries).await,
        };
        let stream_devices = |stream: &[u8]| match &view {
            Some(view) => {
                let stream = StreamId::from_message(stream).and_then(|id| view.state.stream(id));
                stream.map_or_else(Vec::new, |stream| stream.devices.iter().map(|device| device.0).collect())
            }
            None => streams.get(stream).cloned().unwrap_or_default(),
        };
        let (messages, cursor) = self.translate(entries, &stream_devices);
        self.cursor = cursor.max(Cursor::behind(through));
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

    /// Learns the names of the devices in `entries`: from the replica here, else from another one. Devices that no
    /// replica names are retired, and facts about them are left out.
    async fn learn(&mut self, entries: &[FeedEntry], view: Option<&View<ShardState>>) {
        let catalog = self.city.catalog().borrow().clone();
        for device in entries.iter().flat_map(|entry| devices_of(&entry.facts)) {
            if self.identities.knows(device) {
                continue;
            }
            match view {
                Some(view) => {
                    if let Some((name, kind)) = view.state.identity(DeviceNumber(device)) {
                        self.identities.learn(device, name, kind, &catalog, self.filter);
                    }
                }
                None => {
                    for twin in self.ask_for_twins(device).await {
                        self.identities.learn(twin.device, &twin.name, &twin.kind, &catalog, self.filter);
                    }
                }
            }
        }
    }

    async fn ask_for_twins(&self, from_device: u32) -> Vec<message::Twin> {
        let list = message::ListTwins {
            from_device,
            limit: IDENTITIES_MAX,
            consistency: Some(message::Consistency { staleness_max_ms: IDENTITY_STALENESS_MAX_MS }),
            ..message::ListTwins::default()
        };
        let context = CallContext { deadline: IDENTITY_DEADLINE, ..CallContext::default() };
        match ask::try_ask(self.city, self.shard, shard_request::Request::ListTwins(list), context).await {
            Ok(Reply::TwinsListed(listed)) => listed.twins,
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// The devices of the streams in `entries`, from another replica. A stream that none knows has none.
    async fn ask_for_streams(&self, entries: &[FeedEntry]) -> BTreeMap<Vec<u8>, Vec<u32>> {
        let mut devices = BTreeMap::new();
        for stream in entries.iter().flat_map(|entry| streams_of(&entry.facts)) {
            if devices.contains_key(stream) {
                continue;
            }
            let read = message::ReadStream { stream: stream.to_vec().into() };
            let context = CallContext { deadline: IDENTITY_DEADLINE, ..CallContext::default() };
            if let Ok(Reply::StreamRead(read)) =
                ask::try_ask(self.city, self.shard, shard_request::Request::ReadStream(read), context).await
            {
                devices.insert(stream.to_vec(), read.devices);
            }
        }
        devices
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

/// The cursor with which `begin` means to go on.
pub(crate) async fn begin(city: &City, shard: ShardId, begin: Begin) -> Result<Cursor, ReaderEnd> {
    match begin {
        Begin::Behind(cursor) => Ok(cursor),
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

/// Before the first entry that any replica keeps: one that came by snapshot keeps fewer than the others.
async fn first_kept(city: &City, shard: ShardId) -> Result<Cursor, ReaderEnd> {
    Ok(Cursor::behind(LogIndex(bounds(city, shard).await?.first.0.saturating_sub(1))))
}

async fn bounds(city: &City, shard: ShardId) -> Result<FeedBounds, ReaderEnd> {
    city.feed_bounds(shard, BOUNDS_DEADLINE).await.map_err(|_failure| ReaderEnd::NoReplica { shard })
}
