//! How long to wait before trying again: exponential backoff with full jitter, and when to give up.
//!
//! Full jitter (a pause evenly from zero to the bound) spreads callers that failed together better than a bound with a
//! little noise, and with less work in total: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use tokio::time::Instant;

use crate::entropy::Entropy;
use crate::error::ApiError;

/// Bound of the first pause; doubles with each further failure up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The failures in a row of one call or stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and returns how long to wait: up to the bound, and not below `retry_after`.
    pub(crate) fn fail(&mut self, entropy: &Entropy, retry_after: Option<Duration>) -> Duration {
        let bound = pause_bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        entropy.up_to(bound) + retry_after.unwrap_or_default()
    }
}

fn pause_bound(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}

/// How a stream is brought back after its connection was lost: again and again, until `resume_deadline` has passed
/// without success.
#[derive(Debug)]
pub(crate) struct Resume {
    resume_deadline: Duration,
    backoff: Backoff,
    give_up: Option<Instant>,
}

impl Resume {
    pub(crate) fn new(resume_deadline: Duration) -> Self {
        Self { resume_deadline, backoff: Backoff::default(), give_up: None }
    }

    /// The stream works again.
    pub(crate) fn succeed(&mut self) {
        self.backoff = Backoff::default();
        self.give_up = None;
    }

    /// Counts a failure and returns how long to wait, or the error when it is time to give up.
    pub(crate) fn fail(&mut self, error: ApiError, entropy: &Entropy) -> Result<Duration, ApiError> {
        let now = Instant::now();
        let give_up = *self.give_up.get_or_insert(now + self.resume_deadline);
        let retry_after = match &error {
            ApiError::NotApplied { retry_after, .. } => *retry_after,
            ApiError::Unknown { .. } => None,
            ApiError::Rejected { .. } => return Err(error),
        };
        let pause = self.backoff.fail(entropy, retry_after);
        if now + pause >= give_up { Err(error) } else { Ok(pause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds() {
        let entropy = Entropy::new(Some(1));
        let mut backoff = Backoff::default();
        for failures in 0..80 {
            let pause = backoff.fail(&entropy, None);
            assert!(pause <= PAUSE_MAX && pause <= PAUSE_MIN.saturating_mul(1 << failures.min(20)), "{pause:?}");
        }
    }

    #[test]
    fn the_nodes_word_is_kept() {
        let entropy = Entropy::new(Some(1));
        let after = Duration::from_secs(3);
        assert!(Backoff::default().fail(&entropy, Some(after)) >= after);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_does_not_come_back_is_given_up() {
        let entropy = Entropy::new(Some(1));
        let mut resume = Resume::new(Duration::from_secs(30));
        let begin = Instant::now();
        let error = ApiError::Unknown { reason: None, message: "lost".to_owned() };
        while let Ok(pause) = resume.fail(error.clone(), &entropy) {
            tokio::time::advance(pause).await;
        }
        let elapsed = begin.elapsed();
        assert!((Duration::from_secs(28)..=Duration::from_secs(30)).contains(&elapsed), "{elapsed:?}");
    }
}
