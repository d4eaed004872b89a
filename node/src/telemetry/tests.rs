//! What is measured and traced arrives: on the page, and at a collector.

use std::time::Duration;

use kvarter_cluster::NodeId;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower_layer::Layer;

use super::*;

fn config(otlp_endpoint: String) -> config::Telemetry {
    let log_filter = "off".to_owned();
    config::Telemetry { otlp_endpoint, trace_ratio: 0.0, log_format: config::LogFormat::Human, log_filter }
}

#[test]
fn instruments_appear_on_the_page_with_the_node() {
    let telemetry = Telemetry::without_log(&config(String::new()), NodeId(7)).expect("started");
    telemetry.meter().u64_counter("kvarter.test.things").build().add(3, &[KeyValue::new("outcome", "stored")]);
    let page = telemetry.page().render().expect("rendered");
    assert!(page.contains("kvarter_test_things_total{outcome=\"stored\""), "{page}");
    assert!(page.contains("service_instance_id=\"node-7\""), "{page}");
}

/// Takes traces as a collector does.
struct Collector(mpsc::Sender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        for span in spans {
            self.0.send(span).await.map_err(|gone| tonic::Status::unavailable(gone.to_string()))?;
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_traced_as_a_child_of_its_caller() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let endpoint = format!("http://{}", incoming.local_addr().expect("an address"));
    let (spans_tx, mut spans) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    let collector = Server::builder().add_service(TraceServiceServer::new(Collector(spans_tx)));
    tasks.spawn(collector.serve_with_incoming(incoming));

    let telemetry = Telemetry::without_log(&config(endpoint.clone()), NodeId(1)).expect("started");
    let subscriber = log::subscriber(&config(endpoint), telemetry.tracer());
    let guard = tracing::subscriber::set_default(subscriber);
    let (seen_tx, mut seen) = mpsc::channel(1);
    let mut service = telemetry.rpc_layer().layer(Telling(seen_tx));
    let request = http::Request::builder()
        .uri("/kvarter.v1.TwinService/GetTwin")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body(())
        .expect("a request");
    drop(service.call(request).await.expect("answered"));
    drop(guard);
    telemetry.shutdown().await;

    let span = tokio::time::timeout(Duration::from_secs(10), spans.recv()).await.expect("in time").expect("a span");
    assert_eq!(span.name, "kvarter.v1.TwinService/GetTwin");
    assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
    let handed_on = seen.recv().await.expect("called");
    assert_eq!(handed_on, format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
}

/// Takes metrics as a collector does.
struct MetricsCollector(mpsc::Sender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for MetricsCollector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).await.map_err(|gone| tonic::Status::unavailable(gone.to_string()))?;
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_to_the_collector_with_their_node_units_and_buckets() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let endpoint = format!("http://{}", incoming.local_addr().expect("an address"));
    let (exports_tx, mut exports) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    let collector = Server::builder().add_service(MetricsServiceServer::new(MetricsCollector(exports_tx)));
    tasks.spawn(collector.serve_with_incoming(incoming));

    let telemetry = Telemetry::without_log(&config(endpoint), NodeId(7)).expect("started");
    let meter = telemetry.meter();
    meter.u64_counter("kvarter.test.things").build().add(3, &[KeyValue::new("outcome", "stored")]);
    meter.f64_histogram("kvarter.test.time").with_unit("s").with_boundaries(vec![1.0, 2.0]).build().record(1.5, &[]);
    // What was not sent yet is sent at the end.
    telemetry.shutdown().await;

    let export =
        tokio::time::timeout(Duration::from_secs(10), exports.recv()).await.expect("in time").expect("an export");
    let [resource] = export.resource_metrics.as_slice() else { panic!("{export:?}") };
    let attributes = &resource.resource.as_ref().expect("a resource").attributes;
    let instance = attributes.iter().find(|attribute| attribute.key == "service.instance.id");
    assert!(format!("{instance:?}").contains("node-7"), "{instance:?}");
    let metrics: Vec<_> = resource.scope_metrics.iter().flat_map(|scope| &scope.metrics).collect();
    let named = |name: &str| *metrics.iter().find(|metric| metric.name == name).expect("it was sent");
    let Some(metric::Data::Sum(sum)) = &named("kvarter.test.things").data else { panic!("{metrics:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(3)));
    assert_eq!(sum.data_points[0].attributes[0].key, "outcome");
    let time = named("kvarter.test.time");
    let Some(metric::Data::Histogram(histogram)) = &time.data else { panic!("{time:?}") };
    assert_eq!((time.unit.as_str(), &histogram.data_points[0].bucket_counts), ("s", &vec![0, 1, 0]));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A service that tells the trace context it was called with.
struct Telling(mpsc::Sender<String>);

impl Service<http::Request<()>> for Telling {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<()>) -> Self::Future {
        let traceparent = request.headers()["traceparent"].to_str().expect("text").to_owned();
        self.0.try_send(traceparent).expect("room for one");
        std::future::ready(Ok(tonic::Status::ok("").into_http()))
    }
}
