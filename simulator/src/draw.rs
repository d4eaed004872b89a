//! Chance without memory: what is drawn depends on the seed, the subject and the moment alone, never on what was drawn before.
//!
//! A counter-based generator: SplitMix64 (Steele, Lea and Flood, 2014) started from a hash of what the draw is about, so the
//! order in which devices are evaluated can not matter.

/// What a draw is about, so that two questions about one device and moment have answers that do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// What is fixed about a device.
    Build = 1,
    /// The noise of one measurement.
    Noise,
    /// Whether and how a report arrives.
    Transport,
    /// A day of a device: its sessions, its spells.
    Day,
    Outage,
    Order,
    Street,
    Temperature,
    Wind,
    Cloud,
    Rain,
    Price,
    /// What people report.
    Report,
}

/// A source of random numbers for one question.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    state: u64,
}

impl Draw {
    /// `who` is a device or a place, `when` a slot of time; each is any number.
    pub(crate) fn new(seed: u64, subject: Subject, who: u32, when: i64) -> Self {
        let about = mixed(seed ^ mixed(subject as u64));
        let whom = mixed(about ^ u64::from(who).wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self { state: mixed(whom ^ when.cast_unsigned()) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    /// Evenly from 0 to 1, without 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly from `low` to `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// Evenly below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let wide = (self.next() >> 32) * u64::from(bound);
        u32::try_from(wide >> 32).expect("a product of two 32-bit numbers has 32 bits above the lower 32")
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// Mean 0, deviation 1, at most 4.2 away: the sum of six even shares is close to a bell curve.
    pub(crate) fn bell(&mut self) -> f64 {
        let sum: f64 = (0..6).map(|_| self.share()).sum();
        (sum - 3.0) * std::f64::consts::SQRT_2
    }

    /// About one, never negative.
    pub(crate) fn around_one(&mut self, deviation: f64) -> f64 {
        (1.0 + self.bell() * deviation).max(0.0)
    }

    /// A count with this mean: Poisson by Knuth's product below 30, a rounded bell curve above.
    pub(crate) fn count(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            return (mean * self.around_one(1.0 / mean.sqrt())).round();
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.share(), 0.0);
        while product > limit {
            product *= self.share();
            count += 1.0;
        }
        count
    }

    /// A value whose share below it is drawn evenly: `quantiles` are pairs (share, value) from share 0 to 1.
    pub(crate) fn of_quantiles(&mut self, quantiles: &[(f64, f64)]) -> f64 {
        interpolated(quantiles, self.share())
    }
}

/// The value at `position` on the line through `points`, pairs (position, value) in order; the first and last value beyond.
pub(crate) fn interpolated(points: &[(f64, f64)], position: f64) -> f64 {
    let behind = points.partition_point(|(start, _)| *start <= position);
    match (behind.checked_sub(1).and_then(|before| points.get(before)), points.get(behind)) {
        (Some((left, low)), Some((right, high))) => low + (high - low) * (position - left) / (right - left),
        (Some((_, value)), None) | (None, Some((_, value))) => *value,
        (None, None) => 0.0,
    }
}

/// A smooth curve through random heights (mean 0, deviation about 0.8), one every `period_s` seconds.
pub(crate) fn wave(seed: u64, subject: Subject, period_s: i64, second: i64) -> f64 {
    let knot = second.div_euclid(period_s);
    let share = second.rem_euclid(period_s) as f64 / period_s as f64;
    // The period takes the place of a device: waves of one subject differ by period.
    let who = u32::try_from(period_s).unwrap_or(u32::MAX);
    let height = |knot| Draw::new(seed, subject, who, knot).bell();
    let smooth = share * share * (3.0 - 2.0 * share);
    height(knot) * (1.0 - smooth) + height(knot + 1) * smooth
}

pub(crate) fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(count: i64, of: impl Fn(&mut Draw) -> f64) -> Vec<f64> {
        (0..count).map(|when| of(&mut Draw::new(3, Subject::Noise, 5, when))).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn the_first_draws_of_neighbouring_moments_are_even() {
        let shares = draws(20_000, Draw::share);
        assert!((mean(&shares) - 0.5).abs() < 0.01);
        let below_tenth = shares.iter().filter(|share| **share < 0.1).count();
        assert!((1_800..2_200).contains(&below_tenth), "{below_tenth}");
        let product = mean(&shares.windows(2).map(|pair| (pair[0] - 0.5) * (pair[1] - 0.5)).collect::<Vec<_>>());
        assert!(product.abs() < 0.003, "neighbours depend on each other: {product}");
    }

    #[test]
    fn counts_have_the_mean_that_was_asked_for() {
        for wanted in [0.1, 3.0, 25.0, 60.0] {
            let average = mean(&draws(20_000, |draw| draw.count(wanted)));
            assert!((average - wanted).abs() < 0.05 * wanted + 0.01, "{average} for {wanted}");
        }
    }

    #[test]
    fn subjects_devices_and_seeds_have_their_own_numbers() {
        let first = |seed, subject, who| Draw::new(seed, subject, who, 9).share().to_bits();
        let all = [
            first(1, Subject::Noise, 1),
            first(2, Subject::Noise, 1),
            first(1, Subject::Day, 1),
            first(1, Subject::Noise, 2),
        ];
        assert!(all.iter().enumerate().all(|(place, one)| !all[..place].contains(one)));
        assert!((0..1_000).all(|when| Draw::new(1, Subject::Day, 1, when).below(3) < 3));
    }

    #[test]
    fn a_wave_is_smooth_and_goes_through_its_heights() {
        let at = |second| wave(7, Subject::Wind, 3_600, second);
        for second in (0..36_000).step_by(60) {
            assert!((at(second) - at(second + 60)).abs() < 0.25, "second {second}");
        }
    }

    #[test]
    fn quantiles_are_read_between_the_points() {
        let line = [(0.0, 1.0), (0.5, 3.0), (1.0, 4.0)];
        let read = [-1.0, 0.25, 0.5, 2.0].map(|share| interpolated(&line, share));
        assert!(read.iter().zip([1.0, 2.0, 3.0, 4.0]).all(|(one, wanted)| (one - wanted).abs() < 1e-12), "{read:?}");
    }
}
