//! What clients did in a simulation and what they were told: the ledger that checkers hold against the city.
//!
//! It stands outside of all nodes, as gateways and devices do: no crash loses any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvarter_actors::message::{Facts, LogPosition};

/// A reading that a gateway sent, by number of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SentReading {
    pub(super) device: u32,
    pub(super) attribute: u32,
    pub(super) observed_us: i64,
}

/// A part of a gateway's stream.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) shard: u32,
    pub(super) readings: Vec<SentReading>,
    pub(super) is_acknowledged: bool,
}

/// What a caller asked of one desired attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Asked {
    /// Sets it to this value, which nobody else sets.
    Write(f64),
    Read,
}

/// What the caller was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Told {
    Written(LogPosition),
    /// The state at this index.
    Read {
        index: u64,
        value: Option<f64>,
    },
    NotApplied,
    Unknown,
}

/// A call about one register: the desired attribute of one device.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) shard: u32,
    pub(super) device: String,
    pub(super) asked: Asked,
    pub(super) begun_us: i64,
    /// `None`: the caller died before it was told.
    pub(super) ended: Option<(i64, Told)>,
}

/// A command as its caller knows it.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) shard: u32,
    pub(super) id: String,
    /// Accepted, certainly not accepted, or not known.
    pub(super) is_accepted: Option<bool>,
}

/// What a gateway was given for one of its devices, whatever the device made of it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) shard: u32,
    pub(super) epoch: u64,
    pub(super) stream: u128,
    /// Counts the connections of the stream.
    pub(super) connection: u64,
    /// The true time.
    pub(super) arrived_us: i64,
    /// The time by the clock of the node that gave it.
    pub(super) node_us: i64,
    /// Of a command; other things may come at any time.
    pub(super) command: Option<ArrivedCommand>,
}

#[derive(Clone, Debug)]
pub(super) struct ArrivedCommand {
    pub(super) id: String,
    pub(super) deadline_us: i64,
}

/// Entries of a shard's feed, oldest first.
pub(super) type Feed = Vec<(u64, Arc<Facts>)>;

#[derive(Default)]
pub(super) struct History {
    /// By stream, in order.
    pub(super) parts: BTreeMap<u128, Vec<Part>>,
    pub(super) operations: Vec<Operation>,
    pub(super) commands: Vec<Command>,
    /// In their order.
    pub(super) arrivals: Vec<Arrival>,
    /// Ids that a device executed.
    pub(super) executed: BTreeSet<String>,
    /// What one subscriber of each shard was given, across the deaths of the nodes that served it.
    pub(super) subscribed: BTreeMap<u32, Feed>,
    /// What each node's feed has, by node and shard.
    pub(super) feeds: BTreeMap<(u64, u32), Feed>,
    /// The first index of those that lack their beginning.
    pub(super) begins: BTreeMap<(u64, u32), u64>,
    /// What no client may be told.
    pub(super) broken: Vec<String>,
}

impl History {
    /// Operations that a client was answered, of whatever kind.
    pub(super) fn answered(&self) -> u64 {
        let parts = self.parts.values().flatten().filter(|part| part.is_acknowledged).count();
        let operations = self.operations.iter().filter(|operation| operation.ended.is_some()).count();
        let commands = self.commands.iter().filter(|command| command.is_accepted.is_some()).count();
        (parts + operations + commands) as u64
    }
}
