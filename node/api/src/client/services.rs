//! The city's services.

use super::Client;
use super::call::Repeat;
use crate::ANSWER_BYTES_MAX;
use crate::error::ApiError;
use crate::name::{DistrictName, ServiceName};
use crate::v1::service_control_client::ServiceControlClient;
use crate::v1::{ListServicesRequest, Service, ServiceMode, SetServiceModeRequest};

impl Client {
    /// Reads the services of a district, or of all, ordered by name.
    pub async fn services(&self, district: Option<&DistrictName>) -> Result<Vec<Service>, ApiError> {
        let parent = district.map_or_else(|| "districts/-".to_owned(), ToString::to_string);
        let response = self
            .call(Repeat::Read, ListServicesRequest { parent }, |channel, request| async move {
                ServiceControlClient::new(channel)
                    .max_decoding_message_size(ANSWER_BYTES_MAX)
                    .list_services(request)
                    .await
            })
            .await?;
        Ok(response.services)
    }

    /// Sets the mode of a service. Repeated by itself only while certainly not applied: a later repetition might undo what
    /// another caller set.
    pub async fn set_service_mode(&self, name: &ServiceName, mode: ServiceMode) -> Result<Service, ApiError> {
        let request = SetServiceModeRequest { name: name.to_string(), mode: mode.into() };
        self.call_for(Some(name.district()), Repeat::Write, request, |channel, request| async move {
            ServiceControlClient::new(channel).set_service_mode(request).await
        })
        .await
    }
}
