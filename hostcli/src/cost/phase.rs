//! What an instruction of an NMI is for.

use std::fmt;

use crate::symbols::Resolved;

/// A phase of an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The entry's assembly up to the call of the handler, for a nested NMI's run once more.
    Entry,
    /// Who raised the NMI: the handler's own bookkeeping.
    Dispatch,
    /// What every PMU driver has to do with an overflow.
    Pmu,
    /// The model of the virtual PMU, and its timer's registers: a stand-in for a hardware counter.
    VirtualPmu,
    /// The record: time, address, ring.
    Record,
    /// Reading the frames of a call chain.
    Chain,
    /// The page fault at the first touch, from its entry to its `iretq`.
    Fault,
    /// The nested NMI itself: from the first instruction of its entry to its return into the outer one.
    Nested,
    /// The entry's assembly after the call of the handler.
    Exit,
    /// Nothing of these.
    Other,
}

impl Phase {
    /// Every phase, in the order in which they happen.
    pub const ALL: [Self; 10] = [
        Self::Entry,
        Self::Dispatch,
        Self::Pmu,
        Self::VirtualPmu,
        Self::Record,
        Self::Chain,
        Self::Fault,
        Self::Nested,
        Self::Exit,
        Self::Other,
    ];

    /// Returns the phase's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Dispatch => "dispatch",
            Self::Pmu => "pmu",
            Self::VirtualPmu => "virtual-pmu",
            Self::Record => "record",
            Self::Chain => "chain",
            Self::Fault => "fault",
            Self::Nested => "nested",
            Self::Exit => "exit",
            Self::Other => "other",
        }
    }

    /// Tells the phase of an instruction of the handler from the functions that it was inlined from.
    ///
    /// Whatever a page fault or a walk calls is theirs; elsewhere the innermost function that says something
    /// decides. What serves everybody (atomics, counters) says nothing.
    pub(super) fn of(resolved: &Resolved) -> Self {
        let rule = |rules: &[(&str, Self)], name: &str| {
            rules.iter().find(|(part, _)| name.contains(part)).map(|(_, phase)| *phase)
        };
        let names = || resolved.frames.iter().map(|frame| &*frame.function);
        let is_neutral = |name: &&str| NEUTRAL.iter().any(|part| name.contains(part));
        names()
            .find_map(|name| rule(WHOLE, name))
            .or_else(|| names().filter(|name| !is_neutral(name)).find_map(|name| rule(INNERMOST, name)))
            .unwrap_or(Self::Other)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Parts of names of functions that own whatever they call.
const WHOLE: &[(&str, Phase)] = &[
    ("arch::exception::", Phase::Fault),
    ("memory::fault::", Phase::Fault),
    ("memory::reserve::", Phase::Fault),
    ("arch::paging::", Phase::Fault),
    ("callchain::", Phase::Chain),
    ("memory::stack::", Phase::Chain),
];

/// Parts of names of functions that say nothing.
const NEUTRAL: &[&str] = &["nmi::counters::"];

/// Parts of names of functions that own what is not another one's.
const INNERMOST: &[(&str, Phase)] = &[
    ("nmiprof_pmu::", Phase::VirtualPmu),
    ("arch::apic::", Phase::VirtualPmu),
    ("nmiprof_ring::", Phase::Record),
    ("memory::ring_memory::", Phase::Record),
    ("arch::fallible::", Phase::Record),
    ("arch::cpu::timestamp", Phase::Record),
    ("Sampler::handle", Phase::Pmu),
    ("sampler::count_overflow", Phase::Pmu),
    ("sampler::", Phase::Record),
    ("arch::percpu::", Phase::Dispatch),
    ("nmiprof_kernel::nmi::", Phase::Dispatch),
];
