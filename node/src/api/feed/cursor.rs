//! A reader's place in a shard's feed, and where a subscription begins.

use std::collections::BTreeMap;

use kvarter_api::v1::Position;
use kvarter_cluster::{LogIndex, ShardId};
use tonic::Status;

use crate::api::conversion::ORDINAL_LAST;
use crate::api::status;

/// The last fact that a reader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) index: LogIndex,
    pub(crate) ordinal: u32,
}

impl Cursor {
    /// Behind all facts of the entry at `index`.
    pub(crate) fn behind(index: LogIndex) -> Self {
        Self { index, ordinal: ORDINAL_LAST }
    }

    /// The entry behind which to read on. An entry that was seen in part is read again.
    pub(crate) fn after(self) -> LogIndex {
        if self.ordinal == ORDINAL_LAST { self.index } else { LogIndex(self.index.0.saturating_sub(1)) }
    }

    /// Whether the fact at `index` and `ordinal` was seen.
    pub(crate) fn has_seen(self, index: LogIndex, ordinal: u32) -> bool {
        Self { index, ordinal } <= self
    }

    pub(crate) fn from_public(position: &Position) -> Self {
        Self { index: LogIndex(position.index), ordinal: position.ordinal }
    }

    pub(crate) fn to_public(self, shard: ShardId) -> Position {
        Position { shard: shard.0, index: self.index.0, ordinal: self.ordinal }
    }
}

/// Where a subscription begins in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Behind a fact that the caller has seen; what is gone since is told as a gap.
    Behind(Cursor),
    /// At the first fact that is kept.
    FirstKept,
    /// With the next fact.
    End,
}

/// Where to begin in which of the city's `shards`, from the fields of a request; without cursors in all those that are
/// `wanted`.
pub(crate) fn begins(
    cursors: &[Position],
    from_beginning: bool,
    shards: &[ShardId],
    wanted: &[ShardId],
) -> Result<BTreeMap<ShardId, Begin>, Status> {
    if cursors.is_empty() {
        let begin = if from_beginning { Begin::FirstKept } else { Begin::End };
        return Ok(wanted.iter().map(|shard| (*shard, begin)).collect());
    }
    if from_beginning {
        return Err(status::invalid("from_beginning", "not allowed together with cursors"));
    }
    let mut begins = BTreeMap::new();
    for (place, position) in cursors.iter().enumerate() {
        let shard = ShardId(position.shard);
        if !shards.contains(&shard) {
            return Err(status::invalid(format!("cursors[{place}].shard"), format!("there is no shard {}", shard.0)));
        }
        if position.index == u64::MAX {
            return Err(status::invalid(format!("cursors[{place}].index"), "no feed is so long"));
        }
        let cursor = Cursor::from_public(position);
        if begins.insert(shard, Begin::Behind(cursor)).is_some() {
            return Err(status::invalid(format!("cursors[{place}].shard"), format!("shard {} came before", shard.0)));
        }
    }
    Ok(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: [ShardId; 2] = [ShardId(1), ShardId(2)];

    #[test]
    fn an_entry_seen_in_part_is_read_again() {
        let cursor = Cursor { index: LogIndex(7), ordinal: 3 };
        assert_eq!(cursor.after(), LogIndex(6));
        assert!(cursor.has_seen(LogIndex(7), 3) && cursor.has_seen(LogIndex(6), 99));
        assert!(!cursor.has_seen(LogIndex(7), 4) && !cursor.has_seen(LogIndex(8), 0));
        assert_eq!(Cursor::behind(LogIndex(7)).after(), LogIndex(7));
        assert_eq!(Cursor::default().after(), LogIndex(0));
    }

    #[test]
    fn without_cursors_every_wanted_shard_is_read() {
        let begins_in = |from_beginning| begins(&[], from_beginning, &SHARDS, &SHARDS[1..]).expect("a begin");
        assert_eq!(begins_in(false), [(ShardId(2), Begin::End)].into());
        assert_eq!(begins_in(true), [(ShardId(2), Begin::FirstKept)].into());
    }

    #[test]
    fn with_cursors_only_their_shards_are_read() {
        let position = Position { shard: 2, index: 9, ordinal: 4 };
        let cursor = Cursor { index: LogIndex(9), ordinal: 4 };
        assert_eq!(cursor.to_public(ShardId(2)), position);
        let begins = begins(&[position], false, &SHARDS, &SHARDS).expect("a begin");
        assert_eq!(begins, [(ShardId(2), Begin::Behind(cursor))].into());
    }

    #[test]
    fn cursors_that_make_no_sense_are_refused() {
        let position = |shard| Position { shard, index: 1, ordinal: 0 };
        assert!(begins(&[position(9)], false, &SHARDS, &SHARDS).is_err());
        assert!(begins(&[position(1), position(1)], false, &SHARDS, &SHARDS).is_err());
        assert!(begins(&[position(1)], true, &SHARDS, &SHARDS).is_err());
        assert!(begins(&[Position { index: u64::MAX, ..position(1) }], false, &SHARDS, &SHARDS).is_err());
    }
}
