//! A log entry as `raft-engine` stores it: raw bytes behind the engine's protobuf interface. The benchmark includes this file.

use prost::bytes::{Buf as _, Bytes};
use protobuf::{CodedInputStream, CodedOutputStream, ProtobufResult, UnknownFields};
use raft_engine::MessageExt;

const INDEX_BYTES: usize = size_of::<u64>();

/// The index as eight little-endian bytes, then an encoded message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    bytes: Vec<u8>,
    unknown: UnknownFields,
}

impl Record {
    pub(super) fn new(index: u64, entry: &impl prost::Message) -> Self {
        let mut bytes = Vec::with_capacity(INDEX_BYTES + entry.encoded_len());
        bytes.extend_from_slice(&index.to_le_bytes());
        entry.encode(&mut bytes).expect("a vector has room for every message");
        Self { bytes, unknown: UnknownFields::default() }
    }

    pub(super) fn decode<M: prost::Message + Default>(self) -> Result<M, prost::DecodeError> {
        let mut bytes = Bytes::from(self.bytes);
        bytes.advance(INDEX_BYTES.min(bytes.len()));
        M::decode(bytes)
    }
}

impl protobuf::Clear for Record {
    fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl protobuf::Message for Record {
    fn descriptor(&self) -> &'static protobuf::reflect::MessageDescriptor {
        unreachable!("a record has no descriptor: it is never printed by reflection")
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, stream: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        while !stream.eof()? {
            self.bytes.push(stream.read_raw_byte()?);
        }
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, stream: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        stream.write_raw_bytes(&self.bytes)
    }

    fn compute_size(&self) -> u32 {
        self.get_cached_size()
    }

    fn get_cached_size(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("an entry is far below 4 GiB")
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        static EMPTY: std::sync::OnceLock<Record> = std::sync::OnceLock::new();
        EMPTY.get_or_init(Self::default)
    }
}

/// Tells the engine how records are indexed.
pub(super) struct Indexed;

impl MessageExt for Indexed {
    type Entry = Record;

    fn index(record: &Record) -> u64 {
        // A record without its index is damaged; no entry has the index given then, so the engine notices.
        record.bytes.first_chunk().map_or(u64::MAX, |index| u64::from_le_bytes(*index))
    }
}
