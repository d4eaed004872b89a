//! A part: the readings of consecutive batches that belong to one shard, in columns, and their acknowledgements.
//!
//! This is the hot path of ingest: a reading costs a push into each column, and nothing is allocated for it but text.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use kvarter_actors::{
    AttributeNumber, DeviceNumber, PART_BYTES_MAX, READING_BYTES, TEXT_BYTES_MAX, ValueRef, message,
};
use kvarter_api::v1::{
    Reading, ReadingBatch, ReadingOutcome, ReadingRejection, ReadingRejectionReason, ReadingTotals, ReadingsAcknowledged, reading,
};
use kvarter_cluster::ShardId;

use super::aliases::{Aliases, DEVICE_NONE};
use super::stream::BATCH_READINGS_MAX;
use crate::api::conversion::value;

/// A part takes no further batch beyond this size, so that it packs well into log entries. The batch that crosses the
/// bound is still taken whole, unless the part might become larger than a shard takes.
pub(crate) const PART_BYTES_FULL: usize = 512 * 1024;

/// Texts are cut here: long enough that the shard still refuses them as too long, and no longer.
const TEXT_BYTES_KEPT: usize = TEXT_BYTES_MAX + 4;

const _: () = assert!(
    BATCH_READINGS_MAX * (READING_BYTES + TEXT_BYTES_KEPT) <= PART_BYTES_MAX,
    "any batch fits into a part of its own"
);

/// The base of a part's times lies within these microseconds, so that a first reading of an absurd time does no harm to
/// the others.
const BASE_US: RangeInclusive<i64> = 0..=1 << 60;

const NOT_A_NUMBER: ValueRef<'static> = ValueRef::Number(f64::NAN);

/// Readings of one shard on their way. All readings of one batch for a shard are in one part, so that the shard can
/// tell by the batch's sequence alone whether it has them.
#[derive(Default)]
pub(crate) struct Part {
    /// Column `device` holds aliases until [`Part::resolve`].
    readings: message::Readings,
    /// Index of each reading within its batch.
    indexes: Vec<u32>,
    shares: Vec<Share>,
    bytes: usize,
    is_resolved: bool,
}

/// What one batch has in a part.
struct Share {
    sequence: u64,
    readings: usize,
}

/// A shard answered for another number of readings than it was sent.
#[derive(Debug, thiserror::Error)]
#[error("{shard} answered {outcomes} outcomes for {readings} readings")]
pub(crate) struct OutcomesMismatch {
    shard: ShardId,
    outcomes: usize,
    readings: usize,
}

impl Part {
    /// Adds the reading numbered `index` of the batch `sequence`, which is not below those added before. `alias` is
    /// [`DEVICE_NONE`] when the reading's own was refused.
    pub(crate) fn push(&mut self, sequence: u64, index: u32, alias: u32, reading: &Reading) {
        match self.shares.last_mut() {
            Some(share) if share.sequence == sequence => share.readings += 1,
            _ => self.shares.push(Share { sequence, readings: 1 }),
        }
        if self.indexes.is_empty() {
            self.readings.base_us = reading.observed_us.clamp(*BASE_US.start(), *BASE_US.end());
        }
        self.indexes.push(index);
        self.bytes += READING_BYTES;
        let value = match &reading.value {
            Some(reading::Value::Number(number)) => ValueRef::Number(*number),
            Some(reading::Value::Integer(integer)) => ValueRef::Integer(*integer),
            Some(reading::Value::Boolean(boolean)) => ValueRef::Boolean(*boolean),
            Some(reading::Value::Text(text)) => {
                let text = kept(text);
                self.bytes += text.len();
                ValueRef::Text(text)
            }
            // What is no place on Earth, or no value at all, travels as not a number, and the shard rejects it.
            Some(reading::Value::Point(point)) => value::point_from_public(point).map_or(NOT_A_NUMBER, ValueRef::Point),
            None => NOT_A_NUMBER,
        };
        // Attributes that no kind can have stay unknown under number 0.
        let attribute = AttributeNumber::from_message(reading.attribute).unwrap_or_default();
        self.readings.push(DeviceNumber(alias), attribute, reading.observed_us, value);
    }

    /// The devices of these aliases could not be attached: their readings are of no device.
    pub(crate) fn refuse(&mut self, refused: &HashSet<u32>) {
        if !self.is_resolved {
            self.readings
                .device
                .iter_mut()
                .filter(|alias| refused.contains(alias))
                .for_each(|alias| *alias = DEVICE_NONE);
        }
    }

    /// Puts device numbers in the place of aliases; done once, when the devices of all its aliases are known.
    pub(crate) fn resolve(&mut self, aliases: &Aliases) {
        if !std::mem::replace(&mut self.is_resolved, true) {
            for device in &mut self.readings.device {
                *device = aliases.device(*device);
            }
        }
    }

