//! A door for the fuzzers in `chaos/fuzz` to the log's records. There under `--cfg fuzzing` alone, and not in `log/record.rs`,
//! which the benchmark includes.

use protobuf::Message as _;
use raft_engine::MessageExt as _;

use super::record::{Indexed, Record};

/// `bytes` as a record in the log's files.
pub(crate) fn record(bytes: &[u8]) {
    let record = Record::parse_from_bytes(bytes).expect("any bytes are a record");
    let index = Indexed::index(&record);
    if let Ok(entry) = record.decode::<crate::wire::Entry>() {
        let entry = crate::raft::entry_to_wire(&crate::raft::entry_from_wire(entry));
        let again = Record::new(index, &entry);
        assert_eq!(Indexed::index(&again), index);
        assert_eq!(again.decode::<crate::wire::Entry>(), Ok(entry));
    }
}
