//! Does a counter count? The first half of the self-test; the second, whether it interrupts, takes an NMI.
//!
//! Some machines accept every write to a PMU and remember none of it, others announce one in CPUID and implement
//! nothing. So a counter has to give back what was written to it, and to have moved on after a piece of work.

use crate::counter::Counter;
use crate::unit::{CounterUnit, Encoding};

/// What a counter did during a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It does not give back what was written to it.
    Forgets,
    /// It counted so many events: none, if it is dead.
    Events(u64),
}

/// Lets one counter count an event during `work`, without any overflow.
///
/// # Context
/// Thread, with nothing else counted.
pub fn count_during(
    unit: &mut impl CounterUnit,
    counter: Counter,
    encoding: Encoding,
    work: impl FnOnce(),
) -> Counted {
    let mask = mask_of(unit.capabilities().width_bits(counter));
    unit.reset();
    unit.program(counter, Some(encoding));
    let loaded = unit.load_max(counter);
    unit.load(counter, loaded);
    let before = unit.read(counter);
    if before != loaded.wrapping_neg() & mask {
        unit.shut_down();
        return Counted::Forgets;
    }
    unit.enable(counter.set());
    work();
    unit.disable(counter.set());
    let events = unit.read(counter).wrapping_sub(before) & mask;
    unit.shut_down();
    Counted::Events(events)
}

fn mask_of(width_bits: u8) -> u64 {
    u64::MAX.checked_shr(u64::BITS.saturating_sub(u32::from(width_bits))).unwrap_or(0)
}
