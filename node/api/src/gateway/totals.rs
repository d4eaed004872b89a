//! What became of the readings of a stream, each counted once.

use std::collections::BTreeMap;

use crate::v1::ReadingTotals;

/// What became of the readings of a stream. Once all are acknowledged, `stored + late + duplicate + rejected == sent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Readings that were taken for sending.
    pub sent: u64,
    /// Readings with an outcome that this client knows. The outcomes below may run ahead of it: shards count what they
    /// accepted, also when their acknowledgement was lost.
    pub acknowledged: u64,
    /// In the feed and in the twin.
    pub stored: u64,
    /// In the feed; the twin had a newer value.
    pub late: u64,
    /// Known already.
    pub duplicate: u64,
    /// Refused, by a shard or because no shard knows the device.
    pub rejected: u64,
}

/// The accounts behind [`StreamTotals`]: the latest word of each shard, and what no shard saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    shards: BTreeMap<u32, ReadingTotals>,
    totals: StreamTotals,
}

impl Accounts {
    pub(crate) fn totals(&self) -> StreamTotals {
        self.totals
    }

    pub(crate) fn send(&mut self, readings: u32) {
        self.totals.sent += u64::from(readings);
    }

    pub(crate) fn acknowledge(&mut self, readings: u32) {
        self.totals.acknowledged += u64::from(readings);
    }

    /// Takes a shard's word. Totals of a shard only grow, so what is older than the word before says nothing new.
    pub(crate) fn shard(&mut self, shard: u32, totals: ReadingTotals) {
        let known = self.shards.entry(shard).or_default();
        if totals.sequence <= known.sequence {
            return;
        }
        let all = &mut self.totals;
        replace(&mut all.stored, known.stored, totals.stored);
        replace(&mut all.late, known.late, totals.late);
        replace(&mut all.duplicate, known.duplicate, totals.duplicate);
        replace(&mut all.rejected, known.rejected, totals.rejected);
        *known = totals;
    }

    /// Readings that were refused because no shard knows their device.
    pub(crate) fn refuse(&mut self, readings: u32) {
        self.totals.rejected += u64::from(readings);
    }
}

/// Replaces the summand `before` of `sum` by `now`. Shards are trusted to count upwards, but not with our life.
fn replace(sum: &mut u64, before: u64, now: u64) {
    *sum = sum.saturating_sub(before).saturating_add(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_counts_with_its_latest_word() {
        let mut accounts = Accounts::default();
        accounts.shard(1, ReadingTotals { sequence: 2, stored: 10, rejected: 1, ..ReadingTotals::default() });
        accounts.shard(2, ReadingTotals { sequence: 3, stored: 5, late: 2, ..ReadingTotals::default() });
        accounts
            .shard(1, ReadingTotals { sequence: 4, stored: 14, duplicate: 3, rejected: 1, ..ReadingTotals::default() });
        accounts.shard(2, ReadingTotals { sequence: 1, stored: 1, ..ReadingTotals::default() });
        accounts.refuse(4);
        let totals = accounts.totals();
        assert_eq!((totals.stored, totals.late, totals.duplicate, totals.rejected), (19, 2, 3, 5));
    }
}
