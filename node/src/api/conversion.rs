//! Between the messages of the public API and those of the city: numbers to names, `e7` to degrees, microseconds to
//! timestamps. Conversions from the public side name the field that is wrong; conversions to it can not fail.

pub(crate) mod command;
pub(crate) mod filter;
pub(crate) mod kind;
pub(crate) mod service;
pub(crate) mod twin;
pub(crate) mod value;

use kvarter_actors::message;
use kvarter_api::v1::Position;
use kvarter_cluster::ShardId;
use prost_types::Timestamp;

const SECOND_US: i64 = 1_000_000;

/// The ordinal of a position that stands behind all facts of its entry.
pub(crate) const ORDINAL_LAST: u32 = u32::MAX;

/// Microseconds since 1970.
pub(crate) fn timestamp(time_us: i64) -> Timestamp {
    let nanos = time_us.rem_euclid(SECOND_US) * 1_000;
    Timestamp { seconds: time_us.div_euclid(SECOND_US), nanos: i32::try_from(nanos).expect("below a second") }
}

/// The same, absent for 0: something that has not happened.
pub(crate) fn timestamp_if_any(time_us: i64) -> Option<Timestamp> {
    (time_us != 0).then(|| timestamp(time_us))
}

pub(crate) fn position(shard: ShardId, position: message::LogPosition) -> Position {
    Position { shard: shard.0, index: position.index, ordinal: position.ordinal }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timestamps_keep_microseconds(time_us in -1_i64 << 55..1 << 55) {
            let Timestamp { seconds, nanos } = timestamp(time_us);
            prop_assert!((0..1_000_000_000).contains(&nanos));
            prop_assert_eq!(seconds * SECOND_US + i64::from(nanos) / 1_000, time_us);
        }
    }
}
