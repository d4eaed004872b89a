//! From the facts of a shard's log to those that subscribers see. Pure.
//!
//! Every fact of an entry has an ordinal, each reading one of its own. Bookkeeping facts have ordinals too and are not
//! shown; those about streams and sessions are shown as changed connectivity of their devices, many under one ordinal.
//! A device may so be told connected, or disconnected, more than once.

use kvarter_actors::message::{self, fact::Fact as Logged};
use kvarter_actors::{Catalog, FeedEntry, ReadingMark};
use kvarter_api::v1::{self, FeedMessage, Quality, fact};
use kvarter_cluster::{LogIndex, ShardId};
use prost_types::Timestamp;

use super::cursor::Cursor;
use super::filter::Filter;
use super::identities::{Identities, Identity};
use crate::api::conversion::{self, command, twin, value};
use crate::api::name;

/// A message is closed when it has this many facts; facts of one ordinal stay together.
const MESSAGE_FACTS_MAX: usize = 2_000;

/// What a translation looks up.
pub(crate) struct Lookup<'a> {
    pub(crate) shard: ShardId,
    pub(crate) filter: &'a Filter,
    pub(crate) catalog: &'a Catalog,
    /// The devices whose sessions a stream carries, as far as known now.
    pub(crate) stream_devices: &'a dyn Fn(&[u8]) -> Vec<u32>,
}

/// Turns entries of one shard into messages.
pub(crate) struct Translation<'a> {
    lookup: Lookup<'a>,
    identities: &'a mut Identities,
    /// Facts up to here are left out.
    cursor: Cursor,
    messages: Vec<FeedMessage>,
    facts: Vec<v1::Fact>,
}

/// Where a fact stands.
struct Place {
    index: LogIndex,
    ordinal: u32,
    time: Timestamp,
}

impl<'a> Translation<'a> {
    pub(crate) fn new(lookup: Lookup<'a>, identities: &'a mut Identities, cursor: Cursor) -> Self {
        Self { lookup, identities, cursor, messages: Vec::new(), facts: Vec::new() }
    }

    /// Adds the facts of `entry`, which stands behind those added before.
    pub(crate) fn add(&mut self, entry: &FeedEntry) {
        let time = conversion::timestamp(entry.facts.time_us);
        let mut place = Place { index: entry.index, ordinal: 0, time };
        for logged in &entry.facts.facts {
            match &logged.fact {
                Some(Logged::ReadingsReported(reported)) => self.readings(&mut place, reported),
                Some(other) => {
                    self.fact(&place, other);
                    self.step(&mut place);
                }
                // Of a version that this node does not know; it has its ordinal all the same.
                None => self.step(&mut place),
            }
        }
        self.cursor = self.cursor.max(Cursor::behind(entry.index));
    }

    /// The messages so far; the last one tells the cursor even when it has no facts.
    pub(crate) fn finish(mut self) -> (Vec<FeedMessage>, Cursor) {
        if !self.facts.is_empty() {
            self.close(self.cursor);
        }
        (self.messages, self.cursor)
    }

    fn step(&mut self, place: &mut Place) {
        if self.facts.len() >= MESSAGE_FACTS_MAX {
            self.close(Cursor { index: place.index, ordinal: place.ordinal });
        }
        place.ordinal += 1;
    }

    fn close(&mut self, next: Cursor) {
        let facts = std::mem::take(&mut self.facts);
        let shard = self.lookup.shard;
        let next = Some(next.to_public(shard));
        self.messages.push(FeedMessage { shard: shard.0, facts, next, ..FeedMessage::default() });
    }

    fn readings(&mut self, place: &mut Place, reported: &message::ReadingsReported) {
        let Some(readings) = &reported.readings else { return };
        for (reading, mark) in readings.iter().zip(&reported.mark) {
            let mark = ReadingMark(*mark);
            if !self.cursor.has_seen(place.index, place.ordinal)
                && let Some(identity) = self.identities.identity(reading.device.0)
                && identity.passes
            {
                let reported = v1::AttributeReported {
                    attribute: twin::attribute_name(identity.kind.as_deref(), reading.attribute),
                    value: reading.value.map(|read| value::to_public(read.to_message())),
                    observe_time: Some(conversion::timestamp(reading.observed_us)),
                    quality: quality(mark).into(),
                    late: mark.is_late(),
                };
                let device = identity.public_name.clone();
                self.push(place, device, fact::Fact::AttributeReported(reported));
            }
            self.step(place);
        }
    }

