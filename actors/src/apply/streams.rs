//! Facts about streams and the sessions that they carry.

use std::sync::Arc;

use kvarter_cluster::{LogIndex, NodeId};

use crate::state::commands::Moment;
use crate::state::{Stream, streams};
use crate::{ConnectionNumber, DeviceNumber, ShardState, StreamId, message};

impl ShardState {
    pub(super) fn apply_stream_opened(&mut self, moment: Moment, fact: &message::StreamOpened) {
        let Some(id) = StreamId::from_message(&fact.stream) else { return };
        let page = self.streams.page_mut(streams::page_of(id), moment.index);
        let stream = page.streams.entry(id).or_insert_with(|| Stream {
            client: fact.client.as_str().into(),
            node: NodeId(fact.node),
            connection: ConnectionNumber(fact.connection),
            issued_us: fact.issued_us,
            is_open: false,
            state_us: moment.time_us,
            used_us: moment.time_us,
            totals: message::StreamTotals::default(),
            devices: Arc::default(),
        });
        if !stream.is_open || stream.node != NodeId(fact.node) {
            stream.state_us = moment.time_us;
        }
        stream.is_open = true;
        stream.node = NodeId(fact.node);
        stream.connection = ConnectionNumber(fact.connection);
        stream.used_us = moment.time_us;
    }

    pub(super) fn apply_sessions_opened(&mut self, moment: Moment, fact: &message::SessionsOpened) {
        let Some(id) = StreamId::from_message(&fact.stream).filter(|id| self.stream(*id).is_some()) else { return };
        for number in fact.device.iter().copied().map(DeviceNumber) {
            let twin = self.twin_mut(number, moment.index).filter(|twin| !twin.identity.is_retired);
            let Some(twin) = twin else { continue };
            let before = twin.session.replace(id);
            twin.session_us = moment.time_us;
            if let Some(before) = before.filter(|before| *before != id) {
                self.detach(before, number, moment.index);
            }
            self.attach(id, number, moment.index);
            self.raise_version(number, moment.index);
        }
    }

    pub(super) fn apply_stream_closed(&mut self, moment: Moment, fact: &message::StreamClosed) {
        let Some(stream) = self.stream_mut(&fact.stream, moment.index) else { return };
        let connection = ConnectionNumber(fact.connection);
        let is_counted = connection != ConnectionNumber::UNCOUNTED;
        if stream.is_open && (is_counted || stream.node == NodeId(fact.node)) {
            stream.is_open = false;
            stream.state_us = moment.time_us;
        }
        if is_counted {
            stream.connection = connection;
        }
    }

    pub(super) fn apply_stream_expired(&mut self, moment: Moment, fact: &message::StreamExpired) {
        let Some(id) = StreamId::from_message(&fact.stream).filter(|id| self.stream(*id).is_some()) else { return };
        let Some(stream) = self.streams.page_mut(streams::page_of(id), moment.index).streams.remove(&id) else {
            return;
        };
        let header = self.header_mut(moment.index);
        header.streams_expired_us = header.streams_expired_us.max(stream.issued_us);
        let lost_us = if stream.is_open { moment.time_us } else { stream.state_us };
        for number in stream.devices.iter() {
            if let Some(twin) = self.twin_mut(*number, moment.index).filter(|twin| twin.session == Some(id)) {
                twin.session = None;
                twin.session_us = twin.session_us.max(lost_us);
            }
        }
    }

    /// Notes in the derived set of `stream` that it speaks for `device`.
    pub(crate) fn attach(&mut self, stream: StreamId, device: DeviceNumber, index: LogIndex) {
        if self.stream(stream).is_some_and(|stream| !stream.devices.contains(&device)) {
            let page = self.streams.page_mut(streams::page_of(stream), index);
            if let Some(stream) = page.streams.get_mut(&stream) {
                Arc::make_mut(&mut stream.devices).insert(device);
            }
        }
    }

    pub(super) fn detach(&mut self, stream: StreamId, device: DeviceNumber, index: LogIndex) {
        if self.stream(stream).is_some_and(|stream| stream.devices.contains(&device)) {
            let page = self.streams.page_mut(streams::page_of(stream), index);
            if let Some(stream) = page.streams.get_mut(&stream) {
                Arc::make_mut(&mut stream.devices).remove(&device);
            }
        }
    }

    fn stream_mut(&mut self, id: &[u8], index: LogIndex) -> Option<&mut Stream> {
        let id = StreamId::from_message(id).filter(|id| self.stream(*id).is_some())?;
        self.streams.page_mut(streams::page_of(id), index).streams.get_mut(&id)
    }
}
