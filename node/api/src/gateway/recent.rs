//! Command acknowledgements that may have been lost with their connection. Pure.
//!
//! Nobody acknowledges an acknowledgement. Those of the last minute are sent again on the next connection, which saves a
//! redelivery; what is lost all the same is asked for again by the shard.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::v1::CommandAcknowledgement;

/// Older ones have arrived, or their shard has asked again.
const AGE_MAX: Duration = Duration::from_secs(60);
/// The newest are kept.
const COUNT_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct RecentAcknowledgements {
    sent: VecDeque<(Instant, CommandAcknowledgement)>,
}

impl RecentAcknowledgements {
    /// Remembers what is sent now.
    pub(crate) fn push(&mut self, now: Instant, acknowledgement: CommandAcknowledgement) {
        self.forget(now);
        if self.sent.len() == COUNT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((now, acknowledgement));
    }

    /// What the next connection begins with; at most as many as one request takes.
    pub(crate) fn resume(&mut self, now: Instant) -> Vec<CommandAcknowledgement> {
        self.forget(now);
        self.sent.iter().map(|(_, acknowledgement)| acknowledgement.clone()).collect()
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.pop_front_if(|(sent_at, _)| now.saturating_duration_since(*sent_at) > AGE_MAX).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(number: usize) -> CommandAcknowledgement {
        CommandAcknowledgement { id: number.to_string(), ..CommandAcknowledgement::default() }
    }

    #[test]
    fn only_the_newest_of_the_last_minute_are_kept() {
        let begin = Instant::now();
        let mut recent = RecentAcknowledgements::default();
        recent.push(begin, acknowledgement(0));
        let later = begin + AGE_MAX + Duration::from_secs(1);
        for number in 1..=COUNT_MAX + 5 {
            recent.push(later, acknowledgement(number));
        }
        let kept = recent.resume(later);
        assert_eq!((kept.len(), kept[0].id.as_str()), (COUNT_MAX, "6"));
        assert!(recent.resume(later + AGE_MAX * 2).is_empty());
    }
}
