//! The replicated state of a shard, in pages: what every replica has after the same facts.
//!
//! Here are the tables and how they are read; [`crate::apply`] changes them. Readers keep a clone: it never changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{LogIndex, PageTable, Timestamp};

use crate::{DeviceNumber, Epoch, StreamId, message};

pub(crate) mod commands;
pub(crate) mod header;
pub(crate) mod names;
pub(crate) mod page;
pub(crate) mod recent;
mod restore;
pub(crate) mod services;
pub(crate) mod streams;
mod twin_ref;
pub(crate) mod twins;

pub use commands::CommandState;
pub use header::ShardCounters;
pub use services::{SERVICE_STATE_BYTES_MAX, Service, ServiceMode};
pub use streams::Stream;
pub use twin_ref::{ReportedRef, TwinRef};

use header::{Header, KindIndex};

/// State of a shard.
#[derive(Clone, Default)]
pub struct ShardState {
    pub(crate) header: PageTable<Header>,
    pub(crate) twins: PageTable<twins::TwinsPage>,
    pub(crate) recent: PageTable<recent::RecentPage>,
    pub(crate) commands: PageTable<commands::CommandsPage>,
    pub(crate) streams: PageTable<streams::StreamsPage>,
    pub(crate) services: PageTable<services::ServicePage>,
    /// Derived from `twins`.
    pub(crate) names: names::NameIndex,
    /// Derived: the page of each service.
    pub(crate) service_pages: Arc<BTreeMap<Arc<str>, u32>>,
}

impl ShardState {
    /// Counts the leaderships so far.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.header().map_or(0, |header| header.epoch))
    }

    /// Shard time: that of the last entry.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.header().map_or(0, |header| header.time_us))
    }

    pub fn counters(&self) -> ShardCounters {
        self.header().map(|header| header.counters).unwrap_or_default()
    }

    /// Districts with devices, and how many each has.
    pub fn districts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.header().into_iter().flat_map(Header::districts)
    }

    /// The latest issue time of expired streams, microseconds since 1970.
    pub fn streams_expired_us(&self) -> i64 {
        self.header().map_or(0, |header| header.streams_expired_us)
    }

    /// The twin of a device that is not retired.
    pub fn device(&self, number: DeviceNumber) -> Option<TwinRef<'_>> {
        let twin = self.twin(number).filter(|twin| !twin.identity.is_retired)?;
        Some(TwinRef { state: self, number, twin })
    }

    /// The device that has this name, `{district}/{device}`, and is not retired.
    pub fn find(&self, name: &str) -> Option<DeviceNumber> {
        self.names.candidates(name).find(|number| self.twin(*number).is_some_and(|twin| *twin.identity.name == *name))
    }

    /// The device that has this name, `{district}/{device}`, and is not retired.
    pub fn device_named(&self, name: &str) -> Option<TwinRef<'_>> {
        self.device(self.find(name)?)
    }

    /// Name and kind of a device, retired or not.
    pub fn identity(&self, number: DeviceNumber) -> Option<(&str, &str)> {
        let identity = &self.twin(number)?.identity;
        Some((&identity.name, self.kind_name(identity.kind)))
    }

    /// Devices numbered `from` or above that are not retired, by number.
    pub fn devices(&self, from: DeviceNumber) -> impl Iterator<Item = TwinRef<'_>> {
        let (first_page, first_slot) = page::place(from.0, twins::PER_PAGE);
        let end_page = self.next_device().div_ceil(twins::PER_PAGE);
        let twins = (first_page..end_page).filter_map(|number| Some((number, self.twins.page(number)?))).flat_map(
            move |(number, page)| {
                let from = if number == first_page { first_slot } else { 0 };
                page.iter().filter(move |(slot, _)| *slot >= from).map(move |(slot, twin)| (number, slot, twin))
            },
        );
        twins.filter(|(_, _, twin)| !twin.identity.is_retired).map(|(page, slot, twin)| {
            let slot = u32::try_from(slot).expect("a page has 64 slots");
            TwinRef { state: self, number: DeviceNumber(page * twins::PER_PAGE + slot), twin }
        })
    }

    /// Connected devices whose actors have something to do; what a new leader activates.
    pub fn live_devices(&self) -> impl Iterator<Item = DeviceNumber> {
        let devices = self.devices(DeviceNumber(0));
        devices.filter(|twin| twin.connectivity().0 && twin.has_work()).map(TwinRef::number)
    }

    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.page(streams::page_of(id))?.streams.get(&id)
    }

    /// All streams that are known, open or not.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.streams.iter().flat_map(|(_, page)| page.streams.iter().map(|(id, stream)| (*id, stream)))
    }

    /// Streams that were not used for `age`.
    pub fn streams_to_expire(&self, now: Timestamp, age: Duration) -> impl Iterator<Item = StreamId> {
        let horizon_us = now.0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        self.streams().filter(move |(_, stream)| stream.used_us <= horizon_us).map(|(id, _)| id)
    }

    /// The service `{district}/{service}`.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.page(*self.service_pages.get(name)?)?.service.as_ref()
    }

    /// All services in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.service_pages.values().filter_map(|number| self.services.page(*number)?.service.as_ref())
    }

    /// When the sweep next has a command to expire or a receipt to forget, microseconds since 1970.
    pub fn commands_due_us(&self) -> Option<i64> {
        self.commands.iter().filter_map(|(_, page)| page.due_us()).min()
    }

    /// Commands past their deadline and receipts past their age, by device.
    pub(crate) fn commands_due(&self, now: Timestamp) -> impl Iterator<Item = (DeviceNumber, &message::CommandRecord)> {
        let pages = self.commands.iter().filter(move |(_, page)| page.due_us().is_some_and(|due_us| due_us <= now.0));
        pages.flat_map(move |(number, page)| {
            page.due(now.0).map(move |command| (DeviceNumber(number * commands::PER_PAGE + command.slot), command))
        })
    }

    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.page(0)
    }

    pub(crate) fn header_mut(&mut self, index: LogIndex) -> &mut Header {
        self.header.page_mut(0, index)
    }

    pub(crate) fn next_device(&self) -> u32 {
        self.header().map_or(0, |header| header.next_device)
    }

    pub(crate) fn kind_name(&self, index: KindIndex) -> &str {
        self.header().and_then(|header| header.kind(index)).map_or("", |kind| kind)
    }

    pub(crate) fn twin(&self, number: DeviceNumber) -> Option<&twins::Twin> {
        let (page, slot) = page::place(number.0, twins::PER_PAGE);
        self.twins.page(page)?.twin(slot)
    }

    pub(crate) fn version(&self, number: DeviceNumber) -> u64 {
        let (page, slot) = page::place(number.0, recent::PER_PAGE);
        self.recent.page(page).map_or(0, |page| page.version(slot))
    }
}
