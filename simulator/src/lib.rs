//! The city as its devices see it: a seeded town or replayed files, played into a cluster through the public API.
//!
//! Start at [`World`] for what is simulated, at [`Load`] for load without a city, at [`ComparePlan`] for another system
//! beside Kvarter. Nothing here knows the inside of a node.
mod clock;
mod compare;
mod device;
mod enroll;
mod lamp;
mod latency;
mod load;
mod page;
mod player;
mod profile;
mod replay;
mod resources;
mod scale;
mod signal;
mod street;
mod town;
mod traffic;
mod world;

pub use clock::{WorldClock, town_start, wall_clock};
pub use compare::{
    CompareError, ComparePlan, Comparison, Contrast, EntriesFigures, Payload, PhaseFigures, Round, Setting, Shape,
    Shapes, Tell, TurnFigures, WriteFailed,
};
pub use device::{DeviceIndex, Place, SimulatedDevice};
pub use enroll::{EnrollError, open_attached, register};
pub use lamp::{LEVEL_ARGUMENT, Order, OrderRefused, SET_LEVEL};
pub use latency::{Latencies, LatencySummary};
pub use load::{
    Bits, Ledger, Load, LoadError, LoadOutcome, LoadPhase, LoadPlan, LoadProgress, LoadReport, LoadSecond, LoadStudy,
    PlanError, RateSearch, ReadReport, SearchResult, Serial, Trial, load_attribute,
};
pub use page::{Axis, Line, Page, Plot};
pub use player::{NotASpeed, PlayError, PlayOptions, PlayReport, PlayStatus, Player, Speed};
pub use profile::{Profile, ProfileError};
pub use replay::{FileTally, NotADay, ReplayError, ReplaySpan};
pub use resources::{NodeProcess, NodeProcesses, Usage, UsageError, UsagePoint, UsageWatch};
pub use scale::{DevicesFigures, Scale, ScalePlan, ShardsFigures};
pub use signal::{CatalogMismatch, Signal, SignalCatalog, SimulatedKind, TimedReading};
pub use world::World;
