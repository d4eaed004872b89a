//! What the records of one file add up to, and whether they may stand where they do. Pure.

use kvarter_api::v1::{FeedFilter, HistoryFooter, HistoryHeader, Position, history_record::Record};
use prost_types::Timestamp;

use super::{FORMAT, place};

/// Why a record does not belong where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misplaced {
    #[error("it does not begin with a header")]
    NoHeader,
    #[error("its header is for another shard or position than its name")]
    OtherName,
    #[error("it is of format {format}, this version reads format {FORMAT}")]
    OtherFormat { format: u32 },
    #[error("a second header")]
    SecondHeader,
    #[error("a record behind the footer")]
    BehindFooter,
    #[error("a position of another shard")]
    OtherShard,
    #[error("a position that does not follow the one before it")]
    NotInOrder,
    #[error("the footer counts other facts or gaps than there are")]
    OtherCount,
}

/// A file as far as its records were taken.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    header: HistoryHeader,
    /// Everything up to here is in the file.
    next: Position,
    facts: u64,
    gaps: u64,
    is_sealed: bool,
}

impl Account {
    pub(super) fn begin(header: HistoryHeader) -> Result<Self, Misplaced> {
        if header.format != FORMAT {
            return Err(Misplaced::OtherFormat { format: header.format });
        }
        let next = header.first.unwrap_or_default();
        if next.shard != header.shard {
            return Err(Misplaced::OtherShard);
        }
        Ok(Self { header, next, facts: 0, gaps: 0, is_sealed: false })
    }

    /// Takes the next record, or leaves everything as it is.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), Misplaced> {
        if self.is_sealed {
            return Err(Misplaced::BehindFooter);
        }
        match record {
            Record::Header(_) => return Err(Misplaced::SecondHeader),
            Record::Facts(facts) => {
                let mut last = self.next;
                for fact in &facts.facts {
                    let position = fact.position.unwrap_or_default();
                    self.check_shard(position)?;
                    // Several facts may share a position, but not with one that was there before this record.
                    if place(position) <= place(self.next) || place(position) < place(last) {
                        return Err(Misplaced::NotInOrder);
                    }
                    last = position;
                }
                self.advance(last, facts.next)?;
                self.facts += facts.facts.len() as u64;
            }
            Record::Gap(gap) => {
                let from = gap.from.unwrap_or_default();
                self.check_shard(from)?;
                if place(from) < place(self.next) {
                    return Err(Misplaced::NotInOrder);
                }
                self.advance(from, gap.to)?;
                self.gaps += 1;
            }
            Record::Footer(footer) => {
                if (footer.facts, footer.gaps) != (self.facts, self.gaps) {
                    return Err(Misplaced::OtherCount);
                }
                self.advance(self.next, footer.next)?;
                self.is_sealed = true;
            }
        }
        Ok(())
    }

    /// The feed went on without anything for this file.
    pub(super) fn pass(&mut self, next: Position) -> Result<(), Misplaced> {
        self.advance(self.next, Some(next))
    }

    fn advance(&mut self, least: Position, next: Option<Position>) -> Result<(), Misplaced> {
        let next = next.unwrap_or_default();
        self.check_shard(next)?;
        if place(next) < place(least) {
            return Err(Misplaced::NotInOrder);
        }
        self.next = next;
        Ok(())
    }

    fn check_shard(&self, position: Position) -> Result<(), Misplaced> {
        if position.shard == self.header.shard { Ok(()) } else { Err(Misplaced::OtherShard) }
    }

    /// What seals the file as it is now.
    pub(super) fn footer(&self, now: Timestamp) -> HistoryFooter {
        HistoryFooter { facts: self.facts, gaps: self.gaps, next: Some(self.next), seal_time: Some(now) }
    }

    /// The file has what comes behind this position ...
    pub(crate) fn first(&self) -> Position {
        self.header.first.unwrap_or_default()
    }

    /// ... up to this one.
    pub(crate) fn next(&self) -> Position {
        self.next
    }

    pub(crate) fn facts(&self) -> u64 {
        self.facts
    }

    pub(crate) fn gaps(&self) -> u64 {
        self.gaps
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    pub(super) fn filter(&self) -> Option<&FeedFilter> {
        self.header.filter.as_ref()
    }

    pub(super) fn open_time(&self) -> Timestamp {
        self.header.open_time.unwrap_or_default()
    }
}
