//! Applying facts: how the state of a shard changes, the same on every replica.
//!
//! Reads no clock, no randomness and no hash order, and can not fail: [`crate::decide`] has checked everything before
//! the facts were written. A fact about a device, stream or command that is not there is passed over.

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, LogIndex, Page, PageId, StateMachine};
use prost::Message;

use crate::ShardState;
use crate::message::{self, fact};
use crate::state::commands::Moment;

mod commands;
mod devices;
mod readings;
mod services;
mod streams;

/// Version of the entries' format.
pub(crate) const FACTS_FORMAT: u32 = 1;

/// Ordinals that a fact takes: one, or one for each reading.
pub fn ordinals(fact: &message::Fact) -> u32 {
    match &fact.fact {
        Some(fact::Fact::ReadingsReported(reported)) => {
            let readings = reported.readings.as_ref().map_or(0, message::Readings::len);
            u32::try_from(readings).expect("an entry has less than 2^32 readings")
        }
        _ => 1,
    }
}

impl StateMachine for ShardState {
    type Entry = message::Facts;

    fn decode(payload: &Bytes) -> Result<Self::Entry, DamagedBytes> {
        let facts = message::Facts::decode(payload.clone())
            .map_err(|error| DamagedBytes { reason: format!("facts: {error}") })?;
        if facts.format != FACTS_FORMAT {
            return Err(DamagedBytes {
                reason: format!("facts of format {}, this program knows {FACTS_FORMAT}", facts.format),
            });
        }
        Ok(facts)
    }

    fn read_by_all(&self) -> Option<LogIndex> {
        self.services().map(|service| LogIndex(service.cursor.index)).min()
    }

    fn apply(&mut self, index: LogIndex, entry: &Self::Entry) {
        self.apply_from(index, 0, entry);
    }

    fn pages(&self) -> Vec<Page> {
        self.all_pages()
    }

    fn restore(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes> {
        Self::from_pages(pages)
    }
}

impl ShardState {
    /// Applies facts whose first has this ordinal; returns the ordinal behind the last.
    pub(crate) fn apply_from(&mut self, index: LogIndex, first_ordinal: u32, entry: &message::Facts) -> u32 {
        let header = self.header_mut(index);
        header.time_us = header.time_us.max(entry.time_us);
        let time_us = header.time_us;
        let mut ordinal = first_ordinal;
        for fact in &entry.facts {
            self.apply_fact(Moment { index, ordinal, time_us }, fact);
            ordinal += ordinals(fact);
        }
        ordinal
    }

    pub(crate) fn apply_fact(&mut self, moment: Moment, fact: &message::Fact) {
        // A fact of a later format comes only after the cluster version was raised, which this program would know.
        let Some(fact) = &fact.fact else { return };
        match fact {
            fact::Fact::LeadershipBegan(_) => self.header_mut(moment.index).epoch += 1,
            fact::Fact::DeviceRegistered(registered) => self.apply_device_registered(moment, registered),
            fact::Fact::DeviceRetired(retired) => self.apply_device_retired(moment, retired),
            fact::Fact::ReadingsReported(reported) => self.apply_readings_reported(moment.index, reported),
            fact::Fact::ReadingsAccepted(accepted) => self.apply_readings_accepted(moment, accepted),
            fact::Fact::StreamOpened(opened) => self.apply_stream_opened(moment, opened),
            fact::Fact::SessionsOpened(opened) => self.apply_sessions_opened(moment, opened),
            fact::Fact::StreamClosed(closed) => self.apply_stream_closed(moment, closed),
            fact::Fact::StreamExpired(expired) => self.apply_stream_expired(moment, expired),
            fact::Fact::DesiredChanged(changed) => self.apply_desired_changed(moment, changed),
            fact::Fact::CommandIssued(issued) => self.apply_command_issued(moment, issued),
            fact::Fact::CommandChanged(changed) => self.apply_command_changed(moment, changed),
            fact::Fact::CommandForgotten(forgotten) => self.apply_command_forgotten(moment, forgotten),
            fact::Fact::ServiceStepped(stepped) => self.apply_service_stepped(moment, stepped),
            fact::Fact::ServiceModeSet(set) => self.apply_service_mode_set(moment, set),
        }
    }
}
