//! Which process is a node: two of them may run by mistake, from one disk and a copy of it.
//!
//! While one is heard of, it alone is the node: it may have voted and acknowledged what the other does not know. `docs/disk.md` says
//! what this does not find.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::refusal::Refusal;
use crate::{DamagedBytes, NodeId};

/// A process that was not heard of for so long has ended, or stands still; one that runs asks each peer twice a second who it is.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// One process of a node: how often the node was started from its disk, and what this process drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) start: u64,
    pub(crate) draw: u64,
}

impl Life {
    /// Whether `other` was started from a later state of the disk. Of two starts with one number, which only copies have, the one
    /// that was heard of first is the node.
    pub(super) fn is_superseded_by(self, other: Self) -> bool {
        self != other && self.start <= other.start
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.start, self.draw)
    }
}

impl FromStr for Life {
    type Err = DamagedBytes;

    fn from_str(text: &str) -> Result<Self, DamagedBytes> {
        let malformed = || DamagedBytes { reason: format!("{text:?} names no process of a node") };
        let (start, draw) = text.split_once('-').ok_or_else(malformed)?;
        let start = start.parse().map_err(|_digits| malformed())?;
        Ok(Self { start, draw: u64::from_str_radix(draw, 16).map_err(|_digits| malformed())? })
    }
}

/// The process that is each other node, and when it was heard of.
#[derive(Default)]
pub(super) struct Lives(Mutex<BTreeMap<NodeId, (Life, Instant)>>);

impl Lives {
    pub(super) fn latest(&self, node: NodeId) -> Option<Life> {
        self.0.lock().get(&node).map(|(life, _)| *life)
    }

    /// Notes that `life` is `node`, unless another process is.
    pub(super) fn hear(&self, node: NodeId, life: Life, now: Instant) -> Result<(), Status> {
        let mut lives = self.0.lock();
        match lives.get(&node) {
            Some((latest, _)) if life.is_superseded_by(*latest) => Err(Refusal::Superseded.status(superseded(node))),
            Some((latest, heard)) if *latest != life && now.duration_since(*heard) < HEARD_WITHIN => {
                let reason =
                    format!("another process runs as {node}, from the same disk or a copy of it: end one of them");
                Err(Refusal::Doubled.status(reason))
            }
            Some(_) | None => {
                lives.insert(node, (life, now));
                Ok(())
            }
        }
    }
}

/// What the earlier of two processes of `node` hears.
pub(super) fn superseded(node: NodeId) -> String {
    format!("another process was started as {node} later, from the same disk or a copy of it: end one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn life(start: u64, draw: u64) -> Life {
        Life { start, draw }
    }

    #[test]
    fn a_process_is_named_by_its_start_and_its_draw() {
        assert_eq!(life(2, 255).to_string().parse(), Ok(life(2, 255)));
        assert!(["", "2", "x-1", "2-", "-2-ff"].iter().all(|text| text.parse::<Life>().is_err()));
    }

    #[test]
    fn a_node_is_one_process_until_that_is_silent() {
        let (lives, begin) = (Lives::default(), Instant::now());
        let hear = |start, draw, after_ms| {
            let heard = lives.hear(NODE, life(start, draw), begin + Duration::from_millis(after_ms));
            heard.map_err(|status| Refusal::of(&status).unwrap())
        };
        assert_eq!(hear(4, 1, 0), Ok(()));
        assert_eq!(hear(5, 2, 500), Err(Refusal::Doubled));
        assert_eq!(hear(4, 1, 1_000), Ok(()));
        assert_eq!(hear(5, 2, 2_999), Err(Refusal::Doubled), "what is refused is not heard of");
        assert_eq!(lives.latest(NODE), Some(life(4, 1)));
        assert_eq!(hear(5, 2, 3_000), Ok(()));
        assert_eq!(hear(4, 1, 9_000), Err(Refusal::Superseded), "it stood still meanwhile");
        assert_eq!(hear(5, 3, 9_000), Err(Refusal::Superseded), "of a copy of the same disk");
        assert_eq!(hear(6, 3, 9_000), Ok(()));
    }
}
