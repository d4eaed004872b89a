//! Kvarter's public API: the protos of package `kvarter.v1` with the code generated from them, and a client.
//!
//! - [`v1`]: messages, clients and servers as they are on the wire; the comments of `proto/` are their documentation. Start there
//!   to see what can be asked, and with which errors it is answered ([`v1::ErrorReason`]).
//! - [`Client`]: calls with deadlines that go to the node that leads where it is known, go on over nodes that fail, repeat only
//!   what is safe to repeat, and fail as an [`ApiError`] that tells *not applied*, *perhaps applied* and *rejected* apart.
//! - [`GatewayStream`]: thousands of devices on one stream; readings are counted once over lost connections.
//! - [`CommandLedger`]: the device's half of a command's promise.
//! - [`FILE_DESCRIPTOR_SET`]: the protos for gRPC reflection.
//!
//! Not here: whatever a node does with a call.
//!
//! # Read a twin, speak for a device
//! ```no_run
//! use std::time::Duration;
//!
//! use kvarter_api::v1::{Attachment, Reading, reading};
//! use kvarter_api::{Client, ClientConfig, DeviceName, GatewayOptions, GatewayStream, TlsIdentity};
//!
//! # async fn example(now_us: i64) -> Result<(), Box<dyn std::error::Error>> {
//! let tls = TlsIdentity {
//!     ca_pem: std::fs::read("ca.pem")?,
//!     certificate_pem: std::fs::read("client.pem")?,
//!     key_pem: std::fs::read("client.key")?,
//!     domain: "localhost".to_owned(),
//! };
//! let endpoints = ["127.0.0.1:7001", "127.0.0.1:7002"].map(str::to_owned).to_vec();
//! let client = Client::connect(ClientConfig::new(endpoints, tls)).await?;
//!
//! let lamp = DeviceName::new("aarhus-c", "lamp-17")?;
//! let answer = client.twin(&lamp, Duration::ZERO).await?;
//! println!("{:?}", answer.twin);
//!
//! let (stream, events) = GatewayStream::open(&client, GatewayOptions::default()).await?;
//! drop(events); // The totals are enough here.
//! stream.attach(vec![Attachment { device: lamp.into(), ..Attachment::default() }]).await?;
//! let value = Some(reading::Value::Number(80.0));
//! stream.send(vec![Reading { alias: 0, attribute: 1, observed_us: now_us, value }]).await?;
//! let totals = stream.close(Duration::from_secs(10)).await;
//! assert_eq!(totals.stored, 1);
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
mod command_ledger;
mod config;
mod endpoints;
mod entropy;
mod error;
mod gateway;
mod name;
mod reason;
mod routes;

pub use client::{Client, CommandWatch, CommandWaves, Subscription, TwinPages, TwinSelection};
pub use command_ledger::{Admission, CommandLedger, Refusal};
pub use config::{ClientConfig, TlsIdentity};
pub use endpoints::{ConnectError, DialError};
pub use error::{ApiError, FieldViolation};
pub use gateway::{
    AcknowledgedReading, BatchAcknowledgement, BatchSequence, GatewayEvent, GatewayEvents, GatewayOptions,
    GatewayStream, SendError, StreamTotals,
};
pub use name::{CommandName, DeviceName, DistrictName, MalformedName, ServiceName};
pub use reason::ERROR_DOMAIN;

/// Size of the largest request that nodes take, bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Size of the largest answer that nodes give and clients accept, bytes: the end of a gateway stream is one fact for each of its
/// devices, of which a shard may have hundreds of thousands, and all of them stand in one message of the feed.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Metadata of an answer that another node gave: `host:port` of the public API of the node that led the shard, where the next
/// call for the district saves the detour. Absent when the called node answered itself.
pub const LEADER_KEY: &str = "kvarter-leader";

/// The messages, clients and servers of package `kvarter.v1`, generated from `proto/`.
pub mod v1 {
    #![allow(
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    tonic::include_proto!("kvarter.v1");
}

/// The encoded `FileDescriptorSet` of package `kvarter.v1` and its imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kvarter.v1.fds"));
