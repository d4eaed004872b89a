//! Where a call goes first: to the node that led the district's shard last, or else to any.

use std::sync::{Arc, PoisonError};

use tonic::metadata::MetadataMap;

use super::Client;
use crate::LEADER_KEY;
use crate::endpoints::EndpointId;
use crate::error::ApiError;

impl Client {
    /// The node to call now for `district`; `None`: the call concerns no single one.
    pub(super) fn choose(&self, district: Option<&str>) -> EndpointId {
        let routed = district.filter(|_| self.config().routes_to_leaders).and_then(|district| {
            let id = self.routes().find(district)?;
            self.endpoints().is_fit(id).then_some(id)
        });
        routed.unwrap_or_else(|| self.endpoints().pick())
    }

    /// Learns from an answer about `district` that `id` gave or passed on.
    pub(super) fn learn(&self, district: Option<&str>, id: EndpointId, metadata: &MetadataMap) {
        let Some(district) = district.filter(|_| self.config().routes_to_leaders) else { return };
        let leader = metadata.get(LEADER_KEY).map(|address| address.to_str().unwrap_or_default());
        let route = match leader {
            None => Some(id),
            Some(address) => self.named(address),
        };
        if let Some(route) = route {
            self.routes().remember(district, route);
        }
    }

    /// The node at `address`, which another named as leader, if calls may go there now. One that is new may later.
    pub(crate) fn fit_leader(&self, address: &str) -> Option<EndpointId> {
        let leader = self.named(address).filter(|_| self.config().routes_to_leaders)?;
        self.endpoints().is_fit(leader).then_some(leader)
    }

    /// The way to `district` led to a node that could not answer.
    pub(super) fn unlearn(&self, district: Option<&str>, error: &ApiError) {
        if let Some(district) = district.filter(|_| error.is_about_node()) {
            self.routes().forget(district);
        }
    }

    /// The node at `address`. One that is new is not called before it was reached: nothing waits for an address that means
    /// nothing here.
    fn named(&self, address: &str) -> Option<EndpointId> {
        let named = self.endpoints().named(address, self.config())?;
        if named.is_to_probe {
            let shared = Arc::downgrade(&self.shared);
            let mut probes = self.shared.probes.lock().unwrap_or_else(PoisonError::into_inner);
            while probes.try_join_next().is_some() {}
            probes.spawn(async move {
                if let Some(shared) = shared.upgrade() {
                    let reached = shared.endpoints.dial(named.id).await;
                    shared.endpoints.probed(named.id, reached.is_ok());
                }
            });
        }
        Some(named.id)
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, crate::routes::Routes> {
        self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
