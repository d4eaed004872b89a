//! Deliveries on their way to the nodes of their sessions: one message at a time to each node, the next gathers
//! meanwhile. Pure.

use std::collections::{BTreeMap, VecDeque};

use kvarter_cluster::NodeId;

use crate::device::Subject;
use crate::{DeviceNumber, message};

/// Deliveries in one message.
const MESSAGE_DELIVERIES_MAX: usize = 512;

/// A delivery and whom to tell how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parcel {
    pub(crate) device: DeviceNumber,
    pub(crate) subject: Subject,
    pub(crate) delivery: message::Delivery,
}

#[derive(Default)]
struct Lane {
    /// Bounded by what device actors have to deliver: each subject waits once, and goes as it was pushed last.
    waiting: BTreeMap<(DeviceNumber, Subject), Parcel>,
    order: VecDeque<(DeviceNumber, Subject)>,
    is_sending: bool,
}

impl Lane {
    fn push(&mut self, parcel: Parcel) {
        let key = (parcel.device, parcel.subject.clone());
        if self.waiting.insert(key.clone(), parcel).is_none() {
            self.order.push_back(key);
        }
    }

    fn take(&mut self) -> Vec<Parcel> {
        let count = self.order.len().min(MESSAGE_DELIVERIES_MAX);
        self.order.drain(..count).filter_map(|key| self.waiting.remove(&key)).collect()
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    lanes: BTreeMap<NodeId, Lane>,
}

impl Outbox {
    pub(crate) fn push(&mut self, node: NodeId, parcel: Parcel) {
        self.lanes.entry(node).or_default().push(parcel);
    }

    /// What may go now, by node; say [`Outbox::sent`] for each when its outcome is known.
    pub(crate) fn take(&mut self) -> Vec<(NodeId, Vec<Parcel>)> {
        let ready = self.lanes.iter_mut().filter(|(_, lane)| !lane.is_sending && !lane.waiting.is_empty());
        ready
            .map(|(node, lane)| {
                lane.is_sending = true;
                (*node, lane.take())
            })
            .collect()
    }

    pub(crate) fn sent(&mut self, node: NodeId) {
        if let Some(lane) = self.lanes.get_mut(&node) {
            lane.is_sending = false;
            if lane.waiting.is_empty() {
                self.lanes.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(device: u32) -> Parcel {
        Parcel { device: DeviceNumber(device), subject: Subject::Desired, delivery: message::Delivery::default() }
    }

    fn devices(parcels: &[Parcel]) -> Vec<u32> {
        parcels.iter().map(|parcel| parcel.device.0).collect()
    }

    #[test]
    fn one_message_at_a_time_goes_to_each_node_in_order() {
        let mut outbox = Outbox::default();
        outbox.push(NodeId(1), parcel(1));
        outbox.push(NodeId(2), parcel(2));
        let taken: Vec<_> = outbox.take().iter().map(|(node, parcels)| (node.0, devices(parcels))).collect();
        assert_eq!(taken, [(1, vec![1]), (2, vec![2])]);
        outbox.push(NodeId(1), parcel(3));
        outbox.push(NodeId(1), parcel(4));
        assert!(outbox.take().is_empty(), "both nodes have a message on its way");
        outbox.sent(NodeId(1));
        let taken: Vec<_> = outbox.take().iter().map(|(node, parcels)| (node.0, devices(parcels))).collect();
        assert_eq!(taken, [(1, vec![3, 4])]);
    }

    #[test]
    fn what_is_tried_again_while_it_waits_goes_once_as_it_was_tried_last() {
        let mut outbox = Outbox::default();
        outbox.push(NodeId(1), parcel(1));
        outbox.take();
        let newest = Parcel { delivery: message::Delivery { device: 7, ..message::Delivery::default() }, ..parcel(1) };
        outbox.push(NodeId(1), parcel(1));
        outbox.push(NodeId(1), parcel(2));
        outbox.push(NodeId(1), newest.clone());
        outbox.sent(NodeId(1));
        assert_eq!(outbox.take(), [(NodeId(1), vec![newest, parcel(2)])]);
    }

    #[test]
    fn a_long_queue_leaves_in_several_messages() {
        let mut outbox = Outbox::default();
        (0..1_000).for_each(|device| outbox.push(NodeId(1), parcel(device)));
        let mut seen = Vec::new();
        while let Some((node, parcels)) = outbox.take().pop() {
            assert!(parcels.len() <= MESSAGE_DELIVERIES_MAX);
            seen.extend(devices(&parcels));
            outbox.sent(node);
        }
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }
}
