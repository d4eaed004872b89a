//! Settings of a node: a TOML file, overridden by the environment, checked before anything starts.
//!
//! `config/sample.toml` documents every key; it is also the schema that names, types and defaults are checked against,
//! so a key that is not in the sample does not exist. `document` reads and merges, `limits` knows the ranges.

mod document;
mod limits;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvarter_actors::CityConfig;
use kvarter_cluster::{ClusterConfig, InitialNode, NodeId, TlsIdentity};
use serde::{Deserialize, Serialize};

/// Every key with its meaning and default, as TOML.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// Why settings are refused. The text names the key, where it stands, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: {reason}", file = file.display())]
    NotReadable { file: PathBuf, reason: std::io::Error },
    #[error("{place}: {reason}")]
    NotToml { place: String, reason: String },
    #[error("{place}: unknown key `{key}`{hint}")]
    UnknownKey { place: String, key: String, hint: String },
    #[error("{place}: `{key}` is {found}, expected {expected}")]
    WrongType { place: String, key: String, found: String, expected: &'static str },
    #[error("`{key}` is missing: set it in the file or with {variable}")]
    Missing { key: &'static str, variable: String },
    #[error("`{key}` is {value}, allowed is {allowed}")]
    OutOfRange { key: &'static str, value: String, allowed: String },
    #[error("settings do not fit: {0}")]
    Unfit(String),
}

/// Settings of a node, complete and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub id: u64,
    pub zone: String,
    pub data_dir: PathBuf,
    pub peer: Endpoint,
    pub api: Endpoint,
    pub admin: Admin,
    pub tls: TlsFiles,
    pub cluster: Cluster,
    pub retention: Retention,
    pub disk: Disk,
    pub city: City,
    pub telemetry: Telemetry,
    pub drill: Drill,
}

/// Where a port listens, and the `host:port` under which others reach it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub listen: SocketAddr,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub initial: Vec<Initial>,
    pub join: Vec<String>,
    pub shards: u32,
    pub replication_factor: usize,
    pub heartbeat_ms: u64,
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
    pub drain_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Initial {
    pub id: u64,
    pub peer_address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    pub bytes: u64,
    pub hours: u64,
    pub entries: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub free_min_percent: u8,
    pub ballast_bytes: u64,
    pub sync_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct City {
    pub linger_ms: u64,
    pub inbox_requests_max: usize,
    pub district_devices_max: usize,
    pub device_actors_max: usize,
    pub stream_age_max_hours: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Empty: nothing is sent.
    pub otlp_endpoint: String,
    pub trace_ratio: f64,
    pub log_format: LogFormat,
    pub log_filter: String,
}

/// Faults that the program makes itself, where a drill wants them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// 0: none.
    pub poison_number: f64,
}

impl Drill {
    /// The number that code for devices panics on.
    pub(crate) fn poison(&self) -> Option<f64> {
        (self.poison_number != 0.0).then_some(self.poison_number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Human,
    Json,
}

impl Config {
    /// Reads `file` and lets `environment` (name and value of variables) override it.
    pub fn load(file: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|reason| ConfigError::NotReadable { file: file.to_owned(), reason })?;
        let mut config = Self::from_text(&text, &file.display().to_string(), environment)?;
        config.resolve_paths(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads `text`; `source` names it in errors.
    pub fn from_text(
        text: &str,
        source: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let merged = document::merge(text, source, environment)?;
        limits::check(&merged)?;
        let config = merged.try_into::<Self>().map_err(|error| ConfigError::Unfit(error.message().to_owned()))?;
        limits::check_together(&config)?;
        Ok(config)
    }

    fn resolve_paths(&mut self, base: &Path) {
        for path in [&mut self.data_dir, &mut self.tls.ca, &mut self.tls.certificate, &mut self.tls.key] {
            *path = base.join(&*path);
        }
    }

    pub fn node(&self) -> NodeId {
        NodeId(self.id)
    }

    /// Longest time that each stage of a drain takes.
    pub(crate) fn drain_stage_max(&self) -> Duration {
        Duration::from_millis(self.cluster.drain_ms)
    }

    pub(crate) fn for_cluster(&self, tls: TlsIdentity) -> ClusterConfig {
        let initial = self.cluster.initial.iter();
        ClusterConfig {
            node: self.node(),
            zone: self.zone.clone(),
            data_dir: self.data_dir.clone(),
            peer_listen: self.peer.listen,
            peer_address: self.peer.address.clone(),
            api_address: self.api.address.clone(),
            initial: initial
                .map(|one| InitialNode { id: NodeId(one.id), peer_address: one.peer_address.clone() })
                .collect(),
            join: self.cluster.join.clone(),
            shards: self.cluster.shards,
            replication_factor: self.cluster.replication_factor,
            tls,
            heartbeat: Duration::from_millis(self.cluster.heartbeat_ms),
            election_timeout_min: Duration::from_millis(self.cluster.election_timeout_min_ms),
            election_timeout_max: Duration::from_millis(self.cluster.election_timeout_max_ms),
            retention_bytes: self.retention.bytes,
            retention_entries: self.retention.entries,
            retention_age: Duration::from_secs(self.retention.hours * 3600),
            disk_free_min_percent: self.disk.free_min_percent,
            ballast_bytes: self.disk.ballast_bytes,
            sync_timeout: Duration::from_millis(self.disk.sync_timeout_ms),
        }
    }

    pub(crate) fn for_city(&self) -> CityConfig {
        CityConfig {
            linger_max: Duration::from_millis(self.city.linger_ms),
            district_devices_max: self.city.district_devices_max,
            device_actors_max: self.city.device_actors_max,
            inbox_requests_max: self.city.inbox_requests_max,
            stream_age_max: Duration::from_secs(self.city.stream_age_max_hours * 3600),
            poison: self.drill.poison(),
        }
    }
}

#[cfg(test)]
mod tests;
