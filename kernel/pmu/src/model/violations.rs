//! What hardware lets pass and a correct driver does not do.
//!
//! A violation changes nothing in the model; it is counted, and a test may ask for none.

/// Things that were done to a model, by how often.
///
/// | field | what the manuals say |
/// |---|---|
/// | `written_while_counting` | stop a counter before writing it, or the events around the write are lost (PPR, "`PERF_CTL`": disable, change, enable) |
/// | `changed_while_counting` | disable a counter before its event is changed (the same); the global register does that as well as EN, for both have to be set (SDM volume 3, `IA32_PERF_GLOBAL_CTRL`) |
/// | `started_with_overflow` | clear the overflow before a value is reloaded or an event is set up (SDM volume 3, `IA32_PERF_GLOBAL_OVF_CTRL`) |
/// | `unmasked_with_overflow` | acknowledge overflows before the LVT entry is unmasked (Intel; see [`super::Flaw::RaisesOnUnmask`]) |
/// | `reserved_bits` | write reserved bits as 0: AMD's registers and the LVT entry ignore them |
/// | `read_only` | don't write what is read-only: AMD ignores it |
/// | `faults` | accesses that raised #GP: allowed while a driver looks for registers, and not later |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// A counter was written while it counted.
    pub written_while_counting: u32,
    /// The event of a counter was changed while it counted, and it was not stopped by that.
    pub changed_while_counting: u32,
    /// A counter began to count while the global status said that it had overflowed.
    pub started_with_overflow: u32,
    /// The LVT entry was unmasked while the global status said that a counter had overflowed (Intel).
    pub unmasked_with_overflow: u32,
    /// A reserved bit was written, where hardware ignores that.
    pub reserved_bits: u32,
    /// A read-only register was written, where hardware ignores that.
    pub read_only: u32,
    /// An access raised #GP.
    pub faults: u32,
}

/// Counts one more.
pub(super) const fn count(violation: &mut u32) {
    *violation = violation.saturating_add(1);
}
