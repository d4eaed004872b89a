//! The catalog of kinds.

use super::Client;
use super::call::Repeat;
use crate::ANSWER_BYTES_MAX;
use crate::error::ApiError;
use crate::v1::kind_service_client::KindServiceClient;
use crate::v1::{DeleteKindRequest, GetKindRequest, Kind, ListKindsRequest, PutKindRequest};

impl Client {
    /// Reads the kind called `name`.
    pub async fn kind(&self, name: &str) -> Result<Kind, ApiError> {
        let request = GetKindRequest { name: name.to_owned() };
        self.call(Repeat::Read, request, |channel, request| async move {
            KindServiceClient::new(channel).get_kind(request).await
        })
        .await
    }

    /// Reads all kinds, ordered by name.
    pub async fn kinds(&self) -> Result<Vec<Kind>, ApiError> {
        let response = self
            .call(Repeat::Read, ListKindsRequest {}, |channel, request| async move {
                KindServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list_kinds(request).await
            })
            .await?;
        Ok(response.kinds)
    }

    /// Adds a kind or extends one. Safe to repeat, and repeated by itself.
    pub async fn put_kind(&self, kind: Kind) -> Result<Kind, ApiError> {
        let request = PutKindRequest { kind: Some(kind) };
        self.call(Repeat::IdempotentWrite, request, |channel, request| async move {
            KindServiceClient::new(channel).put_kind(request).await
        })
        .await
    }

    /// Removes the kind called `name`, which no device is of. Safe to repeat, and repeated by itself.
    pub async fn delete_kind(&self, name: &str) -> Result<(), ApiError> {
        let request = DeleteKindRequest { name: name.to_owned() };
        let _nothing = self
            .call(Repeat::IdempotentWrite, request, |channel, request| async move {
                KindServiceClient::new(channel).delete_kind(request).await
            })
            .await?;
        Ok(())
    }
}
