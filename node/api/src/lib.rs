//! Kvarter's public API.

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

pub use client::{Client, CommandWatch, Subscription, TwinPages, TwinSelection};
pub use command_ledger::{Admission, CommandLedger, Refusal};
pub use config::{ClientConfig, TlsIdentity};
pub use endpoints::ConnectError;
pub use error::{ApiError, FieldViolation};
pub use gateway::{
    AcknowledgedReading, BatchAcknowledgement, BatchSequence, GatewayEvent, GatewayEvents, GatewayOptions,
    GatewayStream, SendError, StreamTotals,
};
pub use name::{CommandName, DeviceName, DistrictName, MalformedName, ServiceName};
pub use reason::ERROR_DOMAIN;

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
