//! What the events of a virtual PMU are made of: each is a function of the clock.
//!
//! A virtual PMU has nothing to count but ticks. Under an emulator that advances time with instructions, a tick is an
//! instruction, and counts of instructions are true; everything else is a stand-in, by a formula that a user can read
//! ([`Formula::text`]). A formula is a function from ticks since the beginning to events since the beginning, so that
//! nothing is lost between two looks at it, and no remainder has to be carried.
//!
//! Ticks are counted in powers of two per group of events: from ticks to events is then a multiplication and a shift,
//! which is what a look in an NMI costs. The way back, needed where a timer is armed, divides only for events that
//! come in groups of several.

use super::signal::Signal;

/// How often an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// So many events in each 2^`ticks_log2` ticks.
    Steady {
        /// Events of a group.
        events: u64,
        /// Ticks of a group, as a power of two.
        ticks_log2: u32,
    },
    /// One event in 2^`fast_log2` ticks, or in 2^`slow_log2`, in turns of 2^`window_log2` ticks: a rate that changes,
    /// on purpose, so that a profiler that follows a rate has something to follow.
    Alternating {
        /// Ticks of a turn, as a power of two.
        window_log2: u32,
        /// Ticks between events in the first, third, ... turn, as a power of two.
        fast_log2: u32,
        /// Ticks between events in the other turns, as a power of two.
        slow_log2: u32,
    },
}

/// The formula of one event.
#[derive(Clone, Copy, Debug)]
pub struct Formula {
    /// The event.
    pub signal: Signal,
    /// How often it happens.
    pub rate: Rate,
    /// The same for users.
    pub text: &'static str,
}

/// All formulas; an event that is not here never happens.
pub const FORMULAS: [Formula; 10] = [
    steady(Signal::UnhaltedCycles, 5, 2, "5 per 4 ticks"),
    steady(Signal::Instructions, 1, 0, "1 per tick"),
    steady(Signal::ReferenceCycles, 1, 0, "1 per tick"),
    steady(Signal::LlcReferences, 1, 4, "1 per 16 ticks"),
    Formula {
        signal: Signal::LlcMisses,
        rate: Rate::Alternating { window_log2: 25, fast_log2: 6, slow_log2: 10 },
        text: "1 per 64 and 1 per 1024 ticks, in turns of 2^25 ticks",
    },
    steady(Signal::Branches, 1, 3, "1 per 8 ticks"),
    steady(Signal::BranchMisses, 1, 7, "1 per 128 ticks"),
    steady(Signal::Slots, 5, 0, "5 per tick"),
    steady(Signal::StalledFrontend, 1, 5, "1 per 32 ticks"),
    steady(Signal::StalledBackend, 3, 4, "3 per 16 ticks"),
];

/// Returns how often an event happens; `None` if never.
pub(super) fn rate(signal: Signal) -> Option<Rate> {
    let position = match signal {
        Signal::UnhaltedCycles => 0,
        Signal::Instructions => 1,
        Signal::ReferenceCycles => 2,
        Signal::LlcReferences => 3,
        Signal::LlcMisses => 4,
        Signal::Branches => 5,
        Signal::BranchMisses => 6,
        Signal::Slots => 7,
        Signal::StalledFrontend => 8,
        Signal::StalledBackend => 9,
        Signal::Other(_) => return None,
    };
    FORMULAS.get(position).map(|formula| formula.rate)
}

impl Rate {
    /// Returns how many events have happened after so many ticks.
    #[must_use]
    pub const fn events(self, ticks: u64) -> u64 {
        match self {
            Self::Steady { events, ticks_log2 } => {
                let (groups, rest) = split(ticks, ticks_log2);
                groups.wrapping_mul(events).wrapping_add(rest.wrapping_mul(events) >> ticks_log2)
            }
            Self::Alternating { window_log2, fast_log2, slow_log2 } => {
                let (fast, slow) = (1 << (window_log2 - fast_log2), 1 << (window_log2 - slow_log2));
                let (turns, rest) = split(ticks, window_log2);
                let whole = (turns >> 1).wrapping_mul(fast + slow);
                let partial = if turns & 1 == 0 { rest >> fast_log2 } else { fast + (rest >> slow_log2) };
                whole.wrapping_add(partial)
            }
        }
    }

    /// Returns after how many ticks so many events have happened; `u64::MAX` if that is too far.
    #[must_use]
    pub const fn ticks(self, events: u64) -> u64 {
        match self {
            Self::Steady { events: 1, ticks_log2 } => shifted(events, ticks_log2),
            Self::Steady { events: group, ticks_log2 } => {
                let rest = (events % group) << ticks_log2;
                shifted(events / group, ticks_log2).saturating_add(rest.div_ceil(group))
            }
            Self::Alternating { window_log2, fast_log2, slow_log2 } => {
                let (fast, slow) = (1 << (window_log2 - fast_log2), 1 << (window_log2 - slow_log2));
                let rest = events % (fast + slow);
                let whole = shifted(events / (fast + slow), window_log2 + 1);
                let partial = if rest <= fast {
                    rest << fast_log2
                } else {
                    (1 << window_log2) + ((rest - fast) << slow_log2)
                };
                whole.saturating_add(partial)
            }
        }
    }
}

const fn steady(signal: Signal, events: u64, ticks_log2: u32, text: &'static str) -> Formula {
    Formula { signal, rate: Rate::Steady { events, ticks_log2 }, text }
}

/// Returns the whole groups of 2^`log2`, and the rest.
const fn split(value: u64, log2: u32) -> (u64, u64) {
    (value >> log2, value & ((1 << log2) - 1))
}

/// Returns the value times 2^`log2`, or the largest number.
const fn shifted(value: u64, log2: u32) -> u64 {
    if value > u64::MAX >> log2 { u64::MAX } else { value << log2 }
}
