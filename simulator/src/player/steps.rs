//! A play in steps: it goes on only as far as it was told, and tells when all that it sent has its outcome.
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

/// Takes a play through time.
#[derive(Debug)]
pub struct Steps {
    until: watch::Sender<Timestamp>,
    done: watch::Receiver<StepDone>,
}

/// How far a play in steps is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepDone {
    /// Everything up to this moment has its outcome.
    pub until: Timestamp,
    /// Orders that devices followed, could not follow, or ignored, since the play began.
    pub orders: u64,
}

/// The play has ended, so that there are no more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the play has ended before its last step")]
pub struct PlayEnded;

/// The play's side.
#[derive(Debug)]
pub struct StepsInPlay {
    until: watch::Receiver<Timestamp>,
    done: watch::Sender<StepDone>,
}

impl Steps {
    /// Steps of a world that begins at `start`.
    pub fn new(start: Timestamp) -> (Self, StepsInPlay) {
        let (until, told) = watch::channel(start);
        let (done, heard) = watch::channel(StepDone { until: start, orders: 0 });
        (Self { until, done: heard }, StepsInPlay { until: told, done })
    }

    /// Lets the play go on to `until`; returns once everything that it sent has its outcome. Steps do not go beyond now.
    pub async fn go_on(&mut self, until: Timestamp) -> Result<StepDone, PlayEnded> {
        self.until.send_replace(until);
        let done = self.done.wait_for(|done| done.until >= until).await;
        done.map(|done| *done).map_err(|_ended| PlayEnded)
    }

    /// Waits until no order has come for `quiet` of real time.
    pub async fn quiet(&mut self, quiet: Duration) -> Result<StepDone, PlayEnded> {
        self.done.mark_unchanged();
        while let Ok(changed) = timeout(quiet, self.done.changed()).await {
            changed.map_err(|_ended| PlayEnded)?;
        }
        Ok(*self.done.borrow())
    }
}

impl StepsInPlay {
    pub(super) fn until(&self) -> Timestamp {
        *self.until.borrow()
    }

    /// Returns when the play may go on further; never when nobody leads it any more.
    pub(super) async fn moved(steps: &mut Option<Self>) {
        let Some(steps) = steps else { return std::future::pending().await };
        if steps.until.changed().await.is_err() {
            std::future::pending().await
        }
    }

    pub(super) fn tell(&self, done: StepDone) {
        self.done.send_if_modified(|last| std::mem::replace(last, done) != done);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn at(minute: i64) -> Timestamp {
        "2025-12-21T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_over_when_the_play_says_so_and_quiet_when_no_order_came() {
        let (mut steps, play) = Steps::new(at(0));
        let playing = async {
            let mut play = Some(play);
            StepsInPlay::moved(&mut play).await;
            let play = play.unwrap();
            for orders in 0..4 {
                sleep(Duration::from_millis(30)).await;
                play.tell(StepDone { until: play.until(), orders });
            }
            play
        };
        let leading = async {
            let begun = Instant::now();
            assert_eq!(steps.go_on(at(1)).await, Ok(StepDone { until: at(1), orders: 0 }));
            assert_eq!(begun.elapsed().as_millis(), 30);
            assert_eq!(steps.quiet(Duration::from_millis(40)).await, Ok(StepDone { until: at(1), orders: 3 }));
            assert_eq!(begun.elapsed().as_millis(), 4 * 30 + 40);
        };
        let (play, ()) = tokio::join!(playing, leading);
        drop(play);
        assert_eq!(steps.go_on(at(2)).await, Err(PlayEnded));
    }
}
