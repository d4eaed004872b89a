//! Whether a call was answered by another node than the one that was called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvarter_cluster::NodeId;

/// The node that answered a call in this one's stead as a shard's leader, once it has. Clones share it; of a call to several
/// shards it is any of their leaders.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// 0: none, as ids begin with 1.
    node: Arc<AtomicU64>,
}

impl Forwarding {
    /// `None`: this node answered, or nobody has yet.
    pub fn leader(&self) -> Option<NodeId> {
        match self.node.load(Ordering::Relaxed) {
            0 => None,
            node => Some(NodeId(node)),
        }
    }

    pub(super) fn answered_by(&self, node: NodeId) {
        self.node.store(node.0, Ordering::Relaxed);
    }
}
