//! Devices and their twins.

use std::time::Duration;

use tonic::transport::Channel;

use super::Client;
use super::call::Repeat;
use crate::ANSWER_BYTES_MAX;
use crate::error::ApiError;
use crate::name::{DeviceName, DistrictName, district_of};
use crate::v1::twin_service_client::TwinServiceClient;
use crate::v1::{
    BatchGetTwinsRequest, BatchRegisterDevicesRequest, Device, DeviceRegistration, GetTwinRequest, GetTwinResponse,
    ListTwinsRequest, ListTwinsResponse, PatchDesiredRequest, PatchDesiredResponse, ReadConsistency,
    RetireDeviceRequest, RetireDeviceResponse, Twin, TwinFilter,
};

/// Devices in one request.
const DEVICES_MAX: usize = 1_000;

/// Twins in one page.
const PAGE_TWINS: u32 = 500;

/// Which twins to list.
#[derive(Clone, Debug, Default)]
pub struct TwinSelection {
    /// `None`: all districts.
    pub district: Option<DistrictName>,
    /// Name of a kind; `None`: all.
    pub kind: Option<String>,
    /// What they must be like; the default lets all through.
    pub filter: TwinFilter,
    /// Zero: linearizable. Otherwise any replica answers whose state is at most this old; whole milliseconds.
    pub staleness_max: Duration,
}

/// The pages of a list of twins, fetched one by one.
#[derive(Debug)]
pub struct TwinPages {
    client: Client,
    request: ListTwinsRequest,
    is_complete: bool,
}

impl Client {
    /// Registers devices, 1,000 at a time, and returns their outcomes in order. Safe to repeat, and repeated by itself.
    ///
    /// When it fails, the devices of earlier requests are registered.
    pub async fn register(&self, devices: Vec<Device>) -> Result<Vec<DeviceRegistration>, ApiError> {
        let mut registrations = Vec::with_capacity(devices.len());
        for devices in devices.chunks(DEVICES_MAX) {
            let request = BatchRegisterDevicesRequest { devices: devices.to_vec() };
            let response = self
                .call(Repeat::IdempotentWrite, request, |channel, request| async move {
                    twin_service(channel).batch_register_devices(request).await
                })
                .await?;
            registrations.extend(response.registrations);
        }
        Ok(registrations)
    }

    /// Reads a twin. `staleness_max` zero: linearizable; otherwise any replica answers whose state is at most this old
    /// (whole milliseconds), and the answer tells its age.
    pub async fn twin(&self, name: &DeviceName, staleness_max: Duration) -> Result<GetTwinResponse, ApiError> {
        let request = GetTwinRequest { name: name.to_string(), consistency: Some(read_consistency(staleness_max)) };
        // Any replica may do for a read that allows staleness.
        let district = staleness_max.is_zero().then(|| name.district());
        self.call_for(district, Repeat::Read, request, |channel, request| async move {
            twin_service(channel).get_twin(request).await
        })
        .await
    }

    /// Reads the twins of several devices, 1,000 at a time, in the order of their names; those that do not exist are left out.
    pub async fn twins_named(&self, names: &[DeviceName], staleness_max: Duration) -> Result<Vec<Twin>, ApiError> {
        let mut twins = Vec::with_capacity(names.len());
        for names in names.chunks(DEVICES_MAX) {
            let names = names.iter().map(ToString::to_string).collect();
            let request = BatchGetTwinsRequest { names, consistency: Some(read_consistency(staleness_max)) };
            let response = self.call(Repeat::Read, request, |channel, request| async move {
                twin_service(channel).batch_get_twins(request).await
            });
            twins.extend(response.await?.twins);
        }
        Ok(twins)
    }

    /// Lists twins, page by page.
    pub fn twins(&self, selection: TwinSelection) -> TwinPages {
        let request = ListTwinsRequest {
            parent: selection.district.map_or_else(|| "districts/-".to_owned(), String::from),
            page_size: PAGE_TWINS,
            page_token: String::new(),
            kind: selection.kind.unwrap_or_default(),
            consistency: Some(read_consistency(selection.staleness_max)),
            filter: (selection.filter != TwinFilter::default()).then_some(selection.filter),
        };
        TwinPages { client: self.clone(), request, is_complete: false }
    }

    /// Reads one page of a list, for callers that keep its token. [`Client::twins`] goes through all of them.
    pub async fn twin_page(&self, request: ListTwinsRequest) -> Result<ListTwinsResponse, ApiError> {
        let parent = request.parent.clone();
        // Any replica may do for a read that allows staleness.
        let is_linearizable = request.consistency.is_none_or(|consistency| consistency.staleness_max_ms == 0);
        let district = district_of(&parent).filter(|_| is_linearizable);
        self.call_for(district, Repeat::Read, request, |channel, request| async move {
            twin_service(channel).list_twins(request).await
        })
        .await
    }

    /// Changes desired attributes. Repeated by itself only while certainly not applied: a later repetition might undo what
    /// another caller set.
    pub async fn patch_desired(&self, request: PatchDesiredRequest) -> Result<PatchDesiredResponse, ApiError> {
        let name = request.name.clone();
        self.call_for(district_of(&name), Repeat::Write, request, |channel, request| async move {
            twin_service(channel).patch_desired(request).await
        })
        .await
    }

    /// Retires a device. Repeated by itself only while certainly not applied: a later repetition might retire a device that
    /// was registered anew.
    pub async fn retire(&self, name: &DeviceName) -> Result<RetireDeviceResponse, ApiError> {
        let request = RetireDeviceRequest { name: name.to_string() };
        self.call_for(Some(name.district()), Repeat::Write, request, |channel, request| async move {
            twin_service(channel).retire_device(request).await
        })
        .await
    }
}

impl TwinPages {
    /// The next twins, or `None` after the last. After an error the same page is asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<Twin>>, ApiError> {
        if self.is_complete {
            return Ok(None);
        }
        let page = self.client.twin_page(self.request.clone()).await?;
        self.is_complete = page.next_page_token.is_empty();
        self.request.page_token = page.next_page_token;
        Ok(Some(page.twins))
    }

    /// All twins that are left.
    pub async fn collect(mut self) -> Result<Vec<Twin>, ApiError> {
        let mut twins = Vec::new();
        while let Some(page) = self.next().await? {
            twins.extend(page);
        }
        Ok(twins)
    }
}

fn twin_service(channel: Channel) -> TwinServiceClient<Channel> {
    TwinServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn read_consistency(staleness_max: Duration) -> ReadConsistency {
    ReadConsistency { staleness_max_ms: u32::try_from(staleness_max.as_millis()).unwrap_or(u32::MAX) }
}
