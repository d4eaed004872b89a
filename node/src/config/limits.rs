//! What values settings may have, alone and together.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Config, ConfigError, document};

/// Least and greatest value of each number.
const RANGES: [(&str, i64, i64); 19] = [
    ("id", 1, 65_535),
    ("cluster.shards", 1, 1024),
    ("cluster.replication_factor", 1, 7),
    ("cluster.heartbeat_ms", 10, 10_000),
    ("cluster.election_timeout_min_ms", 50, 60_000),
    ("cluster.election_timeout_max_ms", 100, 120_000),
    ("cluster.drain_ms", 0, 600_000),
    ("retention.bytes", 64 << 20, 1 << 50),
    ("retention.hours", 1, 24 * 366),
    ("retention.entries", 10_000, 1_000_000_000),
    ("disk.free_min_percent", 0, 50),
    ("disk.ballast_bytes", 0, 1 << 40),
    ("disk.sync_timeout_ms", 2_000, 600_000),
    ("city.linger_ms", 0, 1_000),
    ("city.inbox_requests_max", 16, 1_000_000),
    ("city.district_devices_max", 1, 1_000_000),
    ("city.device_actors_max", 1, 10_000_000),
    ("city.stream_age_max_hours", 1, 24 * 366),
    ("telemetry.trace_ratio", 0, 1),
];

/// `host:port` texts.
const ADDRESSES: [&str; 2] = ["peer.address", "api.address"];
/// `ip:port` texts.
const SOCKETS: [&str; 3] = ["peer.listen", "api.listen", "admin.listen"];
/// Texts that say something.
const NOT_EMPTY: [&str; 5] = ["zone", "data_dir", "tls.ca", "tls.certificate", "tls.key"];

/// Checks each value of a complete document for itself.
pub(super) fn check(merged: &Table) -> Result<(), ConfigError> {
    for (key, least, greatest) in RANGES {
        let (is_within, value) = match document::at(merged, key) {
            Some(Value::Integer(value)) => ((least..=greatest).contains(value), value.to_string()),
            Some(Value::Float(value)) => ((least as f64..=greatest as f64).contains(value), value.to_string()),
            _ => (false, "no number".to_owned()),
        };
        if !is_within {
            return Err(ConfigError::OutOfRange { key, value, allowed: format!("{least} to {greatest}") });
        }
    }
    for key in ADDRESSES {
        check_text(merged, key, "host:port", is_address)?;
    }
    for key in SOCKETS {
        check_text(merged, key, "ip:port, e.g. 0.0.0.0:7400", |text| text.parse::<std::net::SocketAddr>().is_ok())?;
    }
    for key in NOT_EMPTY {
        check_text(merged, key, "a text that is not empty", |text| !text.is_empty())?;
    }
    check_text(merged, "telemetry.log_format", "\"human\" or \"json\"", |text| matches!(text, "human" | "json"))?;
    check_text(
        merged,
        "telemetry.otlp_endpoint",
        "empty, or http://host:port of a collector on a trusted network",
        |text| text.is_empty() || text.strip_prefix("http://").is_some_and(is_address),
    )?;
    check_text(merged, "telemetry.log_filter", "directives as in info,h2=warn", |text| {
        tracing_subscriber::EnvFilter::try_new(text).is_ok()
    })
}

/// Checks what values mean together.
pub(super) fn check_together(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    let unfit = |reason: String| Err(ConfigError::Unfit(reason));
    if cluster.election_timeout_min_ms < 2 * cluster.heartbeat_ms {
        return unfit(format!(
            "`cluster.election_timeout_min_ms` is {}, allowed is at least twice `cluster.heartbeat_ms` ({})",
            cluster.election_timeout_min_ms, cluster.heartbeat_ms
        ));
    }
    if cluster.election_timeout_max_ms <= cluster.election_timeout_min_ms {
        return unfit("`cluster.election_timeout_max_ms` must be above `cluster.election_timeout_min_ms`".to_owned());
    }
    let ids: BTreeSet<_> = cluster.initial.iter().map(|node| node.id).collect();
    if ids.len() != cluster.initial.len() {
        return unfit("`cluster.initial` names an id twice".to_owned());
    }
    if !ids.contains(&config.id) && cluster.join.is_empty() {
        return unfit(format!(
            "node {} is not in `cluster.initial`, so it has to join: name members in `cluster.join`, as host:port",
            config.id
        ));
    }
    if let Some(address) = cluster.join.iter().find(|address| !is_address(address)) {
        return unfit(format!("\"{address}\" in `cluster.join` must be host:port"));
    }
    if ids.contains(&config.id) && cluster.replication_factor > ids.len() {
        return unfit(format!(
            "`cluster.replication_factor` is {}, but `cluster.initial` has {} nodes",
            cluster.replication_factor,
            ids.len()
        ));
    }
    match cluster.initial.iter().find(|node| !is_address(&node.peer_address)) {
        Some(node) => unfit(format!("`peer_address` of node {} in `cluster.initial` must be host:port", node.id)),
        None => Ok(()),
    }
}

fn check_text(
    merged: &Table,
    key: &'static str,
    allowed: &str,
    is_allowed: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    let text = document::at(merged, key).and_then(Value::as_str).unwrap_or_default();
    if is_allowed(text) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { key, value: format!("\"{text}\""), allowed: allowed.to_owned() })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}
