//! Tells callers where they can call next time without a detour: the `kvarter-leader` metadata of answers.

use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Request, Response};
use kvarter_actors::{City, Forwarding};
use tonic::codegen::{BoxFuture, Service};
use tower_layer::Layer;

use crate::api::route;

const LEADER: HeaderName = HeaderName::from_static(kvarter_api::LEADER_KEY);

/// Wraps services: an answer that another node gave, good or bad, names that node's public address.
#[derive(Clone)]
pub(crate) struct LeaderHintLayer {
    city: City,
}

impl LeaderHintLayer {
    pub(crate) fn new(city: City) -> Self {
        Self { city }
    }
}

impl<S> Layer<S> for LeaderHintLayer {
    type Service = HintingService<S>;

    fn layer(&self, inner: S) -> HintingService<S> {
        HintingService { inner, city: self.city.clone() }
    }
}

/// A service whose answers name the leader that gave them.
#[derive(Clone)]
pub(crate) struct HintingService<S> {
    inner: S,
    city: City,
}

impl<S, B, R> Service<Request<B>> for HintingService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let forwarding = Forwarding::default();
        request.extensions_mut().insert(forwarding.clone());
        let answer = self.inner.call(request);
        let city = self.city.clone();
        Box::pin(async move {
            let mut response = answer.await?;
            let address = forwarding.leader().and_then(|leader| route::api_address(&city, leader));
            if let Some(Ok(address)) = address.map(HeaderValue::try_from) {
                response.headers_mut().insert(LEADER, address);
            }
            Ok(response)
        })
    }
}
