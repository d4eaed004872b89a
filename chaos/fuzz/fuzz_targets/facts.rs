//! What the log holds for a shard: applying an entry that decodes can not fail, and leaves a state that restores.
#![no_main]

use bytes::Bytes;
use kvarter_actors::ShardState;
use kvarter_cluster::{LogIndex, StateMachine};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(facts) = ShardState::decode(&Bytes::copy_from_slice(bytes)) else { return };
    let mut state = ShardState::default();
    // Twice: what is there already must not trouble it either.
    state.apply(LogIndex(1), &facts);
    state.apply(LogIndex(2), &facts);
    let mut pages = state.pages().into_iter().map(|page| {
        let mut content = Vec::new();
        page.encode(&mut content);
        (page.id, content.into())
    });
    ShardState::restore(&mut pages).expect("what was encoded decodes");
});
