//! What a checkpoint or a snapshot holds: the pages of a shard, and those of the meta group.
//!
//! An input is a table number, then one page. Pages that restore must encode to pages that restore to the same.
#![no_main]

use bytes::Bytes;
use kvarter_actors::ShardState;
use kvarter_cluster::{PageId, StateMachine, fuzzing};

fn pages(state: &ShardState) -> Vec<(PageId, Bytes)> {
    let encoded = state.pages().into_iter().map(|page| {
        let mut bytes = Vec::new();
        page.encode(&mut bytes);
        (page.id, bytes.into())
    });
    encoded.collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzzing::meta_page(bytes);
    let Some((&table, page)) = bytes.split_first() else { return };
    let page = (PageId { table, number: 0 }, Bytes::copy_from_slice(page));
    let Ok(state) = ShardState::restore(&mut std::iter::once(page)) else { return };
    let once = pages(&state);
    let again = ShardState::restore(&mut once.clone().into_iter()).expect("what was encoded decodes");
    assert!(once == pages(&again), "a state changes when it is stored and restored");
});
