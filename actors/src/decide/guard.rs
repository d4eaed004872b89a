//! How a panic of the code that decides is kept from taking the shard down with it.
//!
//! Only deciding is guarded. It works on a scratch state that is thrown away, so what a panic leaves half done is thrown away as
//! well. `apply` is not: a panic there is a broken invariant of what all replicas share, and has to be loud.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a request is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// As fast as can be.
    Fast,
    /// A reading whose judging panics is rejected, and leaves nothing behind.
    EachReading,
    /// All readings are rejected without being judged.
    NoReading,
}

impl Care {
    /// What to try after a panic: for readings, which must have one outcome each, more care twice.
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::Fast => Some(Self::EachReading),
            Self::EachReading => Some(Self::NoReading),
            Self::NoReading => None,
        }
    }

    /// Runs `decide` as [`guarded`]: with more care than at first, a panic was told before.
    pub(crate) fn guarded<T>(self, decide: impl FnOnce() -> T) -> Result<T, String> {
        guarded(self != Self::Fast, decide)
    }
}

/// Runs `decide`; `Err` is what it said when it panicked. What it was changing is then half changed: throw it away, or put back
/// what was there before. `is_told`: a panic repeats one that was told before.
pub(crate) fn guarded<T>(is_told: bool, decide: impl FnOnce() -> T) -> Result<T, String> {
    let was_told = IS_TOLD.replace(is_told);
    let decided = catch_unwind(AssertUnwindSafe(decide));
    IS_TOLD.set(was_told);
    decided.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic without a text").to_owned(),
    })
}

thread_local! {
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the panic that this thread is in repeats one that was told before, as that of each reading in a part may, or of a sweep
/// that comes again. For panic hooks, which would otherwise flood the log.
pub fn is_panic_told() -> bool {
    IS_TOLD.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_once_and_says_what_it_said() {
        assert_eq!(Care::Fast.guarded(is_panic_told), Ok(false));
        assert_eq!(Care::EachReading.guarded(|| Care::NoReading.guarded(is_panic_told)), Ok(Ok(true)));
        let panic = Care::EachReading.guarded(|| panic!("reading {}", 7));
        assert_eq!((panic, is_panic_told()), (Err::<(), _>("reading 7".to_owned()), false));
        assert_eq!(Care::Fast.guarded(|| panic!("here")), Err::<(), _>("here".to_owned()));
    }
}
