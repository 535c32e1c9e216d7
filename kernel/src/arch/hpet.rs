//! The HPET: a counter whose comparator sends an NMI when the counter reaches it.
//!
//! One comparator is used, one-shot, and it sends a message (FSB delivery, the same as an MSI) to the local APIC
//! of one CPU. Neither the I/O APIC nor its routing is involved. A comparator that is set while the main counter
//! halts is armed by the one store that lets the counter run ([`Hpet::start_register`]), and is due exactly
//! so many of the counter's ticks after it. So code that must not be disturbed can arm it without a call.
//!
//! Under QEMU the counter has a period of 10 ns, which `-icount shift=0` makes 10 instructions. Its comparators
//! have FSB delivery only with `-global hpet.msi=on`. A comparator with FSB delivery sets no status bit there,
//! so whether it is due is read off the counter.
//!
//! Source: "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a. All accesses have 32 bits.

#![expect(unsafe_code, reason = "reads and writes HPET registers")]

use core::{fmt, ptr};

use super::apic::NmiMessage;
use super::layout::direct;

/// Physical address of the registers on a PC. (ACPI's HPET table would name it; all PCs have it here.)
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
const COMPARATOR_VALUE: u64 = 0x08;
const MESSAGE_DATA: u64 = 0x10;
const MESSAGE_ADDRESS: u64 = 0x14;
/// From the lower half of a register to its upper one.
const UPPER: u64 = 4;

const REVISION: u32 = 0xff;
const LAST_COMPARATOR_SHIFT: u32 = 8;
const LAST_COMPARATOR_MASK: u32 = 0x1f;
/// The counter runs, and comparators interrupt.
const ENABLE: u32 = 1 << 0;
/// The comparator interrupts.
const INTERRUPT_ENABLE: u32 = 1 << 2;
/// The comparator sends a message.
const FSB_ENABLE: u32 = 1 << 14;
/// The comparator can do that.
const FSB_CAPABLE: u32 = 1 << 15;
/// Longest period that the specification allows: 100 ns.
const PERIOD_FS_MAX: u32 = 100_000_000;

/// The HPET of this machine, and the comparator that sends its NMIs.
#[derive(Clone, Copy, Debug)]
pub struct Hpet {
    /// Offset of the comparator's registers.
    comparator: u64,
    period_fs: u32,
}

impl Hpet {
    /// Finds the HPET, and a comparator that can send messages. The counter halts from here on.
    ///
    /// # Errors
    /// [`HpetError`] where there is none.
    pub fn find() -> Result<Self, HpetError> {
        let (capabilities, period_fs) = (read(CAPABILITIES), read(PERIOD));
        let has_period = (1..=PERIOD_FS_MAX).contains(&period_fs);
        if capabilities & REVISION == 0 || !has_period {
            return Err(HpetError::NoHpet);
        }
        write(CONFIGURATION, 0);
        let last = u64::from(capabilities >> LAST_COMPARATOR_SHIFT & LAST_COMPARATOR_MASK);
        let mut comparators = (0..=last).map(|index| COMPARATORS + index * COMPARATOR_BYTES);
        let capable = comparators.find(|at| read(at + COMPARATOR_CONFIGURATION) & FSB_CAPABLE != 0);
        capable.map(|comparator| Self { comparator, period_fs }).ok_or(HpetError::NoMessages)
    }

    /// Returns the counter's period in femtoseconds.
    pub const fn period_fs(self) -> u32 {
        self.period_fs
    }

    /// Lets the comparator send this message from now on, once each time it is due.
    pub fn route(self, message: NmiMessage) {
        write(self.comparator + MESSAGE_DATA, message.data);
        write(self.comparator + MESSAGE_ADDRESS, message.address);
        write(self.comparator + COMPARATOR_CONFIGURATION, INTERRUPT_ENABLE | FSB_ENABLE);
    }

    /// Sets the comparator, `ticks` of the counter from [the start](Self::start_register), which the caller does.
    ///
    /// # Context
    /// The counter halts.
    pub fn set(self, ticks: u32) {
        write(COUNTER, 0);
        write(COUNTER + UPPER, 0);
        write(self.comparator + COMPARATOR_VALUE, ticks);
        write(self.comparator + COMPARATOR_VALUE + UPPER, 0);
    }

    /// Halts the counter: what is not due yet will not be.
    pub fn stop(self) {
        write(CONFIGURATION, 0);
    }

    /// Returns the register that starts the counter, and what is to be stored there.
    pub const fn start_register(self) -> (*mut u32, u32) {
        (register(CONFIGURATION), ENABLE)
    }
}

/// Returns the lower half of the counter.
///
/// # Context
/// Any, the NMI included, on a machine that has an HPET.
#[inline]
pub fn counter() -> u32 {
    read(COUNTER)
}

/// Why there is nothing to send NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpetError {
    /// There is no HPET.
    NoHpet,
    /// No comparator can send messages.
    NoMessages,
}

impl fmt::Display for HpetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHpet => "this machine has no HPET at 0xfed00000; run QEMU's `-M pc` without `-no-hpet`",
            Self::NoMessages => "the HPET has no FSB delivery; give QEMU `-global hpet.msi=on`",
        })
    }
}

#[inline]
fn read(offset: u64) -> u32 {
    // SAFETY: the page is mapped uncached for the life of the kernel, and reading has no effect.
    unsafe { ptr::read_volatile(register(offset)) }
}

fn write(offset: u64, value: u32) {
    // SAFETY: (1) the page is mapped uncached for the life of the kernel; (2) the one register that makes the
    // HPET write to memory is given an address of the local APIC, which is an `NmiMessage`.
    unsafe { ptr::write_volatile(register(offset), value) };
}

const fn register(offset: u64) -> *mut u32 {
    direct(MMIO_ADDRESS + offset)
}
