//! Facts about readings: the hot path of every replica.

use kvarter_cluster::LogIndex;

use crate::reading::ReadingMark;
use crate::state::commands::Moment;
use crate::state::{page, recent, streams};
use crate::{AttributeNumber, ShardState, StreamId, message};

impl ShardState {
    pub(super) fn apply_readings_reported(&mut self, index: LogIndex, fact: &message::ReadingsReported) {
        let Some(readings) = &fact.readings else { return };
        for (reading, mark) in readings.iter().zip(&fact.mark) {
            let (number, slot) = page::place(reading.device.0, recent::PER_PAGE);
            let is_known = self.recent.page(number).is_some_and(|page| page.kind(slot).is_some());
            let attribute = AttributeNumber::from_message(reading.attribute);
            if let (true, Some(attribute), Some(value)) = (is_known, attribute, reading.value) {
                let page = self.recent.page_mut(number, index);
                page.report(slot, attribute, reading.observed_us, value, ReadingMark(*mark));
            }
        }
    }

    pub(super) fn apply_readings_accepted(&mut self, moment: Moment, fact: &message::ReadingsAccepted) {
        let counters = &mut self.header_mut(moment.index).counters;
        counters.readings_stored += fact.stored;
        counters.readings_late += fact.late;
        counters.readings_duplicate += fact.duplicate;
        counters.readings_rejected += fact.rejected;
        let Some(id) = StreamId::from_message(&fact.stream).filter(|id| self.stream(*id).is_some()) else { return };
        let page = self.streams.page_mut(streams::page_of(id), moment.index);
        let Some(stream) = page.streams.get_mut(&id) else { return };
        stream.used_us = moment.time_us;
        let totals = &mut stream.totals;
        totals.sequence = totals.sequence.max(fact.sequence);
        totals.stored += fact.stored;
        totals.late += fact.late;
        totals.duplicate += fact.duplicate;
        totals.rejected += fact.rejected;
    }
}
