//! The HPET: a counter that all CPUs read, and comparators that interrupt when it reaches them.
//!
//! - [`periodic`]: a comparator behind an I/O APIC that ticks for all CPUs;
//! - `message`: a one-shot comparator that sends a message to one CPU; second image only.
//!
//! Source: "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a. All accesses have 32 bits: where the
//! counter has 64, its lower half is read.

#![expect(unsafe_code, reason = "reads and writes HPET registers")]

#[cfg(feature = "selftest")]
pub mod message;
pub mod periodic;

use core::ptr;

use super::layout::direct;
use super::paging::MapError;
use crate::memory::space;

/// Physical address of the registers on a PC. (ACPI's table names it; all PCs have it here.)
#[cfg(feature = "selftest")]
pub const MMIO_ADDRESS: u64 = 0xfed0_0000;

/// Register offsets.
const CAPABILITIES: u64 = 0x000;
const PERIOD: u64 = 0x004;
const CONFIGURATION: u64 = 0x010;
const COUNTER: u64 = 0x0f0;
const COMPARATORS: u64 = 0x100;
const COMPARATOR_BYTES: u64 = 0x20;
/// Register offsets from the start of a comparator's.
const COMPARATOR_CONFIGURATION: u64 = 0x00;
/// From the lower half of a register to its upper one.
const UPPER: u64 = 4;
const COMPARATOR_VALUE: u64 = 0x08;

const REVISION: u32 = 0xff;
const LAST_COMPARATOR_SHIFT: u32 = 8;
const LAST_COMPARATOR_MASK: u32 = 0x1f;
/// The counter runs, and comparators interrupt.
const ENABLE: u32 = 1 << 0;
/// The comparator interrupts.
const INTERRUPT_ENABLE: u32 = 1 << 2;
/// Longest period that the specification allows: 100 ns.
const PERIOD_FS_MAX: u32 = 100_000_000;

/// The registers of an HPET, mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    physical: u64,
}

impl Registers {
    /// Those at the address that all PCs have: mapped when the kernel's address space is built.
    #[cfg(feature = "selftest")]
    const PC: Self = Self { physical: MMIO_ADDRESS };

    /// Maps the registers.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map(physical: u64) -> Result<Self, MapError> {
        space::map_device(physical).map(|_| Self { physical })
    }

    /// Returns the lower half of the counter.
    ///
    /// # Context
    /// Any, the NMI included.
    #[inline]
    pub fn counter(self) -> u32 {
        self.read(COUNTER)
    }

    /// Returns the counter's period in femtoseconds; `None` where these are no registers of an HPET.
    fn period_fs(self) -> Option<u32> {
        let period_fs = self.read(PERIOD);
        let is_sound = self.read(CAPABILITIES) & REVISION != 0 && (1..=PERIOD_FS_MAX).contains(&period_fs);
        is_sound.then_some(period_fs)
    }

    /// Returns the offset of each comparator's registers.
    fn comparators(self) -> impl Iterator<Item = u64> {
        let last = u64::from(self.read(CAPABILITIES) >> LAST_COMPARATOR_SHIFT & LAST_COMPARATOR_MASK);
        (0..=last).map(|index| COMPARATORS + index * COMPARATOR_BYTES)
    }

    /// Sets the counter, which halts, to 0.
    fn clear_counter(self) {
        self.write(COUNTER, 0);
        self.write(COUNTER + UPPER, 0);
    }

    #[inline]
    fn read(self, offset: u64) -> u32 {
        // SAFETY: the page is mapped uncached for the life of the kernel, and reading has no effect.
        unsafe { ptr::read_volatile(self.register(offset)) }
    }

    fn write(self, offset: u64, value: u32) {
        // SAFETY: (1) the page is mapped uncached for the life of the kernel; (2) the one register that makes the
        // HPET write to memory is given an address of the local APIC, which is an `NmiMessage`.
        unsafe { ptr::write_volatile(self.register(offset), value) };
    }

    const fn register(self, offset: u64) -> *mut u32 {
        direct(self.physical + offset)
    }
}
