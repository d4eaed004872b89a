//! Measures and traces each call of the API: `rpc.server.call.duration` and a span, by OpenTelemetry's conventions.
//!
//! A call ends with its response's trailers, so the duration of a stream is its life.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::{Code, Status};
use tower_layer::Layer;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Seconds; the convention's, and one below them for calls that stay on the node.
const BOUNDARIES: [f64; 15] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What the convention calls a method that the server does not know.
const UNKNOWN_METHOD: &str = "_OTHER";

/// Wraps a server's services.
#[derive(Clone)]
pub(crate) struct RpcLayer {
    duration: Histogram<f64>,
}

impl RpcLayer {
    pub(super) fn new(meter: &Meter) -> Self {
        let duration = meter
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Time from a call's arrival to its end; of a stream, its life")
            .with_boundaries(BOUNDARIES.to_vec())
            .build();
        Self { duration }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = MeasuredService<S>;

    fn layer(&self, inner: S) -> MeasuredService<S> {
        MeasuredService { inner, duration: self.duration.clone() }
    }
}

/// A service whose calls are measured.
#[derive(Clone)]
pub(crate) struct MeasuredService<S> {
    inner: S,
    duration: Histogram<f64>,
}

impl<S, B> Service<Request<B>> for MeasuredService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let span = tracing::info_span!("rpc", otel.name = %method, otel.kind = "server", rpc.system.name = "grpc");
        join_trace(&span, request.headers_mut());
        let measurement =
            Measurement { duration: self.duration.clone(), method, began: Instant::now(), span: span.clone() };
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let response = answer.await?;
            // A call that fails before its first message has its status in the headers and no trailers.
            let code = Status::from_header_map(response.headers()).map(|status| status.code());
            Ok(response.map(|body| {
                let mut body = MeasuredBody { inner: body, measurement: Some(measurement) };
                if let Some(code) = code {
                    body.end(code);
                }
                Body::new(body)
            }))
        })
    }
}

/// Makes `span` a child of the caller's, and tells the handler by the same header that the span is the parent now.
fn join_trace(span: &Span, headers: &mut HeaderMap) {
    let propagator = TraceContextPropagator::new();
    let parent = propagator.extract(&Headers(headers));
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_err() {
        tracing::debug!("spans are not exported");
    }
    let context = span.context();
    if context.span().span_context().is_sampled() {
        propagator.inject_context(&context, &mut HeadersMut(headers));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// A call that has begun; recorded once.
struct Measurement {
    duration: Histogram<f64>,
    method: String,
    began: Instant,
    span: Span,
}

impl Measurement {
    fn record(self, code: Code) {
        self.span.set_attribute("rpc.response.status_code", code_name(code));
        // Callers choose the names of methods that do not exist: as labels they would be without bound.
        let method = if code == Code::Unimplemented { UNKNOWN_METHOD.to_owned() } else { self.method };
        let attributes = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method),
            KeyValue::new("rpc.response.status_code", code_name(code)),
        ];
        self.duration.record(self.began.elapsed().as_secs_f64(), &attributes);
    }
}

/// The body of a response; records its call at the trailers, or when the caller goes away before them.
struct MeasuredBody {
    inner: Body,
    measurement: Option<Measurement>,
}

impl MeasuredBody {
    fn end(&mut self, code: Code) {
        if let Some(measurement) = self.measurement.take() {
            measurement.record(code);
        }
    }
}

impl HttpBody for MeasuredBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
                }
            }
            Poll::Ready(Some(Err(status))) => self.end(status.code()),
            Poll::Ready(None) => self.end(Code::Ok),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for MeasuredBody {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The name that gRPC gives to a status code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
