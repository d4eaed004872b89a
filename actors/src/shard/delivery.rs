//! Carries deliveries to the node that holds the stream: into its mailboxes here, or over the wire.

use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{Cluster, NodeId, ShardId};
use prost::Message;

use crate::city::Mailboxes;
use crate::device::{Delivered, Subject};
use crate::shard::outbox::Parcel;
use crate::{DeviceNumber, Epoch, ShardState, message};

/// A node that does not answer by then is tried again by the device's actor.
const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// How one delivery ended.
pub(crate) struct Outcome {
    pub(crate) device: DeviceNumber,
    pub(crate) subject: Subject,
    pub(crate) delivered: Delivered,
}

#[derive(Clone)]
pub(crate) struct Courier {
    pub(crate) shard: ShardId,
    pub(crate) cluster: Arc<Cluster<ShardState>>,
    pub(crate) mailboxes: Arc<Mailboxes>,
}

impl Courier {
    /// Delivers `parcels` at `node` in the name of `epoch`; one outcome for each.
    pub(crate) async fn carry(&self, node: NodeId, epoch: Epoch, parcels: Vec<Parcel>) -> Vec<Outcome> {
        let mut deliveries = message::Deliveries { shard: self.shard.0, epoch: epoch.0, deliveries: Vec::new() };
        let mut addressees = Vec::with_capacity(parcels.len());
        for Parcel { device, subject, delivery } in parcels {
            deliveries.deliveries.push(delivery);
            addressees.push((device, subject));
        }
        let outcomes = if node == self.cluster.node() {
            self.mailboxes.deliver(deliveries, self.cluster.ports().clock.now())
        } else {
            self.call(node, deliveries).await
        };
        // A node that answers for fewer than were sent did not take the rest.
        let outcomes = outcomes.into_iter().map(outcome_from).chain(std::iter::repeat(Delivered::NotWritten));
        addressees
            .into_iter()
            .zip(outcomes)
            .map(|((device, subject), delivered)| Outcome { device, subject, delivered })
            .collect()
    }

    async fn call(&self, node: NodeId, deliveries: message::Deliveries) -> Vec<u32> {
        let request = message::PeerRequest { request: Some(message::peer_request::Request::Deliveries(deliveries)) };
        let answer = self.cluster.call(node, request.encode_to_vec().into(), CALL_DEADLINE).await;
        let reply = answer.ok().and_then(|bytes| message::PeerReply::decode(bytes).ok()).and_then(|reply| reply.reply);
        match reply {
            Some(message::peer_reply::Reply::Deliveries(reply)) => reply.outcomes,
            _ => {
                tracing::debug!(shard = %self.shard, %node, "deliveries were not answered");
                Vec::new()
            }
        }
    }
}

/// What `DeliveriesReply.outcomes` says.
fn outcome_from(outcome: u32) -> Delivered {
    match outcome {
        1 => Delivered::Written,
        4 | 5 => Delivered::Refused,
        _ => Delivered::NotWritten,
    }
}
