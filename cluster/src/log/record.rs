//! A log entry as `raft-engine` stores it: raw bytes behind the engine's protobuf interface.

use protobuf::{CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields};
use raft_engine::MessageExt;

/// An encoded [`crate::wire::Entry`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    unknown: UnknownFields,
}

impl Record {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, unknown: UnknownFields::default() }
    }
}

impl protobuf::Clear for Record {
    fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl Message for Record {
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

    /// The entry's first field: tag `0x09`, then the index as eight little-endian bytes.
    fn index(record: &Record) -> u64 {
        match record.bytes.as_slice() {
            [0x09, index @ ..] if index.len() >= 8 => {
                u64::from_le_bytes(index[..8].try_into().expect("eight bytes"))
            }
            // Damaged; no entry has this index, so the engine notices the difference.
            _ => u64::MAX,
        }
    }
}
