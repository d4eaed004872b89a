//! Records as bytes: length-delimited, each with a sum that covers it and all before it.

use std::io::{self, BufReader, Read};

use kvarter_api::v1::{HistoryRecord, history_record::Record};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Longer than any record: a message of the feed is at most 4 MiB.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// The field `sum`: its tag, and eight bytes.
const SUM_TAG: u8 = (15 << 3) | 1;
const SUM_BYTES: usize = 9;
/// Of a length below [`RECORD_BYTES_MAX`] as a varint.
const LENGTH_BYTES_MAX: u32 = 4;

/// Writes `record` behind `bytes`, and returns its sum; `sum` is that of the record before it.
pub(super) fn encode(record: Record, sum: u64, bytes: &mut Vec<u8>) -> u64 {
    let body = HistoryRecord { record: Some(record), sum: 0 }.encode_to_vec();
    let sum = xxh3_64_with_seed(&body, sum);
    prost::encoding::encode_varint((body.len() + SUM_BYTES) as u64, bytes);
    bytes.extend_from_slice(&body);
    bytes.push(SUM_TAG);
    bytes.extend_from_slice(&sum.to_le_bytes());
    sum
}

#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    /// What begins at `offset` is no whole record.
    Damaged {
        offset: u64,
        reason: &'static str,
    },
}

/// Reads records until the first that is not whole.
pub(super) struct RecordReader<R> {
    input: BufReader<R>,
    /// Where the last whole record ends, and its sum.
    offset: u64,
    sum: u64,
}

impl<R: Read> RecordReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), offset: 0, sum: 0 }
    }

    /// Where the last whole record ends.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The sum of the last whole record.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// The next record; `None` at the end. After an error there is nothing more to read.
    pub(super) fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let offset = self.offset;
        let damaged = |reason| ReadError::Damaged { offset, reason };
        let Some((length, length_bytes)) = self.read_length()? else { return Ok(None) };
        let whole = usize::try_from(length).ok().filter(|_| length < RECORD_BYTES_MAX);
        let Some(body_bytes) = whole.and_then(|whole| whole.checked_sub(SUM_BYTES)) else {
            return Err(damaged("no record is of this length"));
        };
        let mut frame = Vec::new();
        let taken = self.input.by_ref().take(length).read_to_end(&mut frame).map_err(ReadError::Io)?;
        if taken as u64 != length {
            return Err(damaged("the record is cut off"));
        }
        let (body, tail) = frame.split_at(body_bytes);
        let sum = xxh3_64_with_seed(body, self.sum);
        if tail[0] != SUM_TAG || tail[1..] != sum.to_le_bytes() {
            return Err(damaged("the record does not have its sum"));
        }
        let record = HistoryRecord::decode(body).ok().and_then(|record| record.record);
        let record = record.ok_or_else(|| damaged("the record is of a kind that this version does not know"))?;
        self.offset += length + u64::from(length_bytes);
        self.sum = sum;
        Ok(Some(record))
    }

    /// The length of the next record and of its own bytes; `None` at the end.
    fn read_length(&mut self) -> Result<Option<(u64, u32)>, ReadError> {
        let mut length = 0;
        for place in 0..LENGTH_BYTES_MAX {
            let mut byte = [0];
            if self.input.read(&mut byte).map_err(ReadError::Io)? == 0 {
                let cut_off = ReadError::Damaged { offset: self.offset, reason: "the record's length is cut off" };
                return if place == 0 { Ok(None) } else { Err(cut_off) };
            }
            length |= u64::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] < 0x80 {
                return Ok(Some((length, place + 1)));
            }
        }
        Err(ReadError::Damaged { offset: self.offset, reason: "no record is of this length" })
    }
}
