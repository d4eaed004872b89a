//! The log on standard error, and the way of spans to the tracer.

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, Telemetry};

/// Sets the log of the process up. A second node in one process, as tests have them, writes to the first one's.
pub(super) fn install(config: &Telemetry, tracer: Option<SdkTracer>) {
    if subscriber(config, tracer).try_init().is_err() {
        tracing::debug!("the process has a log already");
    }
}

pub(super) fn subscriber(config: &Telemetry, tracer: Option<SdkTracer>) -> impl Subscriber + Send + Sync + use<> {
    let filter = EnvFilter::new(&config.log_filter);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log_format {
        LogFormat::Human => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // Our own spans only: those of the exporter's connection would be exported in turn, without end.
    let ours = Targets::new().with_target("kvarter", LevelFilter::INFO);
    let spans = tracer.map(|tracer| tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours));
    Registry::default().with(lines).with(spans)
}
