//! Calls are recorded once, with the status that they ended with.

use std::convert::Infallible;

use http_body_util::BodyExt;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::*;

/// Answers every call with the same response.
struct Canned(fn() -> Response<Body>);

impl Service<Request<()>> for Canned {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok((self.0)()))
    }
}

/// The lines of the metrics page that count calls, after one call whose body is read to its end or dropped.
async fn counted(answer: fn() -> Response<Body>, is_read: bool) -> String {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().expect("built");
    let meters = SdkMeterProvider::builder().with_reader(reader).build();
    let mut service = RpcLayer::new(&meters.meter("test")).layer(Canned(answer));
    let request = Request::builder().uri("/kvarter.v1.TwinService/GetTwin").body(()).expect("a request");
    let body = service.call(request).await.expect("infallible").into_body();
    if is_read {
        drop(body.collect().await);
    } else {
        drop(body);
    }
    let page = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    page.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count")).collect()
}

fn with_trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("10"));
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"message"))
        .with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::new(Body::new(body))
}

#[tokio::test]
async fn a_failure_in_the_headers_is_recorded_once() {
    let line = counted(|| Status::not_found("no such twin").into_http(), true).await;
    assert!(line.contains("rpc_method=\"kvarter.v1.TwinService/GetTwin\""), "{line}");
    assert!(line.contains("rpc_response_status_code=\"NOT_FOUND\"") && line.ends_with(" 1"), "{line}");
}

#[tokio::test]
async fn a_status_in_the_trailers_is_recorded_at_the_end() {
    let line = counted(with_trailers, true).await;
    assert!(line.contains("rpc_response_status_code=\"ABORTED\"") && line.ends_with(" 1"), "{line}");
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_is_recorded_as_cancelled() {
    let line = counted(with_trailers, false).await;
    assert!(line.contains("rpc_response_status_code=\"CANCELLED\"") && line.ends_with(" 1"), "{line}");
}

#[tokio::test]
async fn methods_that_do_not_exist_share_one_label() {
    let line = counted(|| Status::unimplemented("").into_http(), true).await;
    assert!(line.contains("rpc_method=\"_OTHER\""), "{line}");
}
