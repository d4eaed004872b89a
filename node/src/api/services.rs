//! ServiceControl: the city's services, their figures and modes.

use futures::future::try_join_all;
use kvarter_actors::message::{self, shard_reply::Reply, shard_request};
use kvarter_actors::{CallContext, City, DistrictName};
use kvarter_api::v1::service_control_server::ServiceControl;
use kvarter_api::v1::{ListServicesRequest, ListServicesResponse, Service, SetServiceModeRequest};
use kvarter_cluster::ShardId;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::api::conversion::service;
use crate::api::{ask, caller, name, route, status};

/// The service.
pub(crate) struct Services {
    city: City,
}

impl Services {
    pub(crate) fn new(city: City) -> Self {
        Self { city }
    }

    /// The services of `district`, or of every district of `shard`.
    async fn read(
        &self,
        shard: ShardId,
        district: Option<&DistrictName>,
        context: CallContext,
    ) -> Result<Vec<Service>, Status> {
        let district = district.map_or_else(String::new, |district| district.as_str().to_owned());
        let request = shard_request::Request::ReadServices(message::ReadServices { district });
        match ask::ask(&self.city, shard, request, context).await? {
            Reply::ServicesRead(read) => {
                Ok(read.services.into_iter().map(|found| service::to_public(found, shard)).collect())
            }
            _ => Err(ask::unexpected(shard)),
        }
    }
}

/// What became of a service whose mode was set, and which then could not be read.
fn unread(service: &str, status: &Status) -> Status {
    status::unknown(format!("the mode of `{service}` was set, what it is now is not known: {}", status.message()))
}

#[tonic::async_trait]
impl ServiceControl for Services {
    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_BATCH);
        let services = match name::parse_parent(&request.get_ref().parent, "parent")? {
            Some(district) => {
                let shard = route::shard_of(&self.city, district.as_str()).await?;
                self.read(shard, Some(&district), context).await?
            }
            None => {
                let reads = route::shards(&self.city).into_iter().map(|shard| self.read(shard, None, context.clone()));
                let mut services = try_join_all(reads).await?.concat();
                services.sort_by(|a, b| a.name.cmp(&b.name));
                services
            }
        };
        Ok(Response::new(ListServicesResponse { services }))
    }

    async fn set_service_mode(&self, request: Request<SetServiceModeRequest>) -> Result<Response<Service>, Status> {
        let context = caller::context(&request, caller::DEADLINE_DEFAULT);
        let until = Instant::now() + context.deadline;
        let SetServiceModeRequest { name: public, mode } = request.into_inner();
        let (district, inner) = name::parse_service(&public, "name")?;
        let mode = service::mode_from_public(mode, "mode")?.to_message();
        let shard = route::shard_of(&self.city, district.as_str()).await?;
        let set = shard_request::Request::SetServiceMode(message::SetServiceMode { service: inner, mode });
        match ask::ask(&self.city, shard, set, context.clone()).await? {
            Reply::Done(_) => {}
            _ => return Err(ask::unexpected(shard)),
        }
        // From here on the mode is set, whatever becomes of the answer.
        let left = CallContext { deadline: until.saturating_duration_since(Instant::now()), ..context };
        let services = self.read(shard, Some(&district), left).await.map_err(|status| unread(&public, &status))?;
        let found = services.into_iter().find(|service| service.name == public);
        found.map(Response::new).ok_or_else(|| unread(&public, &status::not_found("it is gone")))
    }
}
