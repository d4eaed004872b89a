//! The highest rate that keeps a bound: doubling until it breaks, then halving the gap. Pure.

/// How close the answer has to be: a twentieth.
const PRECISION: f64 = 1.05;
/// Trials that are enough from a bad first guess.
const TRIALS_MAX: u32 = 20;
/// A rate below this is no rate.
const RATE_MIN: f64 = 1.0;

/// What became of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    Kept,
    Broken,
}

/// A search on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateSearch {
    rate: f64,
    kept: Option<f64>,
    broken: Option<f64>,
    trials: u32,
}

impl RateSearch {
    /// `first` must be above zero.
    pub fn new(first: f64) -> Self {
        Self { rate: first, kept: None, broken: None, trials: 0 }
    }

    /// The rate to try now; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        let is_close = matches!((self.kept, self.broken), (Some(kept), Some(broken)) if broken <= kept * PRECISION);
        let is_over = is_close || self.trials >= TRIALS_MAX || self.rate < RATE_MIN;
        (!is_over).then_some(self.rate)
    }

    /// The rate from [`RateSearch::next`] was tried.
    pub fn tried(&mut self, trial: Trial) {
        self.trials += 1;
        match trial {
            Trial::Kept => self.kept = Some(self.rate),
            Trial::Broken => self.broken = Some(self.rate),
        }
        self.rate = match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => (kept * broken).sqrt(),
            (Some(kept), None) => kept * 2.0,
            (None, Some(broken)) => broken / 2.0,
            (None, None) => self.rate,
        };
    }

    /// A longer trial of the answer broke the bound: a little less may keep it.
    pub fn lower(&mut self) {
        self.kept = self.kept.map(|kept| kept / PRECISION);
    }

    /// The highest rate that kept the bound so far.
    pub fn answer(&self) -> Option<f64> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, limit: f64) -> RateSearch {
        let mut search = RateSearch::new(first);
        while let Some(rate) = search.next() {
            search.tried(if rate <= limit { Trial::Kept } else { Trial::Broken });
        }
        search
    }

    #[test]
    fn the_answer_is_just_below_the_limit() {
        for (first, limit) in [(10_000.0, 137_000.0), (10_000.0, 900.0), (5_000.0, 5_000.0), (1.0, 9_999.0)] {
            let answer = search(first, limit).answer().unwrap();
            assert!(answer <= limit && answer * PRECISION >= limit, "{first} {limit} {answer}");
        }
    }

    #[test]
    fn a_search_ends_when_nothing_keeps_the_bound() {
        assert_eq!(search(10_000.0, 0.0).answer(), None);
    }

    #[test]
    fn a_search_ends_when_nothing_breaks_the_bound() {
        assert!(search(1.0, f64::INFINITY).answer().unwrap() >= 32_768.0);
    }
}
