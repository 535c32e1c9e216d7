//! What further NMIs a run of the handler provokes.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Longest timer.
pub const TICKS_MAX: u32 = 150;

/// What the runs of an experiment provoke.
#[derive(Clone, Copy, Debug)]
pub enum Provoking {
    /// Nothing.
    Nothing,
    /// One provocation on each run, so many in all: a seeded choice. The seed must not be 0.
    Random {
        /// Runs that provoke.
        budget: u32,
        /// Seed of the choices.
        seed: u64,
    },
    /// A self-NMI as the last act of each run, so many in all: there is one to come at every exit.
    AtExit(u32),
    /// So many self-NMIs in a row, on the first run, before its touch.
    InARow(u32),
    /// On the first run, after its touch: a self-NMI, and then a breakpoint, whose return unmasks NMIs again
    /// where the nested one left them masked.
    ThenBreakpoint,
}

impl Provoking {
    /// Returns how many runs it causes.
    pub(super) fn runs(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Random { budget, .. } => budget.saturating_mul(2),
            Self::AtExit(runs) => runs,
            Self::InARow(count) => count,
            Self::ThenBreakpoint => 1,
        }
    }
}

/// A budget of NMIs, and the generator that decides about them.
///
/// Set by the thread while no NMI can arrive; else written by runs of the handler, one at a time; so every
/// access is `Relaxed`.
#[derive(Default)]
pub(super) struct Provoker {
    /// Provocations that are left.
    budget: AtomicU32,
    /// State of the generator; 0 where nothing is random.
    random: AtomicU64,
    /// Self-NMIs in a row.
    repeat: AtomicU32,
    /// A breakpoint follows.
    breakpoint: AtomicU32,
}

/// One thing to provoke.
#[derive(Clone, Copy)]
pub(super) struct Provocation {
    /// Before the run touches its page, while NMIs may be masked, or after.
    pub(super) before_touch: bool,
    pub(super) source: Source,
    /// Raise a breakpoint afterwards: its return unmasks NMIs.
    pub(super) breakpoint: bool,
}

/// Where the NMI comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// The timer after so many ticks, if nothing is expected from it; else a self-NMI.
    Timer(u32),
    /// So many self-NMIs in a row: one event.
    SelfNmis(u32),
    /// The timer, if nothing is expected from it, and a self-NMI: two events, in one NMI or in two.
    Both(u32),
    /// A self-NMI that the handler of a breakpoint sends.
    Breakpoint,
}

impl Provoker {
    /// Starts with a budget.
    pub(super) fn reset(&self, provoking: Provoking) {
        let (budget, seed, repeat, breakpoint) = match provoking {
            Provoking::Nothing => (0, 0, 0, 0),
            Provoking::Random { budget, seed } => (budget, seed, 1, 0),
            Provoking::AtExit(runs) => (runs, 0, 1, 0),
            Provoking::InARow(count) => (1, 0, count, 0),
            Provoking::ThenBreakpoint => (1, 0, 1, 1),
        };
        self.budget.store(budget, Ordering::Relaxed);
        self.random.store(seed, Ordering::Relaxed);
        self.repeat.store(repeat, Ordering::Relaxed);
        self.breakpoint.store(breakpoint, Ordering::Relaxed);
    }

    /// Returns the next thing to provoke, if there is one.
    ///
    /// # Context
    /// NMI.
    pub(super) fn next(&self) -> Option<Provocation> {
        let budget = self.budget.load(Ordering::Relaxed).checked_sub(1)?;
        self.budget.store(budget, Ordering::Relaxed);
        let repeat = self.repeat.load(Ordering::Relaxed);
        Some(match self.random() {
            0 => Provocation {
                before_touch: repeat > 1,
                source: Source::SelfNmis(repeat),
                breakpoint: self.breakpoint.load(Ordering::Relaxed) != 0,
            },
            random => Provocation::random(random),
        })
    }

    /// Steps the generator, which stays 0 once it is: Marsaglia, "Xorshift RNGs" (2003).
    fn random(&self) -> u64 {
        let mut state = self.random.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.store(state, Ordering::Relaxed);
        state
    }
}

impl Provocation {
    fn random(random: u64) -> Self {
        // The lowest bits are the weakest.
        let bits = random >> 8;
        let ticks = 1 + u32::try_from((bits >> 8) % u64::from(TICKS_MAX)).unwrap_or_default();
        let source = match (bits >> 1) % 8 {
            0 => Source::SelfNmis(1),
            1 => Source::Breakpoint,
            2 => Source::Both(ticks),
            _ => Source::Timer(ticks),
        };
        Self { before_touch: bits.is_multiple_of(2), source, breakpoint: (bits >> 4).is_multiple_of(2) }
    }
}
