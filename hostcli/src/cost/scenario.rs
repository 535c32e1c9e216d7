//! What an NMI does while its cost is measured.

use std::fmt;

use nmiprof_wire::{Line, NmiEntry, Options, Sampling, Stress};

use super::{Cost, Phase};
use crate::sweep::gdb::GdbError;
use crate::sweep::tracer::{Arrival, Nmis};

/// Callers of the interrupted function in [`Scenario::Chain`].
pub const CHAIN_CALLERS: usize = 12;

/// The first NMI of a boot only arms the counter. The second is the first that samples: it touches a page.
const FIRST_SAMPLE: u64 = 2;

/// What the measured NMI does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// It takes a flat sample on a page that is there.
    Flat,
    /// As `Flat`, on a page that is not there: one page fault.
    Fault,
    /// As `Fault`, and in the page fault an NMI is sent: it arrives nested, and makes the handler run once
    /// more.
    Nested,
    /// It takes a sample with a chain of [`CHAIN_CALLERS`] callers, on a page that is there.
    Chain,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 4] = [Self::Flat, Self::Fault, Self::Nested, Self::Chain];

    /// Returns the scenario's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Fault => "fault",
            Self::Nested => "nested",
            Self::Chain => "chain",
        }
    }

    /// Says what the measured NMI does, as the title of a table.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Flat => "a flat sample on a warm page",
            Self::Fault => "a flat sample with one page fault: the first touch of a page",
            Self::Nested => {
                "as before, with one nested NMI, sent in the page fault, and the run that it causes"
            }
            Self::Chain => "a sample with a call chain of 12 frames on a warm page",
        }
    }

    /// Tells whether an entry gets through it: nesting destroys the naive one's stack.
    #[must_use]
    pub fn is_survived_by(self, entry: NmiEntry) -> bool {
        self != Self::Nested || entry != NmiEntry::Naive
    }

    /// Returns the kernel command line of a machine in which it happens.
    pub(super) fn command_line(self, entry: NmiEntry) -> String {
        let options = Options {
            nmi_entry: entry,
            // Sound here: the fault unmasks NMIs, but none comes.
            unsafe_nmi: entry == NmiEntry::Naive,
            stress: if self == Self::Nested { Stress::Nest } else { Stress::None },
            chains: self == Self::Chain,
            // Its recursion has every depth.
            workloads: "sort",
            duration_ns: 20_000_000,
            sampling: Sampling::Period(10_007),
            line: Line::File,
            ..Options::default()
        };
        options.to_string()
    }

    /// Returns what becomes of other NMIs in its trace.
    pub(super) const fn nmis(self) -> Nmis {
        match self {
            Self::Nested => Nmis::Taken,
            Self::Flat | Self::Fault | Self::Chain => Nmis::Held,
        }
    }

    /// Tells from an NMI at its entry whether it may be one.
    pub(super) fn may_be(self, arrival: &mut Arrival<'_>) -> Result<bool, GdbError> {
        match self {
            Self::Flat => Ok(arrival.number > FIRST_SAMPLE),
            Self::Fault | Self::Nested => Ok(arrival.number >= FIRST_SAMPLE),
            Self::Chain if arrival.number <= FIRST_SAMPLE => Ok(false),
            Self::Chain => Ok(arrival.callers(CHAIN_CALLERS + 1)? == CHAIN_CALLERS),
        }
    }

    /// Tells from what an NMI did whether it was one.
    pub(super) fn is_shown_by(self, cost: &Cost) -> bool {
        let did = |phase| cost.of(phase) > 0;
        let has_sampled = did(Phase::Pmu) && did(Phase::Record);
        let wanted = (matches!(self, Self::Fault | Self::Nested), self == Self::Nested, self == Self::Chain);
        has_sampled && wanted == (did(Phase::Fault), did(Phase::Nested), did(Phase::Chain))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
