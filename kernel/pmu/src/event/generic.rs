//! The generic events: names that mean the same on every CPU.
//!
//! Names and aliases are perf's (Linux 6.1, `tools/perf/util/parse-events.c`), and so is the first name, which
//! reports show.

use core::fmt;

/// An event that has a name on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GenericEvent {
    /// Core clock cycles while not halted.
    Cycles,
    /// Instructions retired.
    Instructions,
    /// Cycles of a clock of constant rate, while not halted.
    RefCycles,
    /// Cycles of the bus clock, while not halted.
    BusCycles,
    /// Branches retired.
    Branches,
    /// Branches retired that were mispredicted.
    BranchMisses,
    /// Accesses to the last-level cache (to the L2 cache on AMD).
    CacheReferences,
    /// Accesses that missed it.
    CacheMisses,
    /// Cycles in which the front end gave nothing.
    StalledCyclesFrontend,
    /// Cycles in which the back end took nothing.
    StalledCyclesBackend,
    /// Issue slots of the pipeline.
    Slots,
}

/// Returns all generic events, in the order of perf's list.
#[must_use]
pub const fn generic_events() -> &'static [GenericEvent] {
    &[
        GenericEvent::Cycles,
        GenericEvent::Instructions,
        GenericEvent::RefCycles,
        GenericEvent::BusCycles,
        GenericEvent::Branches,
        GenericEvent::BranchMisses,
        GenericEvent::CacheReferences,
        GenericEvent::CacheMisses,
        GenericEvent::StalledCyclesFrontend,
        GenericEvent::StalledCyclesBackend,
        GenericEvent::Slots,
    ]
}

impl GenericEvent {
    /// Returns the name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns the other names.
    #[must_use]
    pub const fn aliases(self) -> &'static [&'static str] {
        self.words().1
    }

    /// Returns what it counts, in one line.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.words().2
    }

    /// Finds the event of a name or alias; case counts.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is_named = |event: &&Self| event.name() == name || event.aliases().contains(&name);
        generic_events().iter().find(is_named).copied()
    }

    /// Returns name, aliases and description.
    const fn words(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::Cycles => ("cycles", &["cpu-cycles"], "core clock cycles while not halted"),
            Self::Instructions => ("instructions", &[], "instructions retired"),
            Self::RefCycles => ("ref-cycles", &[], "cycles of a clock of constant rate while not halted"),
            Self::BusCycles => ("bus-cycles", &[], "cycles of the bus clock while not halted"),
            Self::Branches => ("branches", &["branch-instructions"], "branches retired"),
            Self::BranchMisses => ("branch-misses", &[], "branches retired that were mispredicted"),
            Self::CacheReferences => {
                ("cache-references", &[], "accesses to the last-level cache (Intel) or to the L2 cache (AMD)")
            }
            Self::CacheMisses => {
                ("cache-misses", &[], "misses of the last-level cache (Intel) or of the L2 cache (AMD)")
            }
            Self::StalledCyclesFrontend => (
                "stalled-cycles-frontend",
                &["idle-cycles-frontend"],
                "cycles in which the front end delivered nothing",
            ),
            Self::StalledCyclesBackend => (
                "stalled-cycles-backend",
                &["idle-cycles-backend"],
                "cycles in which the back end took nothing",
            ),
            Self::Slots => ("slots", &[], "issue slots of the pipeline, used or not"),
        }
    }
}

impl fmt::Display for GenericEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
