//! The city as its devices see it: a seeded town or replayed files, played into a cluster through the public API.
//!
//! Start at [`World`] for what is simulated, at [`Load`] for load without a city. Nothing here knows the inside of a node.
mod clock;
mod device;
mod enroll;
mod lamp;
mod latency;
mod load;
mod player;
mod profile;
mod replay;
mod signal;
mod street;
mod town;
mod traffic;
mod world;

pub use clock::{WorldClock, town_start, wall_clock};
pub use device::{DeviceIndex, Place, SimulatedDevice};
pub use enroll::{EnrollError, open_attached, register};
pub use lamp::{LEVEL_ARGUMENT, Order, OrderRefused, SET_LEVEL};
pub use latency::{Latencies, LatencySummary};
pub use load::{
    Bits, Ledger, Load, LoadError, LoadOutcome, LoadPlan, LoadProgress, LoadReport, PlanError, Serial, load_attribute,
};
pub use player::{NotASpeed, PlayError, PlayOptions, PlayReport, PlayStatus, Player, Speed};
pub use profile::{Profile, ProfileError};
pub use replay::{FileTally, NotADay, ReplayError, ReplaySpan};
pub use signal::{CatalogMismatch, Signal, SignalCatalog, SimulatedKind, TimedReading};
pub use world::World;
