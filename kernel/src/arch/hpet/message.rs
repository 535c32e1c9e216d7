//! A comparator that sends an NMI when the counter reaches it.
//!
//! One comparator is used, one-shot, and it sends a message (FSB delivery, the same as an MSI) to the local APIC
//! of one CPU. Neither the I/O APIC nor its routing is involved. A comparator that is set while the main counter
//! halts is armed by the one store that lets the counter run ([`Hpet::start_register`]), and is due exactly
//! so many of the counter's ticks after it. So code that must not be disturbed can arm it without a call.
//!
//! Under QEMU the counter has a period of 10 ns, which `-icount shift=0` makes 10 instructions. Its comparators
//! have FSB delivery only with `-global hpet.msi=on`. A comparator with FSB delivery sets no status bit there,
//! so whether it is due is read off the counter.

use core::fmt;

use super::{
    COMPARATOR_CONFIGURATION, COMPARATOR_VALUE, CONFIGURATION, ENABLE, INTERRUPT_ENABLE, Registers, UPPER,
};
use crate::arch::apic::NmiMessage;

/// Register offsets from the start of a comparator's.
const MESSAGE_DATA: u64 = 0x10;
const MESSAGE_ADDRESS: u64 = 0x14;

/// The comparator sends a message.
const FSB_ENABLE: u32 = 1 << 14;
/// The comparator can do that.
const FSB_CAPABLE: u32 = 1 << 15;

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
        let registers = Registers::PC;
        let period_fs = registers.period_fs().ok_or(HpetError::NoHpet)?;
        registers.write(CONFIGURATION, 0);
        let mut comparators = registers.comparators();
        let capable = comparators.find(|at| registers.read(at + COMPARATOR_CONFIGURATION) & FSB_CAPABLE != 0);
        capable.map(|comparator| Self { comparator, period_fs }).ok_or(HpetError::NoMessages)
    }

    /// Returns the counter's period in femtoseconds.
    pub const fn period_fs(self) -> u32 {
        self.period_fs
    }

    /// Lets the comparator send this message from now on, once each time it is due.
    pub fn route(self, message: NmiMessage) {
        self.write(MESSAGE_DATA, message.data);
        self.write(MESSAGE_ADDRESS, message.address);
        self.write(COMPARATOR_CONFIGURATION, INTERRUPT_ENABLE | FSB_ENABLE);
    }

    /// Sets the comparator, `ticks` of the counter from [the start](Self::start_register), which the caller does.
    ///
    /// # Context
    /// The counter halts.
    pub fn set(self, ticks: u32) {
        Registers::PC.clear_counter();
        self.write(COMPARATOR_VALUE, ticks);
        self.write(COMPARATOR_VALUE + UPPER, 0);
    }

    /// Halts the counter: what is not due yet will not be.
    pub fn stop(self) {
        Registers::PC.write(CONFIGURATION, 0);
    }

    /// Returns the register that starts the counter, and what is to be stored there.
    pub const fn start_register(self) -> (*mut u32, u32) {
        (Registers::PC.register(CONFIGURATION), ENABLE)
    }

    fn write(self, offset: u64, value: u32) {
        Registers::PC.write(self.comparator + offset, value);
    }
}

/// Returns the lower half of the counter.
///
/// # Context
/// Any, the NMI included, on a machine that has an HPET.
#[inline]
pub fn counter() -> u32 {
    Registers::PC.counter()
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
