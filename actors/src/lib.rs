//! The city: kinds and their catalog, twins, commands, pure decide and apply, services, and the actors that run them.
//!
//! Start at [`City::start`] for the running city. The pure core is [`Decider`] (messages become facts), [`ShardState`]
//! (facts change twins) and [`Reader`] (twins are read). Deliberately not here: Raft, disks, sockets and the public API.

// The fleet of the tests in `tests/city` names this crate, and tests in here use it as well.
#[cfg(test)]
extern crate self as kvarter_actors;

mod apply;
mod backoff;
mod catalog;
mod city;
mod criticality;
mod decide;
mod device;
mod failure;
mod id;
mod kind;
mod lighting;
mod name;
mod read;
mod reading;
mod service;
mod shard;
mod state;
mod steady_clock;
mod value;

pub use apply::ordinals;
pub use catalog::{Catalog, YamlError};
pub use city::{
    CallContext, City, CityConfig, CityFeed, DeviceActorCounters, FeedBounds, FeedEntry, Forwarding, PeerDoor,
    StreamDelivery, StreamMailbox,
};
pub use criticality::Criticality;
pub use decide::{
    Decider, Decision, Effect, Limits, STEP_COMMANDS_MAX, ServiceCommand, ServiceStep, StepDecision, StepError,
    is_panic_told,
};
pub use id::{AttributeNumber, CommandId, ConnectionNumber, DeviceNumber, Epoch, StreamId};
pub use kind::{Attribute, CheckedValue, CommandKind, DocumentError, Kind, KindError, ValueError, ValueType};
pub use name::{DeviceName, DistrictName, NameError, district_of};
pub use read::{Reader, ServiceFigures};
pub use reading::{PART_BYTES_MAX, READING_BYTES, Reading, ReadingMark};
pub use shard::{ProposalEnd, ProposalOutcome};
pub use state::{
    CommandState, ReportedRef, SERVICE_STATE_BYTES_MAX, Service, ServiceMode, ShardCounters, ShardState, Stream,
    TwinRef,
};
pub use value::{Point, TEXT_BYTES_MAX, Value, ValueRef};

/// Generated types of `kvarter.city.v1`: facts, requests, pages and catalog documents.
#[allow(unreachable_pub, clippy::all, reason = "generated code")]
pub mod message {
    include!(concat!(env!("OUT_DIR"), "/kvarter.city.v1.rs"));
}
