//! Where deliveries arrive on the node that holds a stream: one bounded mailbox a stream, guarded by epoch and deadline.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvarter_cluster::{ShardId, Timestamp};
use tokio::sync::mpsc;

use crate::{Epoch, StreamId, message};

/// Deliveries that wait for a stream's connection; more are refused as *queue full* and come again later.
const MAILBOX_DELIVERIES_MAX: usize = 1024;

const WRITTEN: u32 = 1;
const NO_SUCH_STREAM: u32 = 2;
const QUEUE_FULL: u32 = 3;
const OLD_EPOCH: u32 = 4;
const PAST_DEADLINE: u32 = 5;

/// Deliveries for one stream, read by the gateway that holds it. Dropping it ends the stream's presence on this node.
#[derive(Debug)]
pub struct StreamMailbox {
    /// Ends when another mailbox is opened for the stream. Check the deadline again before writing to the connection.
    pub deliveries: mpsc::Receiver<StreamDelivery>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamDelivery {
    pub shard: ShardId,
    /// Epoch of the shard's leader; devices may keep the highest that they saw.
    pub epoch: u64,
    pub delivery: message::Delivery,
}

#[derive(Default)]
struct Guarded {
    streams: HashMap<StreamId, mpsc::Sender<StreamDelivery>>,
    /// The highest epoch seen of each shard.
    epochs: BTreeMap<ShardId, Epoch>,
}

/// The mailboxes of this node.
#[derive(Default)]
pub(crate) struct Mailboxes {
    guarded: Mutex<Guarded>,
}

impl Mailboxes {
    pub(crate) fn open(&self, stream: StreamId) -> StreamMailbox {
        let (sender, deliveries) = mpsc::channel(MAILBOX_DELIVERIES_MAX);
        let mut guarded = self.lock();
        guarded.streams.retain(|_, sender| !sender.is_closed());
        guarded.streams.insert(stream, sender);
        StreamMailbox { deliveries }
    }

    /// Puts deliveries into the mailboxes of their streams; outcomes as in `DeliveriesReply`.
    pub(crate) fn deliver(&self, deliveries: message::Deliveries, now: Timestamp) -> Vec<u32> {
        let (shard, epoch) = (ShardId(deliveries.shard), Epoch(deliveries.epoch));
        let mut guarded = self.lock();
        let highest = guarded.epochs.entry(shard).or_default();
        if epoch < *highest {
            return vec![OLD_EPOCH; deliveries.deliveries.len()];
        }
        *highest = epoch;
        let deliver = |delivery| guarded.deliver(StreamDelivery { shard, epoch: epoch.0, delivery }, now);
        deliveries.deliveries.into_iter().map(deliver).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        // Every change is one insertion or removal, so a panic elsewhere leaves nothing half done.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guarded {
    fn deliver(&self, delivery: StreamDelivery, now: Timestamp) -> u32 {
        let deadline_us = match &delivery.delivery.delivery {
            Some(message::delivery::Delivery::Command(command)) => command.deadline_us,
            Some(message::delivery::Delivery::Desired(_)) | None => i64::MAX,
        };
        if deadline_us <= now.0 {
            return PAST_DEADLINE;
        }
        let stream = StreamId::from_message(&delivery.delivery.stream);
        let Some(sender) = stream.and_then(|stream| self.streams.get(&stream)) else { return NO_SUCH_STREAM };
        match sender.try_send(delivery) {
            Ok(()) => WRITTEN,
            Err(mpsc::error::TrySendError::Full(_)) => QUEUE_FULL,
            Err(mpsc::error::TrySendError::Closed(_)) => NO_SUCH_STREAM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn deliveries(epoch: u64, stream: StreamId, deadlines_us: &[i64]) -> message::Deliveries {
        let command = |deadline_us| message::CommandDelivery { deadline_us, ..Default::default() };
        let delivery = |deadline_us: &i64| message::Delivery {
            stream: stream.to_message(),
            device: 1,
            delivery: Some(message::delivery::Delivery::Command(command(*deadline_us))),
        };
        message::Deliveries { shard: 3, epoch, deliveries: deadlines_us.iter().map(delivery).collect() }
    }

    #[test]
    fn a_delivery_reaches_its_stream() {
        let mailboxes = Mailboxes::default();
        let mut mailbox = mailboxes.open(StreamId(7));
        assert_eq!(mailboxes.deliver(deliveries(2, StreamId(7), &[2_000]), NOW), [WRITTEN]);
        let delivery = mailbox.deliveries.try_recv().unwrap();
        assert_eq!((delivery.shard, delivery.epoch), (ShardId(3), 2));
        assert_eq!(mailboxes.deliver(deliveries(2, StreamId(8), &[2_000]), NOW), [NO_SUCH_STREAM]);
    }

    #[test]
    fn a_deposed_leader_is_refused() {
        let mailboxes = Mailboxes::default();
        let _mailbox = mailboxes.open(StreamId(7));
        assert_eq!(mailboxes.deliver(deliveries(5, StreamId(7), &[2_000]), NOW), [WRITTEN]);
        assert_eq!(mailboxes.deliver(deliveries(4, StreamId(7), &[2_000]), NOW), [OLD_EPOCH]);
    }

    #[test]
    fn nothing_is_written_past_its_deadline() {
        let mailboxes = Mailboxes::default();
        let _mailbox = mailboxes.open(StreamId(7));
        assert_eq!(mailboxes.deliver(deliveries(1, StreamId(7), &[1_000, 1_001]), NOW), [PAST_DEADLINE, WRITTEN]);
    }

    #[test]
    fn a_full_mailbox_says_so_and_a_dropped_one_is_gone() {
        let mailboxes = Mailboxes::default();
        let mailbox = mailboxes.open(StreamId(7));
        let outcomes = mailboxes.deliver(deliveries(1, StreamId(7), &[2_000; MAILBOX_DELIVERIES_MAX + 1]), NOW);
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == WRITTEN).count(), MAILBOX_DELIVERIES_MAX);
        assert_eq!(outcomes.last(), Some(&QUEUE_FULL));
        drop(mailbox);
        assert_eq!(mailboxes.deliver(deliveries(1, StreamId(7), &[2_000]), NOW), [NO_SUCH_STREAM]);
    }
}
