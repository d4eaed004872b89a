//! Doors for the fuzzers in `chaos/fuzz` to decoders that are not public. There under `--cfg fuzzing` alone.

use bytes::Bytes;
use prost::Message as _;

use crate::log::{fuzz_mark, fuzz_record};
use crate::meta::{self, MetaState};
use crate::peer::life::Life;
use crate::peer::{network, server};
use crate::{PageId, StateMachine as _, raft, wire};

/// `bytes` as each message that a peer sends or answers, and as the process that it says it is; what decodes is converted to what
/// Raft takes, and back.
pub fn peer_message(bytes: &[u8]) {
    if let Ok(request) = wire::AppendRequest::decode(bytes)
        && let Ok(request) = server::append_from_wire(request)
    {
        let sent = network::append_to_wire(&request, None);
        server::append_from_wire(sent).expect("what this node sends decodes");
    }
    if let Ok(response) = wire::AppendResponse::decode(bytes) {
        drop(network::append_result(response));
    }
    if let Ok(request) = wire::VoteRequest::decode(bytes)
        && let Ok(vote) = raft::vote_from_wire(request.vote)
    {
        assert_eq!(raft::vote_from_wire(Some(raft::vote_to_wire(&vote))), Ok(vote));
    }
    if let Ok(header) = wire::SnapshotHeader::decode(bytes) {
        drop(raft::stored_membership_from_wire(header.membership));
    }
    if let Ok(identity) = wire::Identity::decode(bytes) {
        drop(meta::node_from_wire(identity));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(life) = text.parse::<Life>()
    {
        assert_eq!(life.to_string().parse(), Ok(life));
    }
    if let Ok(change) = MetaState::decode(&Bytes::copy_from_slice(bytes)) {
        let mut state = MetaState::default();
        state.apply(crate::LogIndex(1), &change);
        restores(&state);
    }
}

/// `bytes` as a page of the meta group.
pub fn meta_page(bytes: &[u8]) {
    let page = (PageId { table: 0, number: 0 }, Bytes::copy_from_slice(bytes));
    if let Ok(state) = MetaState::restore(&mut std::iter::once(page)) {
        restores(&state);
    }
}

/// `bytes` as a record of the log, as what is kept beside the records, and as the round mark.
pub fn log_record(bytes: &[u8]) {
    fuzz_record(bytes);
    fuzz_mark(bytes);
    if let Ok(id) = wire::LogId::decode(bytes) {
        let id = raft::log_id_from_wire(id);
        assert_eq!(raft::log_id_from_wire(raft::log_id_to_wire(&id)), id);
    }
    if let Ok(header) = wire::CheckpointHeader::decode(bytes) {
        drop(raft::stored_membership_from_wire(header.membership));
    }
}

fn restores(state: &MetaState) {
    let mut pages = state.pages().into_iter().map(|page| {
        let mut content = Vec::new();
        page.encode(&mut content);
        (page.id, content.into())
    });
    MetaState::restore(&mut pages).expect("what was encoded decodes");
}
