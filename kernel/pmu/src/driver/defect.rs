//! Known mistakes, one by one, for tests of tests.
//!
//! A check of the driver is worth what it refuses. [`Defect`] turns each classic mistake of a counter driver into a
//! constant that a type sets: `Driver<B, Sound>` has none of them, and the compiler drops every branch that asks. A
//! test suite runs against each defective type as well, and has to fail there.
//!
//! Not every defect shows on every interface: what acknowledges a status register has no place where there is none.

/// Mistakes that a driver makes. For tests: everything but [`Sound`] is wrong.
pub trait Defect {
    /// Never writes the LVT entry in the handler: Intel's mask bit stays, and no second PMI comes.
    const FORGETS_UNMASK: bool = false;
    /// Leaves the overflow bits set: the same overflow is found again and again.
    const FORGETS_ACKNOWLEDGE: bool = false;
    /// Acknowledges all counters instead of those that it has read: an overflow between the two is lost.
    const ACKNOWLEDGES_UNREAD: bool = false;
    /// Loads one event more than asked for.
    const RELOADS_ONE_TOO_MANY: bool = false;
    /// Writes the low 32 bits of a load where the register takes all: the counter starts far from its end.
    const DOES_NOT_EXTEND_THE_SIGN: bool = false;
    /// Loads as many events as 32 bits can say, though bit 31 is the sign of what is written.
    const LOADS_BEYOND_THE_SIGN: bool = false;
    /// Sets bit 63 of an event select.
    const WRITES_RESERVED_BIT: bool = false;
    /// Lets a counter count as soon as it is programmed, with what it holds.
    const ENABLES_BEFORE_LOAD: bool = false;
    /// Returns the lowest counter only, and acknowledges all.
    const IGNORES_SECOND_OVERFLOW: bool = false;
    /// Lets the counters run while the handler works.
    const DOES_NOT_STOP: bool = false;
    /// Leaves the counters stopped at the end of the handler.
    const FORGETS_RESUME: bool = false;
    /// Resumes every programmed counter, the disabled ones too.
    const RESUMES_DISABLED: bool = false;
    /// Does not ask for an interrupt at overflow.
    const FORGETS_INTERRUPT: bool = false;
    /// Swaps the bits for CPL 0 and for the others.
    const SWAPS_PRIVILEGES: bool = false;
    /// Programs one fixed counter and takes the others' control bits away.
    const OVERWRITES_FIXED_NEIGHBOURS: bool = false;
    /// Never thaws counters that a PMI has frozen.
    const STAYS_FROZEN: bool = false;
    /// Keeps an overflow that came before the load of a stopped counter.
    const KEEPS_STALE_OVERFLOW: bool = false;
    /// Returns overflows of counters that are not enabled.
    const RETURNS_DISABLED: bool = false;
    /// Looks for an overflow in bit 31, whatever the width: after 2^31 events a counter seems to have overflowed.
    const TOP_BIT_IS_31: bool = false;
    /// Reports a counter that has not been loaded again, as often as asked.
    const REPORTS_TWICE: bool = false;
}

/// No mistake that we know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound;

impl Defect for Sound {}
