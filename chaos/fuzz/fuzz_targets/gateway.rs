//! What a gateway sends on its stream, and what it is told while shards answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvarter_node::fuzz_gateway(bytes));
