//! The seam between what counts and what it is counted for.
//!
//! Below it stand the vendors' drivers ([`CounterUnit`] is what they have in common), above it the engine that
//! maps events to counters, keeps periods, and accounts. Neither knows the other.

use crate::capabilities::Capabilities;
use crate::counter::{Counter, CounterSet};

/// What a counter is programmed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Event code, unit mask and conditions, at their positions in the event-select register; the other bits
    /// (USR, OS, INT, EN) are 0. Not used by fixed counters.
    pub select: u64,
    /// Counters that can count it.
    pub counters: CounterSet,
    /// Count at CPL above 0.
    pub user: bool,
    /// Count at CPL 0.
    pub kernel: bool,
}

/// Bits of an event-select register that an [`Encoding::select`] may have, by interface.
///
/// Source: SDM volume 3, `IA32_PERFEVTSELx`; APM volume 2, `PERF_CTLn`.
pub mod select {
    /// Event code, low 8 bits.
    pub const EVENT: u64 = 0xff;
    /// Unit mask.
    pub const UMASK: u64 = 0xff << 8;
    /// Count rising edges.
    pub const EDGE: u64 = 1 << 18;
    /// Count on any thread of the core (Intel, version 3 and 4).
    pub const ANY: u64 = 1 << 21;
    /// Invert the comparison with the counter mask.
    pub const INV: u64 = 1 << 23;
    /// Counter mask.
    pub const CMASK: u64 = 0xff << 24;
    /// Event code, high 4 bits (AMD).
    pub const EVENT_HIGH: u64 = 0xf << 32;
}

/// The counters of one CPU, whatever its vendor.
///
/// The life of a counter: [`CounterUnit::program`] (it is stopped then), [`CounterUnit::load`],
/// [`CounterUnit::enable`]; then it counts, and after as many events as were loaded it overflows, which is a PMI, and
/// counts on from 0. In the PMI the caller does:
///
/// 1. [`CounterUnit::begin_pmi`];
/// 2. [`CounterUnit::take_overflows`], and for each counter in the set [`CounterUnit::load`], again until the set is
///    empty, or too often: then [`CounterUnit::recover`];
/// 3. [`CounterUnit::end_pmi`].
///
/// # Context
/// Everything is called by the CPU that the counters belong to, with no other call under way: in its NMI, or while
/// no counter is enabled. Nothing here locks, allocates, panics or loops without a bound.
pub trait CounterUnit {
    /// Returns what there is.
    fn capabilities(&self) -> &Capabilities;

    /// Puts everything into a known state: all counters stopped and not programmed, no overflow pending, the LVT entry
    /// delivers NMIs and is not masked.
    fn reset(&mut self);

    /// Takes everything back: as `reset`, but the LVT entry is masked.
    fn shut_down(&mut self);

    /// Programs a counter, stopped; `None` gives it back. It interrupts at overflow. A counter that is not one of
    /// the encoding's is left as it is.
    fn program(&mut self, counter: Counter, encoding: Option<Encoding>);

    /// Returns the most events that [`CounterUnit::load`] can load: what a counter can be written with.
    fn load_max(&self, counter: Counter) -> u64;

    /// Lets a counter overflow after so many events: 1 to `load_max`, others are clamped to that.
    fn load(&mut self, counter: Counter, events: u64);

    /// Reads what a counter holds: the low `width_bits` bits, as they are.
    fn read(&mut self, counter: Counter) -> u64;

    /// Lets these programmed counters count, those of earlier calls as well.
    fn enable(&mut self, counters: CounterSet);

    /// Stops these counters.
    fn disable(&mut self, counters: CounterSet);

    /// Begins to handle an NMI: nothing counts until `end_pmi`, where that can be had.
    fn begin_pmi(&mut self);

    /// Returns the enabled counters that have overflowed since they were loaded, each once per overflow, and acknowledges them.
    fn take_overflows(&mut self) -> CounterSet;

    /// Stops what overflows again and again: all counters are stopped, no overflow is pending.
    fn recover(&mut self);

    /// Ends the handling of an NMI: what is enabled counts again, and the next overflow interrupts.
    fn end_pmi(&mut self);
}
