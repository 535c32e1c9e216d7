//! Breakpoints of the debug registers, one at a time: the only code that sets them.
//!
//! A breakpoint that an NMI entry hits at its exit, where the interrupted DR7 is back and the entry's state is
//! free, raises #DB on a stack of its own, and an NMI inside that would destroy what the exit still needs
//! (case 14). So what an entry executes or writes is refused, as Linux refuses its entry code and areas
//! (`arch/x86/kernel/hw_breakpoint.c`).

use core::ops::Range;

use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr7, Dr7Flags, Dr7Value};

use super::frame::WORD;
use super::percpu;
use crate::nmi::entry;

/// What raises #DB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakpoint {
    /// The instruction at this address is about to be executed.
    Execute(u64),
    /// The word at this address was written.
    Write(u64),
}

/// The breakpoint would be hit by an NMI entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

const ENABLE: u64 = 1 << 1;
const WRITES_OF_8_BYTES: u64 = 0b1001 << 16;

impl Breakpoint {
    /// Sets the breakpoint on this CPU, in place of the one before. Returns DR7.
    ///
    /// # Errors
    /// [`Refused`] where an NMI entry would hit it.
    pub fn set(self) -> Result<u64, Refused> {
        if self.is_hit_by_an_entry() { Err(Refused) } else { Ok(self.set_anywhere()) }
    }

    /// Sets the breakpoint, wherever it is: for the test of what the refusal is there for.
    pub fn set_anywhere(self) -> u64 {
        Dr0::write(self.bytes().start);
        write_control(self.control());
        control()
    }

    fn is_hit_by_an_entry(self) -> bool {
        let bytes = self.bytes();
        let overlaps = |used: Range<u64>| used.start < bytes.end && bytes.start < used.end;
        match self {
            Self::Execute(_) => overlaps(entry::text()),
            Self::Write(_) => percpu::current().nmi.stack().used_by_entries().into_iter().any(overlaps),
        }
    }

    /// Returns the bytes that it watches.
    const fn bytes(self) -> Range<u64> {
        match self {
            Self::Execute(address) => address..address + 1,
            Self::Write(address) => address..address + WORD as u64,
        }
    }

    const fn control(self) -> u64 {
        match self {
            Self::Execute(_) => ENABLE,
            Self::Write(_) => ENABLE | WRITES_OF_8_BYTES,
        }
    }
}

/// Removes the breakpoint of this CPU. Returns DR7.
pub fn clear() -> u64 {
    write_control(0);
    control()
}

/// Reads DR7.
pub fn control() -> u64 {
    Dr7::read_raw()
}

fn write_control(bits: u64) {
    if let Some(value) = Dr7Value::from_bits(bits | Dr7Flags::empty().bits()) {
        Dr7::write(value);
    }
}
