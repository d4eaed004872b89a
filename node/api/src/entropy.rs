//! Where a client's randomness comes from: the system, or a seed that makes its pauses and ids the same in every run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) struct Entropy {
    generator: Mutex<StdRng>,
}

impl Entropy {
    /// `None`: seeded by the system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let generator = seed.map_or_else(rand::make_rng, StdRng::seed_from_u64);
        Self { generator: Mutex::new(generator) }
    }

    /// A time from zero to `bound`, evenly.
    pub(crate) fn up_to(&self, bound: Duration) -> Duration {
        bound.mul_f64(self.draw())
    }

    /// A number below `bound`, which must not be 0, evenly.
    pub(crate) fn below(&self, bound: usize) -> usize {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..bound)
    }

    /// 128 random bits as 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        let id: u128 = self.generator.lock().unwrap_or_else(PoisonError::into_inner).random();
        format!("{id:032x}")
    }

    fn draw(&self) -> f64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
