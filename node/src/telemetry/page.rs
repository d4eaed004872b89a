//! The Prometheus page: our metrics, and those that the log store counts by itself.

use prometheus::{Registry, TextEncoder};

/// The Prometheus page of a node.
#[derive(Clone)]
pub(crate) struct MetricsPage {
    registry: Registry,
}

impl MetricsPage {
    pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

    pub(super) fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// The metrics as they are now, in Prometheus' text format.
    pub(crate) fn render(&self) -> Result<String, PageError> {
        let mut page = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        // The log store counts into the process-wide registry of an older Prometheus crate. Of that a collector gets nothing; what
        // a sync takes is measured by ourselves, too (`kvarter.log.sync.duration`).
        prometheus_of_log::TextEncoder::new().encode_utf8(&prometheus_of_log::gather(), &mut page)?;
        Ok(page)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    #[error(transparent)]
    Own(#[from] prometheus::Error),
    #[error("log store: {0}")]
    LogStore(#[from] prometheus_of_log::Error),
}
