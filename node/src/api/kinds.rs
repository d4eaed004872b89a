//! KindService: the catalog of device kinds.

use kvarter_actors::City;
use kvarter_api::v1::kind_service_server::KindService;
use kvarter_api::v1::{
    DeleteKindRequest, DeleteKindResponse, GetKindRequest, Kind, ListKindsRequest, ListKindsResponse, PutKindRequest,
};
use tonic::{Request, Response, Status};

use crate::api::conversion::kind;
use crate::api::{caller, status};

/// The service.
pub(crate) struct Kinds {
    city: City,
}

impl Kinds {
    pub(crate) fn new(city: City) -> Self {
        Self { city }
    }
}

#[tonic::async_trait]
impl KindService for Kinds {
    async fn get_kind(&self, request: Request<GetKindRequest>) -> Result<Response<Kind>, Status> {
        let name = request.into_inner().name;
        let catalog = self.city.catalog().borrow().clone();
        let found = catalog.current(&name).ok_or_else(|| status::not_found(format!("there is no kind `{name}`")))?;
        Ok(Response::new(kind::to_public(found)))
    }

    async fn list_kinds(&self, _: Request<ListKindsRequest>) -> Result<Response<ListKindsResponse>, Status> {
        let catalog = self.city.catalog().borrow().clone();
        let kinds = catalog.kinds().filter(|kind| !kind.is_retired).map(|found| kind::to_public(found)).collect();
        Ok(Response::new(ListKindsResponse { kinds }))
    }

    async fn put_kind(&self, request: Request<PutKindRequest>) -> Result<Response<Kind>, Status> {
        let asked = request.into_inner().kind.ok_or_else(|| status::invalid("kind", "absent"))?;
        let stored = self.city.put_kind(kind::from_public(asked)?).await;
        let stored = stored.map_err(|failure| status::of_failure(&failure))?;
        Ok(Response::new(kind::to_public(&stored)))
    }

    async fn delete_kind(&self, request: Request<DeleteKindRequest>) -> Result<Response<DeleteKindResponse>, Status> {
        let context = caller::context(&request, caller::DEADLINE_BATCH);
        let removed = self.city.delete_kind(&request.into_inner().name, context).await;
        removed.map_err(|failure| status::of_failure(&failure))?;
        Ok(Response::new(DeleteKindResponse {}))
    }
}
