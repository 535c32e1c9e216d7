//! Is there a UART, and does a byte get through it? Every wait here is bounded.
//!
//! A port that is not there reads as all ones. One that is there may still never send: then the driver, which waits
//! for the transmitter, would wait for ever. So a byte has to come back through the loopback before the driver is
//! asked. The divisor is set for that; whatever else is set, the driver sets again.
//!
//! Source: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National Semiconductor).

#![expect(unsafe_code, reason = "reads and writes the port's registers")]

use uart_16550::spec::registers::{FCR, IER, LCR, LSR, MCR};
use x86_64::instructions::port::Port;

use super::{COM1, PortError};

/// Registers, by their offset; the first two are the divisor while [`LCR::DLAB`] is set.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Register {
    Data = 0,
    InterruptEnable = 1,
    FifoControl = 2,
    LineControl = 3,
    ModemControl = 4,
    LineStatus = 5,
    Scratch = 7,
}

/// Reads of a register, of about a microsecond each, in which a byte of 87 microseconds has to arrive.
const READS_MAX: u32 = 100_000;

/// Tests the port.
///
/// # Errors
/// [`PortError`] where nothing can be sent.
pub(super) fn probe() -> Result<(), PortError> {
    if ![0x42, 0x73].into_iter().all(holds) {
        return Err(PortError::Absent);
    }
    prepare();
    let works = [0x5a, 0xa5].into_iter().all(comes_back);
    write(Register::ModemControl, MCR::empty().bits());
    if works { Ok(()) } else { Err(PortError::Dead) }
}

/// Tells whether the scratch register keeps a value.
fn holds(value: u8) -> bool {
    write(Register::Scratch, value);
    read(Register::Scratch) == value
}

/// Sets the fastest rate and eight bits, empties the FIFOs, and connects the transmitter to the receiver.
fn prepare() {
    const EIGHT_BITS: u8 = 0b11;
    write(Register::LineControl, LCR::DLAB.bits());
    write(Register::Data, 1);
    write(Register::InterruptEnable, 0);
    write(Register::LineControl, EIGHT_BITS);
    write(Register::InterruptEnable, IER::empty().bits());
    write(Register::FifoControl, (FCR::FIFO_ENABLE | FCR::RX_FIFO_RESET | FCR::TX_FIFO_RESET).bits());
    write(Register::ModemControl, MCR::LOOP_BACK.bits());
    // What was on its way when the loopback began arrives first.
    if reaches(LSR::TRANSMITTER_EMPTY) {
        write(Register::FifoControl, (FCR::FIFO_ENABLE | FCR::RX_FIFO_RESET).bits());
    }
}

/// Sends a byte and tells whether it arrives.
fn comes_back(byte: u8) -> bool {
    write(Register::Data, byte);
    reaches(LSR::DATA_READY) && read(Register::Data) == byte
}

/// Waits for a bit of the line status; `false` if it does not come.
fn reaches(bit: LSR) -> bool {
    (0..READS_MAX).any(|_| LSR::from_bits_retain(read(Register::LineStatus)).contains(bit))
}

fn read(register: Register) -> u8 {
    // SAFETY: COM1 belongs to this kernel, and reading one of these registers has no effect beyond the port.
    unsafe { Port::new(COM1 + register as u16).read() }
}

fn write(register: Register, value: u8) {
    // SAFETY: COM1 belongs to this kernel.
    unsafe { Port::new(COM1 + register as u16).write(value) };
}