    fn fact(&mut self, place: &Place, logged: &Logged) {
        if let Logged::DeviceRegistered(registered) = logged {
            // Learned even when the fact itself was seen: later ones are about the device.
            let (catalog, filter) = (self.lookup.catalog, self.lookup.filter);
            self.identities.learn(registered.device, &registered.name, &registered.kind, catalog, filter);
        }
        if self.cursor.has_seen(place.index, place.ordinal) {
            return;
        }
        match logged {
            Logged::DeviceRegistered(registered) => self.about(place, registered.device, |identity| {
                let message::DeviceRegistered { kind, location, labels, .. } = registered.clone();
                let device = Some(twin::device_to_public(&identity.name, kind, location, labels));
                fact::Fact::DeviceRegistered(v1::DeviceRegistered { device })
            }),
            Logged::DeviceRetired(retired) => {
                self.about(place, retired.device, |_| fact::Fact::DeviceRetired(v1::DeviceRetired {}));
            }
            Logged::DesiredChanged(changed) => self.about(place, changed.device, |identity| desired(changed, identity)),
            Logged::CommandIssued(issued) => self.about(place, issued.device, |identity| {
                fact::Fact::CommandChanged(v1::CommandChanged {
                    command: name::command(&identity.name, &issued.id),
                    state: v1::CommandState::Accepted.into(),
                    action: issued.action.clone(),
                    arguments: command::arguments_to_public(issued.arguments.clone()),
                    detail: String::new(),
                })
            }),
            Logged::CommandChanged(changed) => self.about(place, changed.device, |identity| {
                fact::Fact::CommandChanged(v1::CommandChanged {
                    command: name::command(&identity.name, &changed.id),
                    state: command::state_to_public(changed.state).into(),
                    detail: changed.detail.clone(),
                    ..v1::CommandChanged::default()
                })
            }),
            Logged::SessionsOpened(opened) => self.connectivity(place, &opened.device, true),
            Logged::StreamOpened(opened) => self.stream_connectivity(place, &opened.stream, true),
            Logged::StreamClosed(closed) => self.stream_connectivity(place, &closed.stream, false),
            Logged::LeadershipBegan(_)
            | Logged::ReadingsReported(_)
            | Logged::ReadingsAccepted(_)
            | Logged::StreamExpired(_)
            | Logged::CommandForgotten(_)
            | Logged::ServiceStepped(_)
            | Logged::ServiceModeSet(_) => {}
        }
    }

    fn stream_connectivity(&mut self, place: &Place, stream: &[u8], connected: bool) {
        let devices = (self.lookup.stream_devices)(stream);
        self.connectivity(place, &devices, connected);
    }

    fn connectivity(&mut self, place: &Place, devices: &[u32], connected: bool) {
        for device in devices {
            self.about(place, *device, |_| fact::Fact::ConnectivityChanged(v1::ConnectivityChanged { connected }));
        }
    }

    /// Adds a fact about a device, if the subscriber wants to hear of it.
    fn about(&mut self, place: &Place, device: u32, fact: impl FnOnce(&Identity) -> fact::Fact) {
        let Some(identity) = self.identities.identity(device).filter(|identity| identity.passes) else { return };
        let (device, fact) = (identity.public_name.clone(), fact(identity));
        self.push(place, device, fact);
    }

    fn push(&mut self, place: &Place, device: String, fact: fact::Fact) {
        let position = Cursor { index: place.index, ordinal: place.ordinal }.to_public(self.lookup.shard);
        self.facts.push(v1::Fact { position: Some(position), time: Some(place.time), device, fact: Some(fact) });
    }
}

fn desired(changed: &message::DesiredChanged, identity: &Identity) -> fact::Fact {
    let kind = identity.kind.as_deref();
    let set = changed.set.iter().map(|desired| twin::desired_to_public(desired.clone(), kind));
    let clear = changed.clear.iter().map(|number| twin::attribute_name(kind, *number));
    fact::Fact::DesiredChanged(v1::DesiredChanged { set: set.collect(), clear: clear.collect() })
}

fn quality(mark: ReadingMark) -> Quality {
    twin::quality_to_public(mark.quality().into())
}

/// The streams that opened or closed in `facts`.
pub(crate) fn streams_of(facts: &message::Facts) -> impl Iterator<Item = &[u8]> {
    facts.facts.iter().filter_map(|logged| match &logged.fact {
        Some(Logged::StreamOpened(opened)) => Some(opened.stream.as_ref()),
        Some(Logged::StreamClosed(closed)) => Some(closed.stream.as_ref()),
        _ => None,
    })
}

/// The devices that the facts of `entry` are about, as often as they are.
pub(crate) fn devices_of(facts: &message::Facts) -> impl Iterator<Item = u32> {
    facts.facts.iter().filter_map(|logged| logged.fact.as_ref()).flat_map(|logged| {
        let (one, many): (Option<u32>, &[u32]) = match logged {
            Logged::ReadingsReported(reported) => {
                (None, reported.readings.as_ref().map_or(&[], |readings| readings.device.as_slice()))
            }
            Logged::SessionsOpened(opened) => (None, &opened.device),
            Logged::DeviceRetired(retired) => (Some(retired.device), &[]),
            Logged::DesiredChanged(changed) => (Some(changed.device), &[]),
            Logged::CommandIssued(issued) => (Some(issued.device), &[]),
            Logged::CommandChanged(changed) => (Some(changed.device), &[]),
            // The fact itself names the device.
            Logged::DeviceRegistered(_) => (None, &[]),
            Logged::LeadershipBegan(_)
            | Logged::ReadingsAccepted(_)
            | Logged::StreamOpened(_)
            | Logged::StreamClosed(_)
            | Logged::StreamExpired(_)
            | Logged::CommandForgotten(_)
            | Logged::ServiceStepped(_)
            | Logged::ServiceModeSet(_) => (None, &[]),
        };
        one.into_iter().chain(many.iter().copied())
    })
}
