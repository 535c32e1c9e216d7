//! Intel's event codes.
//!
//! Sources: SDM volume 3, "Architectural Performance Monitoring" (codes, bits of CPUID.0AH:EBX, what each fixed
//! counter counts); Linux 6.1, `arch/x86/events/intel/core.c` (stalled cycles, and the erratum below).
//!
//! The cores of a hybrid processor share the architectural codes, and nothing else here has different ones on them:
//! what differs is which counters there are, which the capabilities say.

use super::super::GenericEvent::{self, *};
use crate::counter::{Counter, CounterSet};
use crate::unit::select;

/// An architectural event: its code is the same on every CPU that has it.
pub(crate) struct Architectural {
    pub(crate) event: GenericEvent,
    /// Bit of CPUID.0AH:EBX that is set where the event is missing.
    pub(crate) missing_bit: u32,
    pub(crate) select: u64,
}

/// The architectural events that have a generic name.
///
/// `bus-cycles` is "unhalted reference cycles": on old CPUs their clock is the bus clock, on newer ones that of the
/// crystal or of the TSC. `ref-cycles` counts the TSC's clock everywhere, on a fixed counter, which the bits of EBX
/// say nothing about.
pub(crate) const ARCHITECTURAL: [Architectural; 7] = [
    Architectural { event: Cycles, missing_bit: 0, select: 0x003c },
    Architectural { event: Instructions, missing_bit: 1, select: 0x00c0 },
    Architectural { event: BusCycles, missing_bit: 2, select: 0x013c },
    Architectural { event: CacheReferences, missing_bit: 3, select: 0x4f2e },
    Architectural { event: CacheMisses, missing_bit: 4, select: 0x412e },
    Architectural { event: Branches, missing_bit: 5, select: 0x00c4 },
    Architectural { event: BranchMisses, missing_bit: 6, select: 0x00c5 },
];

/// Events that only a fixed counter counts, with the pseudo codes that Linux and Intel's event lists give them.
pub(crate) const FIXED_ONLY: [(GenericEvent, u64); 2] = [(RefCycles, 0x0300), (Slots, 0x0400)];

/// An event whose code depends on the model, of family 6.
pub(crate) struct OfModels {
    pub(crate) event: GenericEvent,
    pub(crate) models: &'static [u8],
    pub(crate) select: u64,
}

/// Nehalem.
const NEHALEM: &[u8] = &[0x1a, 0x1e, 0x1f, 0x2e];
/// Nehalem and Westmere.
const NEHALEM_WESTMERE: &[u8] = &[0x1a, 0x1e, 0x1f, 0x2e, 0x25, 0x2c, 0x2f];
/// Nehalem, Westmere, Sandy Bridge and Ivy Bridge.
const NEHALEM_TO_IVY_BRIDGE: &[u8] = &[0x1a, 0x1e, 0x1f, 0x2e, 0x25, 0x2c, 0x2f, 0x2a, 0x2d, 0x3a, 0x3e];
/// Sandy Bridge.
const SANDY_BRIDGE: &[u8] = &[0x2a, 0x2d];

/// Counts the cycles without an event: less than one, inverted.
const NONE_IN_CYCLE: u64 = 1 << 24 | select::INV;

/// Stalled cycles: those in which no micro-op was issued, and those in which none was dispatched. Later CPUs have
/// no one event that perf's names would fit.
pub(crate) const STALLED: [OfModels; 3] = [
    // UOPS_ISSUED.ANY
    OfModels { event: StalledCyclesFrontend, models: NEHALEM_TO_IVY_BRIDGE, select: NONE_IN_CYCLE | 0x010e },
    // UOPS_EXECUTED, all ports
    OfModels { event: StalledCyclesBackend, models: NEHALEM_WESTMERE, select: NONE_IN_CYCLE | 0x3fb1 },
    // UOPS_DISPATCHED.THREAD
    OfModels { event: StalledCyclesBackend, models: SANDY_BRIDGE, select: NONE_IN_CYCLE | 0x01b1 },
];

/// What takes the place of an architectural event that EBX says is missing.
///
/// Early Nehalems say so of mispredicted branches for an erratum (AAJ80: the event counts wrongly); those that were
/// executed (`BR_MISP_EXEC.ANY`) are some more than those that retired, and near enough.
pub(crate) const INSTEAD_OF_MISSING: [OfModels; 1] =
    [OfModels { event: BranchMisses, models: NEHALEM, select: 0x7f89 }];

/// Returns the code of a model's own event.
pub(crate) fn of_model(table: &[OfModels], event: GenericEvent, family: u16, model: u8) -> Option<u64> {
    let fits = |row: &&OfModels| row.event == event && row.models.contains(&model);
    if family == 6 { table.iter().find(fits).map(|row| row.select) } else { None }
}

/// Returns the counters that can count a code, whether they are there or not. `general`: those that are.
///
/// A code of event 0 is no event: its unit mask says which fixed counter is meant, from 1 on, as in Intel's event
/// lists. A fixed counter knows no conditions, so it stands in for the whole code or not at all.
pub(crate) fn counters_of(select: u64, general: CounterSet) -> CounterSet {
    let fixed = |index| Counter::fixed(index).map_or(CounterSet::EMPTY, Counter::set);
    match select {
        0x00c0 => general.union(fixed(0)),
        0x003c => general.union(fixed(1)),
        0x0100 => fixed(0),
        0x0200 => fixed(1),
        0x0300 => fixed(2),
        0x0400 => fixed(3),
        _ if select & select::EVENT == 0 => CounterSet::EMPTY,
        _ => general,
    }
}
