//! Streams of gateways: to whom they belong, where they are, what was accepted. Spread over pages by a hash of their id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvarter_cluster::{DamagedBytes, NodeId, PageContent};
use xxhash_rust::xxh3::xxh3_64;

use crate::state::page;
use crate::{ConnectionNumber, DeviceNumber, StreamId, message};

const PAGES: u64 = 64;

/// The page of a stream.
pub(crate) fn page_of(stream: StreamId) -> u32 {
    (xxh3_64(&stream.0.to_be_bytes()) % PAGES) as u32
}

/// A stream as a shard knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Subject of the client's certificate; only it may resume.
    pub client: Arc<str>,
    /// The node that holds the connection, or held it last.
    pub node: NodeId,
    /// The connection that opened or closed the stream last.
    pub connection: ConnectionNumber,
    /// When the stream's id was issued, microseconds since 1970.
    pub issued_us: i64,
    /// Whether a connection is there.
    pub is_open: bool,
    /// When the stream was opened, moved or closed last.
    pub state_us: i64,
    /// When the stream was opened or sent readings last.
    pub used_us: i64,
    pub totals: message::StreamTotals,
    /// Devices whose session this stream is. Derived from the twins.
    pub devices: Arc<BTreeSet<DeviceNumber>>,
}

#[derive(Clone, Default)]
pub(crate) struct StreamsPage {
    pub(crate) streams: BTreeMap<StreamId, Stream>,
}

impl StreamsPage {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let decoded: message::StreamsPage = page::decode(bytes)?;
        page::check_format(decoded.format)?;
        let streams = decoded.streams.into_iter().map(from_record).collect::<Result<_, _>>()?;
        Ok(Self { streams })
    }
}

impl PageContent for StreamsPage {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let streams = self.streams.iter().map(|(id, stream)| to_record(*id, stream)).collect();
        page::append(&message::StreamsPage { format: page::FORMAT, streams }, buffer);
    }
}

fn to_record(id: StreamId, stream: &Stream) -> message::StreamRecord {
    message::StreamRecord {
        stream: id.to_message(),
        client: stream.client.to_string(),
        node: stream.node.0,
        issued_us: stream.issued_us,
        open: stream.is_open,
        state_us: stream.state_us,
        used_us: stream.used_us,
        sequence: stream.totals.sequence,
        stored: stream.totals.stored,
        late: stream.totals.late,
        duplicate: stream.totals.duplicate,
        rejected: stream.totals.rejected,
        connection: stream.connection.0,
    }
}

fn from_record(record: message::StreamRecord) -> Result<(StreamId, Stream), DamagedBytes> {
    let id = StreamId::from_message(&record.stream).ok_or_else(|| page::damaged("stream id without 16 bytes"))?;
    let stream = Stream {
        client: record.client.into(),
        node: NodeId(record.node),
        connection: ConnectionNumber(record.connection),
        issued_us: record.issued_us,
        is_open: record.open,
        state_us: record.state_us,
        used_us: record.used_us,
        totals: message::StreamTotals {
            sequence: record.sequence,
            stored: record.stored,
            late: record.late,
            duplicate: record.duplicate,
            rejected: record.rejected,
        },
        devices: Arc::default(),
    };
    Ok((id, stream))
}