    /// What the shard is sent; resolve first.
    pub(crate) fn readings(&self) -> &message::Readings {
        debug_assert!(self.is_resolved);
        &self.readings
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Whether readings of the batch `sequence`, of [`batch_bytes`], go in here.
    #[inline]
    pub(crate) fn takes(&self, sequence: u64, batch_bytes: usize) -> bool {
        let is_same = self.shares.last().is_some_and(|share| share.sequence == sequence);
        let has_room = self.bytes < PART_BYTES_FULL && self.bytes + batch_bytes <= PART_BYTES_MAX;
        !self.is_resolved && (is_same || has_room)
    }

    /// Sequence of the last batch in it; zero when empty.
    pub(crate) fn sequence(&self) -> u64 {
        self.shares.last().map_or(0, |share| share.sequence)
    }

    /// The acknowledgements of all its batches, from the shard's answer.
    pub(crate) fn acknowledge(
        self,
        shard: ShardId,
        answer: &message::ReadingsSubmitted,
    ) -> Result<Vec<ReadingsAcknowledged>, OutcomesMismatch> {
        if answer.outcomes.len() != self.indexes.len() {
            let (outcomes, readings) = (answer.outcomes.len(), self.indexes.len());
            return Err(OutcomesMismatch { shard, outcomes, readings });
        }
        let totals = answer.totals.as_ref().map(totals_to_public);
        let mut reasons = answer.rejections.iter();
        let mut start = 0;
        let acknowledgements = self.shares.iter().map(|share| {
            let range = start..start + share.readings;
            start = range.end;
            let indexes = self.indexes[range.clone()].to_vec();
            let outcomes: Vec<i32> = answer.outcomes[range].iter().map(|outcome| outcome_to_public(*outcome)).collect();
            let rejections = indexes
                .iter()
                .zip(&outcomes)
                .filter(|(_, outcome)| **outcome == ReadingOutcome::Rejected as i32)
                .map(|(index, _)| rejection(*index, reasons.next().copied().unwrap_or_default()))
                .collect();
            ReadingsAcknowledged {
                sequence: share.sequence,
                shard: Some(shard.0),
                indexes,
                outcomes,
                rejections,
                totals,
            }
        });
        Ok(acknowledgements.collect())
    }

    /// Takes the batches up to `through` out, which the shard has from before, and returns their acknowledgements.
    pub(crate) fn trim(
        &mut self,
        shard: ShardId,
        through: u64,
        totals: &message::StreamTotals,
    ) -> Vec<ReadingsAcknowledged> {
        let shares = self.shares.partition_point(|share| share.sequence <= through);
        if shares == 0 {
            return Vec::new();
        }
        let mut start = 0;
        let acknowledgements = self.shares.drain(..shares).map(|share| {
            let indexes = self.indexes[start..start + share.readings].to_vec();
            start += share.readings;
            let outcomes = vec![ReadingOutcome::AcceptedEarlier as i32; indexes.len()];
            let totals = Some(totals_to_public(totals));
            ReadingsAcknowledged {
                sequence: share.sequence,
                shard: Some(shard.0),
                indexes,
                outcomes,
                totals,
                rejections: Vec::new(),
            }
        });
        let acknowledgements = acknowledgements.collect();
        // The texts stay: the numbers in column `value` still mean their places.
        self.indexes.drain(..start);
        self.readings.device.drain(..start);
        self.readings.attribute.drain(..start);
        self.readings.offset_us.drain(..start);
        self.readings.r#type.drain(..start);
        self.readings.value.drain(..start);
        acknowledgements
    }
}

/// What a batch takes at most in the part of one shard.
pub(crate) fn batch_bytes(batch: &ReadingBatch) -> usize {
    let text_bytes = |reading: &Reading| match &reading.value {
        Some(reading::Value::Text(text)) => kept(text).len(),
        _ => 0,
    };
    batch.readings.iter().map(|reading| READING_BYTES + text_bytes(reading)).sum()
}

fn kept(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_KEPT)]
}

/// The acknowledgement of readings whose aliases are not attached.
pub(crate) fn unattached(sequence: u64, indexes: Vec<u32>) -> ReadingsAcknowledged {
    let outcomes = vec![ReadingOutcome::Rejected as i32; indexes.len()];
    let reason = ReadingRejectionReason::UnknownDevice.into();
    let rejections = indexes.iter().map(|index| ReadingRejection { index: *index, reason }).collect();
    ReadingsAcknowledged { sequence, shard: None, indexes, outcomes, rejections, totals: None }
}

fn totals_to_public(totals: &message::StreamTotals) -> ReadingTotals {
    let message::StreamTotals { sequence, stored, late, duplicate, rejected } = *totals;
    ReadingTotals { sequence, stored, late, duplicate, rejected }
}

/// Shards number outcomes as the public API does.
#[inline]
fn outcome_to_public(outcome: u32) -> i32 {
    let known = [
        ReadingOutcome::Unspecified,
        ReadingOutcome::Stored,
        ReadingOutcome::Late,
        ReadingOutcome::Duplicate,
        ReadingOutcome::Rejected,
    ];
    known.get(outcome as usize).copied().unwrap_or(ReadingOutcome::Unspecified).into()
}

fn rejection(index: u32, reason: u32) -> ReadingRejection {
    let known = i32::try_from(reason).ok().and_then(|reason| ReadingRejectionReason::try_from(reason).ok());
    ReadingRejection { index, reason: known.unwrap_or_default().into() }
}
