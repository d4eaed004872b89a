//! What a peer sends: every message of the peers' protocol, and its conversion to what Raft takes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvarter_cluster::fuzzing::peer_message(bytes));
