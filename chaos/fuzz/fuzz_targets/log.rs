//! What the log's files hold: records, the keys beside them, and the round mark.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvarter_cluster::fuzzing::log_record(bytes));
