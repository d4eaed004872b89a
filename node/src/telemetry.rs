//! Logs, traces and metrics of a node, through OpenTelemetry.
//!
//! Metrics are always on the Prometheus page; with an OTLP endpoint they and the traces are sent there too. `log` is what
//! is written to standard error, `rpc` measures and traces the calls of the API. What is measured of the cluster and the
//! city is in [`crate::metrics`].

mod log;
mod page;
mod rpc;

use std::time::Duration;

use kvarter_cluster::NodeId;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use prometheus::Registry;

pub(crate) use page::MetricsPage;
pub(crate) use rpc::RpcLayer;

use crate::config;

/// A collector that does not take an export within this time gets the next one.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is not sent within this time at the end is lost.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
const SCOPE: &str = "kvarter";

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the exporter for {endpoint} can not be built: {reason}")]
    Exporter { endpoint: String, reason: opentelemetry_otlp::ExporterBuildError },
    #[error("the metrics page can not be built: {reason}")]
    Page { reason: opentelemetry_sdk::error::OTelSdkError },
}

/// The providers of a node. The process's log goes the way of the first that was started.
pub(crate) struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Needs a tokio runtime when an OTLP endpoint is set; one that can not be reached does not hold up the node.
    pub(crate) fn start(config: &config::Telemetry, node: NodeId) -> Result<Self, TelemetryError> {
        let telemetry = Self::without_log(config, node)?;
        log::install(config, telemetry.tracer());
        Ok(telemetry)
    }

    fn without_log(config: &config::Telemetry, node: NodeId) -> Result<Self, TelemetryError> {
        let endpoint = Some(config.otlp_endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());
        let resource = Resource::builder()
            .with_service_name("kvarter")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_string()))
            .build();
        let registry = Registry::new();
        let page = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // There is one scope: as a label it would only be noise.
            .scope_info_enabled(false)
            .build()
            .map_err(|reason| TelemetryError::Page { reason })?;
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(page);
        let mut tracers = None;
        if let Some(endpoint) = endpoint {
            let failed = |reason| TelemetryError::Exporter { endpoint: endpoint.to_owned(), reason };
            let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
            meters = meters.with_periodic_exporter(exporter.build().map_err(failed)?);
            let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
            let sampler = Sampler::TraceIdRatioBased(config.trace_ratio);
            tracers = Some(
                SdkTracerProvider::builder()
                    .with_resource(resource)
                    .with_sampler(Sampler::ParentBased(Box::new(sampler)))
                    .with_batch_exporter(exporter.build().map_err(failed)?)
                    .build(),
            );
        }
        Ok(Self { registry, meters: meters.build(), tracers })
    }

    fn tracer(&self) -> Option<SdkTracer> {
        self.tracers.as_ref().map(|tracers| tracers.tracer(SCOPE))
    }

    pub(crate) fn meter(&self) -> Meter {
        self.meters.meter_with_scope(InstrumentationScope::builder(SCOPE).build())
    }

    /// Measures and traces the calls of a server.
    pub(crate) fn rpc_layer(&self) -> RpcLayer {
        RpcLayer::new(&self.meter())
    }

    /// The metrics, as a function that outlives this value.
    pub(crate) fn page(&self) -> MetricsPage {
        MetricsPage::new(self.registry.clone())
    }

    /// Sends what has not been sent, for [`FLUSH_TIMEOUT`] at most.
    pub(crate) async fn shutdown(self) {
        // The exporters block until they are done.
        let flush = tokio::task::spawn_blocking(move || {
            let traces = self.tracers.map_or(Ok(()), |tracers| tracers.shutdown_with_timeout(FLUSH_TIMEOUT));
            traces.and(self.meters.shutdown_with_timeout(FLUSH_TIMEOUT))
        });
        match tokio::time::timeout(FLUSH_TIMEOUT, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces and metrics were not sent"),
            Ok(Err(error)) => tracing::warn!(%error, "the last traces and metrics were not sent"),
            Err(_) => tracing::warn!("the last traces and metrics were not sent in time"),
        }
    }
}

#[cfg(test)]
mod tests;
