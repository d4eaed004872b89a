//! Services: control loops over one district, each run by an actor beside the devices that it steers.
//!
//! A [`Service`] is pure. The [`Driver`] turns what it says into steps that carry the cursor they expect, and
//! [`ServiceActor`] runs the driver: reads the shard's feed behind the stored cursor, commits steps, and stops with the
//! leadership. The next leader's actor goes on from the cursor that was committed last. Deliberately not here: what any
//! one service does; the first is [`crate::lighting`].

mod actor;
mod driver;

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, LogIndex};

use crate::{Catalog, ServiceCommand, ServiceFigures, ServiceMode, ShardState, message};

pub(crate) use actor::{ServiceActor, ServiceBirth, ServiceMessage};
pub(crate) use driver::Driver;

/// What a service may look up: identities and places, which do not depend on how far it has read.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) state: &'a ShardState,
    pub(crate) catalog: &'a Catalog,
}

/// What an entry came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Orders to be committed with the cursor behind this entry.
    pub(crate) commands: Vec<ServiceCommand>,
    /// The state changed in a way that is worth a step of its own.
    pub(crate) is_changed: bool,
}

/// A control loop over the devices of one district.
///
/// Deterministic: restored from the state that [`Service::encode`] gave after an entry, and shown the entries behind it,
/// it comes to the same commands and the same state as if it had never stopped.
pub(crate) trait Service: Sized + Send + 'static {
    /// Last part of `{district}/{service}`.
    const NAME: &'static str;

    /// A service that knows its district as its twins are now.
    fn begin(district: &str, mode: ServiceMode, world: World<'_>) -> Self;

    /// The service that was encoded as `state`.
    fn restore(district: &str, state: &[u8], world: World<'_>) -> Result<Self, DamagedBytes>;

    /// Entries are missing: reads its twins again, and keeps what they do not tell. `mode` is the shard's word.
    fn reread(&mut self, mode: ServiceMode, world: World<'_>);

    /// Takes in the facts of the entry at `index`, of all districts of the shard.
    fn take(&mut self, index: LogIndex, facts: &message::Facts, world: World<'_>) -> Outcome;

    /// At most [`crate::SERVICE_STATE_BYTES_MAX`].
    fn encode(&self) -> Bytes;

    /// What an encoded state says to people.
    fn figures(state: &[u8]) -> Result<ServiceFigures, DamagedBytes>;
}
