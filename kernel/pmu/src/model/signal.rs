//! What a counter counts: the decoding of event selects to events.
//!
//! A model without a clock of its own can't compare with a threshold or see an edge: an event select with a counter
//! mask, inversion or edge detection is an event of its own ([`Signal::Other`]), whatever its code.
//!
//! Sources: SDM volume 3, "Architectural Performance Events"; BKDGs and PPRs of the AMD families, and which of their
//! events stand for which of ours as in Linux 6.12, arch/x86/events/amd/core.c.

use crate::counter::Counter;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Cycles in which the CPU is not halted.
    UnhaltedCycles,
    /// Instructions retired.
    Instructions,
    /// Cycles of a clock of constant rate in which the CPU is not halted.
    ReferenceCycles,
    /// References to the last-level cache.
    LlcReferences,
    /// Misses of the last-level cache.
    LlcMisses,
    /// Branches retired.
    Branches,
    /// Mispredicted branches retired.
    BranchMisses,
    /// Slots of the pipeline.
    Slots,
    /// Cycles in which the front end delivers nothing.
    StalledFrontend,
    /// Cycles in which the back end accepts nothing.
    StalledBackend,
    /// Another event, or a condition on one: the event select without USR, OS, PC, INT and EN.
    Other(u64),
}

/// Which event codes an AMD CPU knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmdEvents {
    /// Families 0FH to 16H.
    K8,
    /// Family 17H before Zen 2.
    Zen1,
    /// Zen 2 and Zen 3.
    Zen2,
    /// Zen 4 and later.
    Zen4,
}

/// Bits of an event select that say how, not what, to count.
const CONTROLS: u64 = super::intel::SELECT_USER
    | super::intel::SELECT_KERNEL
    | super::intel::SELECT_PIN_CONTROL
    | super::intel::SELECT_INTERRUPT
    | super::intel::SELECT_ENABLE;

/// Counts for all threads of the core; the model has one.
const ANY_THREAD: u64 = super::intel::SELECT_ANY_THREAD;

/// Returns what an Intel event select counts. An architectural event that is missing is none.
///
/// Reference cycles are one signal, though the general counters' tick with the bus and the fixed one's with the TSC.
pub(super) const fn intel(select: u64, missing_events: u32) -> Signal {
    let other = Signal::Other(select & !CONTROLS);
    let (bit, signal) = match select & !(CONTROLS | ANY_THREAD) {
        0x003c => (0, Signal::UnhaltedCycles),
        0x00c0 => (1, Signal::Instructions),
        0x013c => (2, Signal::ReferenceCycles),
        0x4f2e => (3, Signal::LlcReferences),
        0x412e => (4, Signal::LlcMisses),
        0x00c4 => (5, Signal::Branches),
        0x00c5 => (6, Signal::BranchMisses),
        0x01a4 => (7, Signal::Slots),
        _ => return other,
    };
    if missing_events & 1 << bit == 0 { signal } else { other }
}

/// Returns what an Intel fixed counter counts.
pub(super) const fn intel_fixed(counter: Counter) -> Signal {
    match counter.index() {
        0 => Signal::Instructions,
        1 => Signal::UnhaltedCycles,
        2 => Signal::ReferenceCycles,
        3 => Signal::Slots,
        _ => Signal::Other(0),
    }
}

/// Returns what an AMD event select counts.
pub(super) const fn amd(select: u64, events: AmdEvents) -> Signal {
    use AmdEvents::{K8, Zen1, Zen2, Zen4};
    match (select & !(CONTROLS | super::amd::SELECT_GUEST_HOST), events) {
        (0x0076, _) => Signal::UnhaltedCycles,
        (0x00c0, _) => Signal::Instructions,
        (0x00c2, _) => Signal::Branches,
        (0x00c3, _) => Signal::BranchMisses,
        (0x077d, K8) | (0xff60, Zen1 | Zen2 | Zen4) => Signal::LlcReferences,
        (0x077e, K8) | (0x0964, Zen1 | Zen2 | Zen4) => Signal::LlcMisses,
        (0x00d0, K8) | (0x0287, Zen1) | (0x00a9, Zen2 | Zen4) => Signal::StalledFrontend,
        (0x00d1, K8) | (0x0187, Zen1) => Signal::StalledBackend,
        (0x0001_0000_0120, Zen4) => Signal::ReferenceCycles,
        (other, _) => Signal::Other(other),
    }
}
