//! The city as its devices see it: a seeded city or replayed files, played into a cluster through the public API.
//!
//! Start at [`World`] for what is simulated, at [`Load`] for load without a city, at [`LightingPlan`] for what a service is
//! worth, at [`ComparePlan`] for another system beside Kvarter. Nothing here knows the inside of a node.
mod calendar;
mod causes;
mod charger;
mod city;
mod clock;
mod compare;
mod device;
mod dials;
mod draw;
mod duration;
mod enroll;
mod fidelity;
mod latency;
mod load;
mod measure;
mod memory;
mod merit;
mod order;
mod page;
mod player;
mod preset;
mod price;
mod profile;
mod registers;
mod replay;
mod resources;
mod rounds;
mod scale;
mod scenario;
mod setpoints;
mod signal;
mod street;
mod sun;
mod traffic;
mod weather;
mod world;

pub use city::light::LightFigures;
pub use clock::{WorldClock, town_start, wall_clock};
pub use compare::{
    CompareError, ComparePlan, Comparison, Contrast, EntriesFigures, Part, Payload, PhaseFigures, RateFigures,
    RequestShape, RequestShapes, Round, Setting, Tell, TurnFigures, WriteFailed,
};
pub use device::{DeviceIndex, Place, SimulatedDevice};
pub use dials::{Dials, Obedience};
pub use duration::parse_duration;
pub use enroll::{EnrollError, open_attached, register};
pub use fidelity::{Fidelity, Fit};
pub use latency::{Latencies, LatencySummary};
pub use load::{
    Bits, CallReport, CommandReport, Ledger, Load, LoadError, LoadOutcome, LoadPhase, LoadPlan, LoadProgress,
    LoadReport, LoadSecond, LoadStudy, PlanError, RateSearch, SearchResult, Serial, Trial, Turns, load_attribute,
};
pub use memory::{MemoryError, MemoryFigures, MemoryPlan};
pub use merit::{LightingDay, LightingMerit, LightingPlan, LightingRun, MeritError};
pub use order::{Argument, LEVEL_ARGUMENT, Order, OrderRefused, SET_LEVEL};
pub use page::{Axis, Line, Page, Plot};
pub use player::{
    NotASpeed, PlayEnded, PlayError, PlayOptions, PlayReport, PlayStatus, Player, Speed, StepDone, Steps, StepsInPlay,
};
pub use preset::{NotAPreset, Preset};
pub use profile::{Profile, ProfileError};
pub use replay::{FileTally, NotADay, ReplayError, ReplaySpan};
pub use resources::{NodeProcess, NodeProcesses, Usage, UsageError, UsagePoint, UsageWatch};
pub use rounds::{AnsweredReading, AnsweredRound, Rounds, RoundsError};
pub use scale::{DevicesFigures, NodesFigures, Scale, ScalePlan, ShardsFigures};
pub use scenario::{Scenario, ScenarioError};
pub use signal::{CatalogMismatch, Shape, Signal, SignalCatalog, SimulatedKind, TimedReading, Value};
pub use world::{CityOptions, LitPart, World};
