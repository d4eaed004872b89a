//! TwinService: devices and their twins.

mod batch;
pub(crate) mod list;
mod register;

use kvarter_actors::City;
use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_api::v1::twin_service_server::TwinService;
use kvarter_api::v1::{
    BatchGetTwinsRequest, BatchGetTwinsResponse, BatchRegisterDevicesRequest, BatchRegisterDevicesResponse,
    GetTwinRequest, GetTwinResponse, ListTwinsRequest, ListTwinsResponse, PatchDesiredRequest, PatchDesiredResponse,
    Position, RetireDeviceRequest, RetireDeviceResponse,
};
use tonic::{Request, Response, Status};

use crate::api::conversion::{self, twin};
use crate::api::{ask, caller, name, route, status};

/// The service.
pub(crate) struct Twins {
    city: City,
}

impl Twins {
    pub(crate) fn new(city: City) -> Self {
        Self { city }
    }
}

#[tonic::async_trait]
impl TwinService for Twins {
    async fn batch_register_devices(
        &self,
        request: Request<BatchRegisterDevicesRequest>,
    ) -> Result<Response<BatchRegisterDevicesResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_BATCH);
        let registrations = register::register(&self.city, request.into_inner().devices, context).await?;
        Ok(Response::new(BatchRegisterDevicesResponse { registrations }))
    }

    async fn get_twin(&self, request: Request<GetTwinRequest>) -> Result<Response<GetTwinResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let GetTwinRequest { name: public, consistency } = request.into_inner();
        let device = name::parse_device(&public, "name")?;
        let shard = route::shard_of(&self.city, device.district()).await?;
        let consistency = Some(twin::consistency_from_public(consistency));
        let read =
            shard_request::Request::ReadTwin(message::ReadTwin { name: device.as_str().to_owned(), consistency });
        let Reply::TwinRead(message::TwinRead { twin: Some(found), index, age_ms }) =
            ask::ask(&self.city, shard, read, context).await?
        else {
            return Err(ask::unexpected(shard));
        };
        let catalog = self.city.catalog().borrow().clone();
        // The whole entry at `index` is in the twin.
        let position = Some(Position { shard: shard.0, index, ordinal: conversion::ORDINAL_LAST });
        Ok(Response::new(GetTwinResponse { twin: Some(twin::to_public(found, &catalog)), position, age_ms }))
    }

    async fn batch_get_twins(
        &self,
        request: Request<BatchGetTwinsRequest>,
    ) -> Result<Response<BatchGetTwinsResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_BATCH);
        batch::get(&self.city, request.into_inner(), context).await.map(Response::new)
    }

    async fn list_twins(&self, request: Request<ListTwinsRequest>) -> Result<Response<ListTwinsResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_BATCH);
        list::list(&self.city, request.into_inner(), context).await.map(Response::new)
    }

    async fn patch_desired(
        &self,
        request: Request<PatchDesiredRequest>,
    ) -> Result<Response<PatchDesiredResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let PatchDesiredRequest { name: public, set, clear, if_version } = request.into_inner();
        let device = name::parse_device(&public, "name")?;
        if set.len() + clear.len() > twin::PATCH_ATTRIBUTES_MAX {
            let problem = format!("more than {} attributes", twin::PATCH_ATTRIBUTES_MAX);
            return Err(status::invalid("set", problem));
        }
        let set = twin::desired_from_public(set, "set")?;
        let shard = route::shard_of(&self.city, device.district()).await?;
        let patch = message::PatchDesired { name: device.as_str().to_owned(), set, clear, if_version };
        match ask::ask(&self.city, shard, shard_request::Request::PatchDesired(patch), context).await? {
            Reply::DesiredPatched(message::DesiredPatched { version, position }) => {
                let position = position.map(|at| conversion::position(shard, at));
                Ok(Response::new(PatchDesiredResponse { version, position }))
            }
            _ => Err(ask::unexpected(shard)),
        }
    }

    async fn retire_device(
        &self,
        request: Request<RetireDeviceRequest>,
    ) -> Result<Response<RetireDeviceResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let device = name::parse_device(&request.into_inner().name, "name")?;
        let shard = route::shard_of(&self.city, device.district()).await?;
        let retire = message::RetireDevice { name: device.as_str().to_owned() };
        match ask::ask(&self.city, shard, shard_request::Request::RetireDevice(retire), context).await? {
            Reply::Done(message::Done { position }) => {
                let position = position.map(|at| conversion::position(shard, at));
                Ok(Response::new(RetireDeviceResponse { position }))
            }
            _ => Err(ask::unexpected(shard)),
        }
    }
}
