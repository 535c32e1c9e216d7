//! What further NMIs a run of the handler provokes: a seeded choice.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Longest timer.
pub const TICKS_MAX: u32 = 150;

/// A budget of NMIs, and the generator that decides about them.
///
/// Set by the thread while no NMI can arrive; else written by runs of the handler, one at a time; so every
/// access is `Relaxed`.
#[derive(Default)]
pub(super) struct Provoker {
    /// NMIs still to be provoked.
    budget: AtomicU32,
    random: AtomicU64,
}

/// One NMI to provoke.
#[derive(Clone, Copy)]
pub(super) struct Provocation {
    /// Before the run touches its page, while NMIs may be masked, or after.
    pub(super) before_touch: bool,
    /// By the timer, if nothing is expected from it; else by a self-NMI.
    pub(super) timer_ticks: Option<u32>,
}

impl Provoker {
    /// Starts with a budget. The seed must not be 0, unless the budget is.
    pub(super) fn reset(&self, budget: u32, seed: u64) {
        self.budget.store(budget, Ordering::Relaxed);
        self.random.store(seed, Ordering::Relaxed);
    }

    /// Returns the next NMI to provoke, if there is one.
    ///
    /// # Context
    /// NMI.
    pub(super) fn next(&self) -> Option<Provocation> {
        let budget = self.budget.load(Ordering::Relaxed).checked_sub(1)?;
        self.budget.store(budget, Ordering::Relaxed);
        let random = self.random();
        let ticks = 1 + (random >> 3) % u64::from(TICKS_MAX);
        let by_timer = !(random >> 1).is_multiple_of(4);
        Some(Provocation {
            before_touch: random.is_multiple_of(2),
            timer_ticks: u32::try_from(ticks).ok().filter(|_| by_timer),
        })
    }

    /// Steps the generator: Marsaglia, "Xorshift RNGs" (2003).
    fn random(&self) -> u64 {
        let mut state = self.random.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.store(state, Ordering::Relaxed);
        // The lowest bits are the weakest.
        state >> 8
    }
}
