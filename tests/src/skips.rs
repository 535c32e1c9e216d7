//! Skips: what a test could not do here. They are printed and counted, never silent.
//!
//! The test runner hides what a passing test prints, so a skip is written to the standard error itself.
//! With `CI=true` in the environment, a skip of what CI needs is a failure.

use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Skips of this process so far. Written by [`Skip::register`] alone; it counts tests, so it can't wrap.
///
/// Relaxed: the number orders the printed lines of one process and guards nothing.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// A reason for which a test was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// What is missing.
    pub reason: String,
    /// Whether CI has it, so that it may not be missing there.
    pub is_needed_in_ci: bool,
}

impl Skip {
    /// Creates a skip for want of something that CI has.
    #[must_use]
    pub fn needed_in_ci(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_needed_in_ci: true }
    }

    /// Creates a skip for want of something that CI need not have.
    #[must_use]
    pub fn optional(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_needed_in_ci: false }
    }

    /// Counts and prints the skip.
    ///
    /// # Panics
    /// In CI, where CI needs what is missing.
    #[track_caller]
    pub fn register(&self) {
        let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        // There is nobody to tell where the standard error is closed.
        drop(writeln!(io::stderr(), "SKIPPED {number}: {self}"));
        let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
        assert!(self.is_tolerable(is_ci), "CI may not skip this: {self}");
    }

    /// Returns how many skips this process has registered.
    #[must_use]
    pub fn count() -> usize {
        SKIPPED.load(Ordering::Relaxed)
    }

    const fn is_tolerable(&self, is_ci: bool) -> bool {
        !(is_ci && self.is_needed_in_ci)
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_tolerates_the_skip_of_what_it_does_not_need_and_no_other() {
        for (skip, in_ci) in
            [(Skip::needed_in_ci("no QEMU"), false), (Skip::optional("no such device"), true)]
        {
            assert!(skip.is_tolerable(false), "elsewhere every skip is tolerable");
            assert_eq!(skip.is_tolerable(true), in_ci, "{skip}");
        }
    }
}
