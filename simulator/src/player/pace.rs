//! How simulated time follows real time: faster, as fast as possible, but never ahead.
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Simulated seconds in a real second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Above zero and finite.
    Times(f64),
    /// As fast as the cluster accepts.
    Max,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a speed is a number of simulated seconds in a second, or `max`")]
pub struct NotASpeed;

impl FromStr for Speed {
    type Err = NotASpeed;

    /// `max` and `0` are [`Speed::Max`].
    fn from_str(text: &str) -> Result<Self, NotASpeed> {
        match (text, text.parse::<f64>()) {
            ("max", _) => Ok(Self::Max),
            (_, Ok(0.0)) => Ok(Self::Max),
            (_, Ok(times)) if times > 0.0 && times.is_finite() => Ok(Self::Times(times)),
            (_, Ok(_) | Err(_)) => Err(NotASpeed),
        }
    }
}

/// Simulated time of one play.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Timestamp,
    speed: Speed,
}

impl Pace {
    pub(super) fn new(start: Timestamp, speed: Speed) -> Self {
        Self { start, speed }
    }

    /// The simulated moment after `elapsed` of real time. It stops at `wall`, the real time now: from there on the world runs
    /// at the speed of the real one, since the cluster refuses what was observed in the future.
    pub(super) fn reached(&self, elapsed: Duration, wall: Timestamp) -> Timestamp {
        match self.speed {
            Speed::Max => wall,
            Speed::Times(times) => {
                // Beyond what a time can express the world has caught up with the wall anyway.
                let gone = SignedDuration::try_from_secs_f64(elapsed.as_secs_f64() * times);
                gone.ok().and_then(|gone| self.start.checked_add(gone).ok()).map_or(wall, |reached| reached.min(wall))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn time_runs_at_the_speed_asked_for_until_it_meets_the_wall() {
        let pace = Pace::new(at(1_000), Speed::Times(60.0));
        assert_eq!(pace.reached(Duration::from_secs(10), at(5_000)), at(1_600));
        assert_eq!(pace.reached(Duration::from_secs(100), at(5_100)), at(5_100));
        assert_eq!(pace.reached(Duration::MAX, at(9_000)), at(9_000));
    }

    #[test]
    fn at_full_speed_all_of_the_past_is_due() {
        assert_eq!(Pace::new(at(0), Speed::Max).reached(Duration::ZERO, at(77)), at(77));
    }

    #[test]
    fn speeds_are_read_from_text() {
        assert_eq!("600".parse(), Ok(Speed::Times(600.0)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("0".parse(), Ok(Speed::Max));
        for wrong in ["-1", "inf", "NaN", "fast", ""] {
            assert_eq!(wrong.parse::<Speed>(), Err(NotASpeed), "{wrong}");
        }
    }
}
