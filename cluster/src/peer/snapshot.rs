//! A snapshot on the wire: its header, then its pages, one part each. Sent by a leader to a follower that lacks purged
//! entries (`peer/network.rs`), or fetched from any replica by one that lost its checkpoint ([`fetch`]).

use std::time::Duration;

use tonic::{Status, Streaming};

use crate::peer::Peers;
use crate::ports::storage::off_threads;
use crate::raft::{self, SnapshotMeta, Types, Vote};
use crate::{DamagedBytes, LogIndex, NodeId, PageId, ShardId, StateMachine, Storage, wire};

/// A snapshot's time grows with its size: beyond this it is given up and tried again.
pub(crate) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(300);

pub(crate) type Snapshot<S> = openraft::alias::SnapshotOf<Types, S>;

/// The parts of `snapshot`, encoded as they are taken: one page is in memory at a time, beside what the connection buffers.
pub(crate) fn parts<S: StateMachine>(
    shard: ShardId,
    vote: Option<&Vote>,
    snapshot: &Snapshot<S>,
) -> impl Iterator<Item = wire::SnapshotPart> + Send + use<S> {
    let pages = snapshot.snapshot.pages();
    let header = wire::SnapshotHeader {
        shard: shard.0,
        vote: vote.map(raft::vote_to_wire),
        last: snapshot.meta.last_log_id.as_ref().map(raft::log_id_to_wire),
        membership: Some(raft::stored_membership_to_wire(&snapshot.meta.last_membership)),
        pages: pages.len() as u64,
    };
    let first = wire::SnapshotPart { part: Some(wire::snapshot_part::Part::Header(header)) };
    let rest = pages.into_iter().map(|page| {
        let mut content = Vec::new();
        page.encode(&mut content);
        let page =
            wire::SnapshotPage { table: u32::from(page.id.table), number: page.id.number, content: content.into() };
        wire::SnapshotPart { part: Some(wire::snapshot_part::Part::Page(page)) }
    });
    std::iter::once(first).chain(rest)
}

/// The header that `parts` begin with.
pub(crate) async fn read_header(parts: &mut Streaming<wire::SnapshotPart>) -> Result<wire::SnapshotHeader, Status> {
    match parts.message().await? {
        Some(wire::SnapshotPart { part: Some(wire::snapshot_part::Part::Header(header)) }) => Ok(header),
        Some(_) | None => Err(Status::invalid_argument("a snapshot begins with its header")),
    }
}

/// The snapshot whose pages follow `header`.
pub(crate) async fn read_pages<S: StateMachine>(
    storage: &dyn Storage,
    header: wire::SnapshotHeader,
    mut parts: Streaming<wire::SnapshotPart>,
) -> Result<Snapshot<S>, Status> {
    let malformed = |error: DamagedBytes| Status::invalid_argument(error.to_string());
    let last_membership = raft::stored_membership_from_wire(header.membership).map_err(malformed)?;
    let mut pages = Vec::new();
    while let Some(part) = parts.message().await? {
        let Some(wire::snapshot_part::Part::Page(page)) = part.part else {
            return Err(Status::invalid_argument("a snapshot has one header"));
        };
        let table = u8::try_from(page.table)
            .map_err(|_large| Status::invalid_argument(format!("table {} is not known", page.table)))?;
        pages.push((PageId { table, number: page.number }, page.content));
    }
    if pages.len() as u64 != header.pages {
        return Err(Status::invalid_argument(format!("{} of {} pages came", pages.len(), header.pages)));
    }
    // Decoding a large state takes long, and Raft's threads are few.
    let state = off_threads(storage, move || S::restore(&mut pages.into_iter())).await;
    let state = state.map_err(|error| Status::aborted(error.to_string()))?.map_err(malformed)?;
    let meta = SnapshotMeta { last_log_id: header.last.map(raft::log_id_from_wire), last_membership };
    Ok(Snapshot::<S> { meta, snapshot: state })
}

/// Fetches from `node` its state of `shard`, if that shows `applied_min`.
pub(crate) async fn fetch<S: StateMachine>(
    peers: &Peers,
    storage: &dyn Storage,
    node: NodeId,
    shard: ShardId,
    applied_min: LogIndex,
) -> Result<Snapshot<S>, Status> {
    let fetched = async {
        let mut client = peers.client(node)?;
        let request = wire::FetchSnapshotRequest { shard: shard.0, applied_min: applied_min.0 };
        let mut request = peers.request(node, Some(shard), request);
        request.set_timeout(SNAPSHOT_TIMEOUT);
        let mut parts = client.fetch_snapshot(request).await?.into_inner();
        let header = read_header(&mut parts).await?;
        read_pages(storage, header, parts).await
    };
    let late = || Status::deadline_exceeded(format!("{node} did not send its state of {shard} in time"));
    tokio::time::timeout(SNAPSHOT_TIMEOUT, fetched).await.map_err(|_elapsed| late())?
}
