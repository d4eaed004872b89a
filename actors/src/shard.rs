//! A shard that this node leads: its one writer, and the actors of its devices and services.
//!
//! Start at `state` (pure: requests become batches, batches become entries, answers wait for the commit) and
//! [`ShardActor`], which runs what it says. [`Inbox`] is the only way in, and bounds what waits (`admission`: low criticality
//! is refused first; `refusals`: when it may come again). `slots` decides which devices have an actor, `outbox` how deliveries
//! leave, `time` what time it is. Deliberately not here: what a request comes to, which is [`crate::Decider`]'s, and who leads,
//! which is the cluster's.

mod actor;
mod admission;
mod confirm;
mod defect;
mod delivery;
mod devices;
mod inbox;
mod outbox;
mod proposals;
mod refusals;
mod services;
mod slots;
mod state;
mod time;

pub(crate) use actor::{ShardActor, ShardBirth, ShardMessage};
pub(crate) use admission::Bounds as InboxBounds;
pub(crate) use confirm::{Confirmations, Unconfirmed};
pub(crate) use delivery::Courier;
pub(crate) use devices::{DeviceCounters, DeviceSurroundings};
pub(crate) use inbox::{Inbox, Refusal, ReplyTo};
pub(crate) use proposals::Proposals;
pub use proposals::{ProposalEnd, ProposalOutcome};
pub(crate) use refusals::Refusals;
pub(crate) use state::{Answer, BatchBounds, Submission, Work};
