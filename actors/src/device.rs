//! Device actors: the live side of a twin. One exists only while its device has something to be told.
//!
//! Start at `state::DeviceState`: which deliveries are due, and when to look again. Which devices have an actor is decided in
//! [`crate::shard`]. Deliberately not here: readings, which are decided in the shard and never meet an actor.

mod actor;
mod state;

pub(crate) use actor::{DeviceActor, DeviceBirth, DeviceMessage, DeviceReport};
pub(crate) use state::{Delivered, DeviceEvent, Moment, Outlook, Session, Subject};
