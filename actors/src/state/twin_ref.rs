//! A twin in a shard's state, put together from the tables that hold it.

use std::collections::BTreeMap;

use crate::state::{ShardState, commands, page, recent, twins};
use crate::value::{Point, Value};
use crate::{AttributeNumber, DeviceNumber, StreamId, message};

/// A device that is not retired.
#[derive(Clone, Copy)]
pub struct TwinRef<'a> {
    pub(crate) state: &'a ShardState,
    pub(crate) number: DeviceNumber,
    pub(crate) twin: &'a twins::Twin,
}

/// A reported attribute in a twin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedRef<'a> {
    pub attribute: AttributeNumber,
    pub value: &'a Value,
    pub observed_us: i64,
    /// 1 good, 3 out of range. Whether it is stale depends on the reader's clock.
    pub quality: u8,
}

impl<'a> TwinRef<'a> {
    pub fn number(self) -> DeviceNumber {
        self.number
    }

    /// `{district}/{device}`
    pub fn name(self) -> &'a str {
        &self.twin.identity.name
    }

    pub fn kind(self) -> &'a str {
        self.state.kind_name(self.twin.identity.kind)
    }

    pub fn location(self) -> Option<Point> {
        self.twin.identity.location
    }

    pub fn labels(self) -> &'a BTreeMap<String, String> {
        &self.twin.identity.labels
    }

    /// Microseconds since 1970.
    pub fn registered_us(self) -> i64 {
        self.twin.identity.registered_us
    }

    /// The stream that speaks for the device, open or not.
    pub fn session(self) -> Option<StreamId> {
        self.twin.session
    }

    /// Whether the device's stream is open, and when that changed last (0: never).
    pub fn connectivity(self) -> (bool, i64) {
        match self.twin.session.and_then(|session| self.state.stream(session)) {
            Some(stream) => (stream.is_open, stream.state_us.max(self.twin.session_us)),
            None => (false, self.twin.session_us),
        }
    }

    /// Rises with every change of the twin.
    pub fn version(self) -> u64 {
        self.state.version(self.number)
    }

    /// Reported attributes by number.
    pub fn reported(self) -> impl Iterator<Item = ReportedRef<'a>> {
        let (number, slot) = page::place(self.number.0, recent::PER_PAGE);
        let reported = self.state.recent.page(number).map_or(&[][..], |page| page.all_reported(slot));
        reported.iter().map(|reported| ReportedRef {
            attribute: reported.attribute,
            value: &reported.value,
            observed_us: reported.observed_us,
            quality: reported.quality,
        })
    }

    pub fn reported_attribute(self, attribute: AttributeNumber) -> Option<ReportedRef<'a>> {
        self.reported().find(|reported| reported.attribute == attribute)
    }

    /// Desired attributes by number.
    pub fn desired(self) -> impl Iterator<Item = (AttributeNumber, &'a Value)> {
        self.twin.desired()
    }

    /// Desired attributes that the reported ones do not match.
    pub fn diverging(self) -> impl Iterator<Item = (AttributeNumber, &'a Value)> {
        self.desired().filter(move |(attribute, desired)| {
            self.reported_attribute(*attribute).is_none_or(|reported| reported.value != *desired)
        })
    }

    /// Commands and receipts in the order of their issue.
    pub fn commands(self) -> impl Iterator<Item = &'a message::CommandRecord> {
        let (number, slot) = page::place(self.number.0, commands::PER_PAGE);
        self.state.commands.page(number).into_iter().flat_map(move |page| page.of(slot))
    }

    /// Commands that have not ended.
    pub fn open_commands(self) -> impl Iterator<Item = &'a message::CommandRecord> {
        self.commands().filter(|command| command.is_open())
    }

    pub fn command(self, id: &str) -> Option<&'a message::CommandRecord> {
        self.commands().find(|command| command.id == id)
    }

    /// Whether the device's actor has something to do: an open command, or a desired attribute that is not reported.
    pub fn has_work(self) -> bool {
        self.open_commands().next().is_some() || self.diverging().next().is_some()
    }
}
