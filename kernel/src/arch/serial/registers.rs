//! The registers of COM1.

#![expect(unsafe_code, reason = "reads and writes I/O ports")]

use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;

/// Registers, by their offset; the first two are the divisor while the line control's DLAB bit is set.
#[derive(Clone, Copy)]
#[repr(u16)]
pub(super) enum Register {
    /// What is sent, and what was received.
    Data = 0,
    /// Which interrupts are wanted.
    InterruptEnable = 1,
    /// Which one there is, and whether there are FIFOs; shares its offset with [`Register::FifoControl`].
    InterruptIdentification = 2,
    /// Form of a character.
    LineControl = 3,
    /// What the far end is told, and the loopback.
    ModemControl = 4,
    /// Whether bytes wait, and where.
    LineStatus = 5,
    /// What the far end says.
    ModemStatus = 6,
    /// A byte that means nothing.
    Scratch = 7,
}

impl Register {
    /// The FIFOs' control: it is written where [`Register::InterruptIdentification`] is read.
    #[expect(non_upper_case_globals, reason = "a register like the others")]
    pub(super) const FifoControl: Self = Self::InterruptIdentification;
}

pub(super) fn read(register: Register) -> u8 {
    // SAFETY: COM1 belongs to this kernel, and reading one of these registers has no effect beyond the port.
    unsafe { Port::new(COM1 + register as u16).read() }
}

pub(super) fn write(register: Register, value: u8) {
    // SAFETY: COM1 belongs to this kernel.
    unsafe { Port::new(COM1 + register as u16).write(value) };
}
