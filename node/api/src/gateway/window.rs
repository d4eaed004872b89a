//! The batches of a stream that wait for their acknowledgements, and what is sent again after a lost connection. Pure: no
//! clock, no IO.
//!
//! ```text
//!            first                  unsent                 next
//!   ─ done ───┼── sent, incomplete ───┼─── to be sent ───────┤
//!             └──────── rewind() ◄────┘
//! ```
//! Batches leave the window when all their readings are acknowledged, in any order. [`Window::rewind`] makes everything that
//! is still in the window *to be sent* again: whole batches, in order, under their old numbers.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::BatchSequence;
use super::event::{AcknowledgedReading, BatchAcknowledgement};
use super::totals::{Accounts, StreamTotals};
use crate::v1::{ReadingOutcome, ReadingRejection, ReadingRejectionReason, ReadingsAcknowledged};

/// An acknowledgement that the protocol does not allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAcknowledgement {
    #[error("batch {sequence} was never sent")]
    UnknownBatch { sequence: u64 },
    #[error("batch {sequence} has {readings} readings, not one with index {index}")]
    UnknownReading { sequence: u64, readings: u32, index: u32 },
    #[error("batch {sequence}: {indexes} indexes with {outcomes} outcomes")]
    Uneven { sequence: u64, indexes: usize, outcomes: usize },
    #[error("batch {sequence}: outcome {outcome} is not known")]
    UnknownOutcome { sequence: u64, outcome: i32 },
}

/// The batches of a stream that are not acknowledged yet; `F` is what is sent of a batch.
#[derive(Debug)]
pub(crate) struct Window<F> {
    /// From sequence `first` on without gaps; `None` is complete.
    batches: VecDeque<Option<Batch<F>>>,
    first: u64,
    /// Sequence of the first batch that was not sent on this connection.
    unsent: u64,
    accounts: Accounts,
}

#[derive(Debug)]
struct Batch<F> {
    frame: F,
    readings: u32,
    waiting: u32,
    /// One bit a reading.
    acknowledged: Vec<u64>,
    called_at: Instant,
}

impl<F> Window<F> {
    pub(crate) fn new() -> Self {
        Self { batches: VecDeque::new(), first: 1, unsent: 1, accounts: Accounts::default() }
    }

    /// Adds the batch that follows the last one.
    ///
    /// # Panics
    /// When `sequence` is not the next one, or `readings` is 0.
    pub(crate) fn push(&mut self, sequence: BatchSequence, frame: F, readings: u32, called_at: Instant) {
        assert_eq!(sequence.0, self.first + self.batches.len() as u64, "batches are numbered without gaps");
        assert!(readings > 0, "a batch has readings");
        let acknowledged = vec![0; readings.div_ceil(64) as usize];
        self.batches.push_back(Some(Batch { frame, readings, waiting: readings, acknowledged, called_at }));
        self.accounts.send(readings);
    }

    /// Whether a batch is to be sent on this connection.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent < self.first + self.batches.len() as u64
    }

    /// The next batch to be sent on this connection.
    pub(crate) fn next_unsent(&mut self) -> Option<&F> {
        let place = self.place(self.unsent)?;
        let Some(step) = self.batches.range(place..).position(Option::is_some) else {
            // All that is left was acknowledged before the connection was lost.
            self.unsent = self.first + self.batches.len() as u64;
            return None;
        };
        self.unsent += step as u64 + 1;
        Some(&self.batches.get(place + step)?.as_ref()?.frame)
    }

    /// The connection was lost: what is not acknowledged is to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.unsent = self.first;
    }

    /// Whether batches that were sent on this connection wait for acknowledgements.
    pub(crate) fn has_waiting(&self) -> bool {
        self.first < self.unsent
    }

    pub(crate) fn totals(&self) -> StreamTotals {
        self.accounts.totals()
    }

    /// Takes an acknowledgement that arrives at `now`, and returns what it says about readings that were not acknowledged
    /// before.
    pub(crate) fn acknowledge(
        &mut self,
        acknowledged: &ReadingsAcknowledged,
        now: Instant,
    ) -> Result<BatchAcknowledgement, InvalidAcknowledgement> {
        let ReadingsAcknowledged { sequence, shard, indexes, outcomes, .. } = acknowledged;
        let sequence = *sequence;
        if sequence == 0 || sequence >= self.first + self.batches.len() as u64 {
            return Err(InvalidAcknowledgement::UnknownBatch { sequence });
        }
        if indexes.len() != outcomes.len() {
            let (indexes, outcomes) = (indexes.len(), outcomes.len());
            return Err(InvalidAcknowledgement::Uneven { sequence, indexes, outcomes });
        }
        let place = self.place(sequence);
        let mut news = BatchAcknowledgement {
            sequence: BatchSequence(sequence),
            shard: *shard,
            readings: Vec::new(),
            is_complete: true,
            elapsed: Duration::ZERO,
        };
        if let Some(Some(batch)) = place.and_then(|place| self.batches.get_mut(place)) {
            news.readings = batch.acknowledge(acknowledged)?;
            news.is_complete = batch.waiting == 0;
            news.elapsed = now.saturating_duration_since(batch.called_at);
            let count = u32::try_from(news.readings.len()).expect("not more than the batch has");
            self.accounts.acknowledge(count);
            if shard.is_none() {
                self.accounts.refuse(count);
            }
        }
        if let (Some(shard), Some(totals)) = (shard, &acknowledged.totals) {
            self.accounts.shard(*shard, *totals);
        }
        if let Some(place) = place.filter(|_| news.is_complete) {
            self.batches[place] = None;
        }
        while self.batches.pop_front_if(|batch| batch.is_none()).is_some() {
            self.first += 1;
        }
        self.unsent = self.unsent.max(self.first);
        Ok(news)
    }

    /// Where the batch is; `None` before the window and behind it.
    fn place(&self, sequence: u64) -> Option<usize> {
        let place = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        (place < self.batches.len()).then_some(place)
    }
}

impl<F> Batch<F> {
    fn acknowledge(
        &mut self,
        acknowledged: &ReadingsAcknowledged,
    ) -> Result<Vec<AcknowledgedReading>, InvalidAcknowledgement> {
        let sequence = acknowledged.sequence;
        let mut readings = Vec::with_capacity(acknowledged.indexes.len());
        let mut rejections = acknowledged.rejections.iter().peekable();
        for (&index, &outcome) in acknowledged.indexes.iter().zip(&acknowledged.outcomes) {
            if index >= self.readings {
                return Err(InvalidAcknowledgement::UnknownReading { sequence, readings: self.readings, index });
            }
            let outcome = match ReadingOutcome::try_from(outcome) {
                Ok(ReadingOutcome::Unspecified) | Err(_) => {
                    return Err(InvalidAcknowledgement::UnknownOutcome { sequence, outcome });
                }
                Ok(outcome) => outcome,
            };
            let rejection = rejections.next_if(|rejection| rejection.index == index).map(ReadingRejection::reason);
            if self.mark(index) {
                readings.push(AcknowledgedReading {
                    index,
                    outcome,
                    rejection: rejection.unwrap_or(ReadingRejectionReason::Unspecified),
                });
            }
        }
        Ok(readings)
    }

    /// Marks a reading as acknowledged; false when it was before.
    fn mark(&mut self, index: u32) -> bool {
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        let is_new = self.acknowledged[word] & bit == 0;
        self.acknowledged[word] |= bit;
        self.waiting -= u32::from(is_new);
        is_new
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
