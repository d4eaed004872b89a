//! What a lane has to say and could not hand over yet. Pure.
use std::collections::VecDeque;

use kvarter_api::v1;

/// What the speaker of a lane sends at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parcel {
    /// One batch.
    Readings(Vec<v1::Reading>),
    Acknowledgement(v1::CommandAcknowledgement),
}

/// Acknowledgements go before readings. The stage stops measuring while an outbox is full; only what devices report on orders
/// comes on top, which the number of open commands bounds.
#[derive(Debug)]
pub(super) struct Outbox {
    readings: VecDeque<v1::Reading>,
    acknowledgements: VecDeque<v1::CommandAcknowledgement>,
    batch_readings_max: usize,
    readings_taken: u64,
}

impl Outbox {
    pub(super) fn new(batch_readings_max: usize) -> Self {
        let batch_readings_max = batch_readings_max.max(1);
        Self { readings: VecDeque::new(), acknowledgements: VecDeque::new(), batch_readings_max, readings_taken: 0 }
    }

    pub(super) fn push(&mut self, reading: v1::Reading) {
        self.readings.push_back(reading);
    }

    pub(super) fn acknowledge(&mut self, acknowledgement: v1::CommandAcknowledgement) {
        self.acknowledgements.push_back(acknowledgement);
    }

    /// There is a whole batch of readings.
    pub(super) fn is_full(&self) -> bool {
        self.readings.len() >= self.batch_readings_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.acknowledgements.is_empty()
    }

    /// Readings that were taken out.
    pub(super) fn readings_taken(&self) -> u64 {
        self.readings_taken
    }

    pub(super) fn next_parcel(&mut self) -> Option<Parcel> {
        if let Some(acknowledgement) = self.acknowledgements.pop_front() {
            return Some(Parcel::Acknowledgement(acknowledgement));
        }
        let count = self.readings.len().min(self.batch_readings_max);
        self.readings_taken += count as u64;
        (count > 0).then(|| Parcel::Readings(self.readings.drain(..count).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_go_first_and_readings_in_batches() {
        let mut outbox = Outbox::new(2);
        for alias in 0..3 {
            outbox.push(v1::Reading { alias, ..v1::Reading::default() });
        }
        let acknowledgement = v1::CommandAcknowledgement { id: "c".to_owned(), ..Default::default() };
        outbox.acknowledge(acknowledgement.clone());
        assert!(outbox.is_full());
        assert_eq!(outbox.next_parcel(), Some(Parcel::Acknowledgement(acknowledgement)));
        let aliases = |parcel| match parcel {
            Some(Parcel::Readings(readings)) => readings.iter().map(|reading| reading.alias).collect(),
            _ => vec![],
        };
        assert_eq!(aliases(outbox.next_parcel()), [0, 1]);
        assert_eq!(aliases(outbox.next_parcel()), [2]);
        assert_eq!((outbox.next_parcel(), outbox.is_empty(), outbox.readings_taken()), (None, true, 3));
    }
}
