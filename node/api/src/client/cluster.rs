//! The cluster itself.

use super::Client;
use super::call::Repeat;
use crate::ANSWER_BYTES_MAX;
use crate::error::ApiError;
use crate::v1::cluster_admin_client::ClusterAdminClient;
use crate::v1::{
    ClusterStatus, DrainNodeRequest, GetClusterStatusRequest, ListLocalReplicasRequest, ListLocalReplicasResponse,
    RemoveNodeRequest,
};

impl Client {
    /// The cluster as the answering node sees it.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, ApiError> {
        self.call(Repeat::Read, GetClusterStatusRequest {}, |channel, request| async move {
            ClusterAdminClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES_MAX)
                .get_cluster_status(request)
                .await
        })
        .await
    }

    /// Removes a node, for ever; its replicas move first. Returns once that is decided.
    pub async fn remove_node(&self, node: u64) -> Result<(), ApiError> {
        let request = RemoveNodeRequest { node };
        let removed = self.call(Repeat::IdempotentWrite, request, |channel, request| async move {
            ClusterAdminClient::new(channel).remove_node(request).await
        });
        removed.await.map(|_removed| ())
    }

    /// Has a node lead nothing, or lead again. Returns once the node knows.
    pub async fn drain_node(&self, node: u64, undo: bool) -> Result<(), ApiError> {
        let request = DrainNodeRequest { node, undo };
        let drained = self.call(Repeat::IdempotentWrite, request, |channel, request| async move {
            ClusterAdminClient::new(channel).drain_node(request).await
        });
        drained.await.map(|_drained| ())
    }

    /// The replicas on the answering node; choose it with [`Client::only`]. `with_hash` reads the whole state.
    pub async fn local_replicas(&self, with_hash: bool) -> Result<ListLocalReplicasResponse, ApiError> {
        self.call(Repeat::Read, ListLocalReplicasRequest { with_hash }, |channel, request| async move {
            ClusterAdminClient::new(channel).list_local_replicas(request).await
        })
        .await
    }
}
