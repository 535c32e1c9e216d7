//! Where an interface keeps its registers.
//!
//! The interfaces differ in addresses and in what they lack, not in what a counter is. So a table of addresses is all
//! that [`intel`](super::intel) and [`amd`](super::amd) have to say, and one driver walks through it.

/// Most general-purpose counters that any interface has addresses for: PerfMonV2 counts them in four bits.
pub(super) const GENERAL_MAX: usize = 15;

/// The registers of an interface.
///
/// | field | meaning |
/// |---|---|
/// | `select_first`, `count_first` | MSR of the event select and of the count of general counter 0 |
/// | `stride` | distance from one counter's MSR to the next one's |
/// | `general_max` | general counters that have addresses |
/// | `select_valid` | bits that an encoding may set in an event select |
/// | `write_bits` | low bits that a write of a count reaches; the last of them is copied to those above |
/// | `fixed` | of the fixed-function counters |
/// | `global` | of all counters at once |
/// | `debug_control` | MSR whose bit 12 freezes all counters at a PMI |
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    pub(super) select_first: u32,
    pub(super) count_first: u32,
    pub(super) stride: u32,
    pub(super) general_max: u8,
    pub(super) select_valid: u64,
    pub(super) write_bits: u8,
    pub(super) fixed: Option<Fixed>,
    pub(super) global: Option<Global>,
    pub(super) debug_control: Option<u32>,
}

/// The registers of the fixed-function counters: four control bits for each, and a count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pub(super) control: u32,
    pub(super) count_first: u32,
}

/// The registers that start, ask and acknowledge all counters at once, a bit for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Global {
    pub(super) control: u32,
    pub(super) status: u32,
    pub(super) acknowledge: u32,
    /// Status bit that says that a PMI has frozen all counters; 0 where there is none.
    pub(super) frozen: u64,
}
