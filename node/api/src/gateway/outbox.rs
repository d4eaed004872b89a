//! Events on their way to the client of the stream: a queue in front of a bounded channel, so that waiting for a slow reader
//! and listening to the node can go on together.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;

use tokio::sync::mpsc;

use super::event::GatewayEvent;

/// While so many wait, the connection is not read; one message adds two events at most, so the queue stays near it.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct EventOutbox {
    waiting: VecDeque<GatewayEvent>,
    reader: mpsc::Sender<GatewayEvent>,
}

impl EventOutbox {
    pub(super) fn new(reader: mpsc::Sender<GatewayEvent>) -> Self {
        Self { waiting: VecDeque::new(), reader }
    }

    /// Adds an event; without a reader it is dropped.
    pub(super) fn push(&mut self, event: GatewayEvent) {
        if !self.reader.is_closed() {
            self.waiting.push_back(event);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Hands what waits to the reader, as far as it has room; waits until there is some. Cancel safe.
    pub(super) async fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(self.reader.max_capacity());
            let Ok(places) = self.reader.reserve_many(count).await else {
                self.waiting.clear();
                return;
            };
            for (place, event) in places.zip(self.waiting.drain(..count)) {
                place.send(event);
            }
        }
    }

    /// Runs `work` to its end while the reader gets what waits.
    pub(super) async fn flush_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.flush(), if !self.is_empty() => {}
            }
        }
    }
}
