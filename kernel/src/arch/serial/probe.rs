//! Is there a UART, does a byte get through it, and how many at once? Every wait here is bounded.
//!
//! A port that is not there reads as all ones. One that is there may still never send: then whoever waits for the
//! transmitter would wait for ever. So a byte has to come back through the loopback before the port is used.
//!
//! How many bytes an empty transmitter takes at once, the UART's name says, and names lie: there are chips that
//! announce a FIFO which does not work (the first 16550 did), and emulators that announce one and have none. So as many
//! bytes as are announced are sent through the loopback in one go, and what comes back is believed.
//!
//! The divisor is set for that; whatever else is set, the driver sets again.
//!
//! Sources: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National Semiconductor); "TL16C750
//! Asynchronous Communications Element" (Texas Instruments) for the FIFO of 64 bytes.

use core::fmt;

use uart_16550::spec::registers::{FCR, IER, LCR, LSR, MCR};

use super::PortError;
use super::registers::{Register, read, write};

/// Reads of a register, of about a microsecond each, in which a byte of 87 microseconds has to arrive.
const READS_MAX: u32 = 100_000;
const EIGHT_BITS: u8 = 0b11;
/// Bit 5 of the FIFO control, behind DLAB, and of the interrupt identification: 64 bytes.
const FIFO_64: u8 = 1 << 5;

/// What a UART has to hold bytes that wait for the transmitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Bytes that it announces.
    pub announced: u8,
    /// Bytes that it was seen to take at once; at least 1.
    pub depth: u8,
}

/// Tests the port.
///
/// # Errors
/// [`PortError`] where nothing can be sent.
pub(super) fn probe() -> Result<Fifo, PortError> {
    if ![0x42, 0x73].into_iter().all(holds) {
        return Err(PortError::Absent);
    }
    let announced = prepare();
    let works = [0x5a, 0xa5].into_iter().all(comes_back);
    let depth = if works { measure(announced) } else { 0 };
    write(Register::ModemControl, MCR::empty().bits());
    if works { Ok(Fifo { announced, depth: depth.max(1) }) } else { Err(PortError::Dead) }
}

/// Tells whether the scratch register keeps a value.
fn holds(value: u8) -> bool {
    write(Register::Scratch, value);
    read(Register::Scratch) == value
}

/// Sets the fastest rate and eight bits, empties the FIFOs, and connects the transmitter to the receiver. Returns how
/// many bytes the UART says that it holds.
fn prepare() -> u8 {
    write(Register::LineControl, LCR::DLAB.bits());
    write(Register::Data, 1);
    write(Register::InterruptEnable, 0);
    // A chip with 64 bytes takes this bit here only; others ignore it.
    write(Register::FifoControl, FCR::FIFO_ENABLE.bits() | FIFO_64);
    write(Register::LineControl, EIGHT_BITS);
    write(Register::InterruptEnable, IER::empty().bits());
    write(Register::ModemControl, MCR::LOOP_BACK.bits());
    let announced = announced(read(Register::InterruptIdentification));
    // What was on its way when the loopback began arrives first.
    reaches(LSR::TRANSMITTER_EMPTY);
    empty_fifos();
    announced
}

/// Reads the size of the FIFO in the interrupt identification.
const fn announced(identification: u8) -> u8 {
    match identification >> 6 {
        0b11 if identification & FIFO_64 != 0 => 64,
        0b11 => 16,
        // No FIFO, or that of the first 16550, which loses bytes.
        _ => 1,
    }
}

fn empty_fifos() {
    write(
        Register::FifoControl,
        (FCR::FIFO_ENABLE | FCR::RX_FIFO_RESET | FCR::TX_FIFO_RESET).bits() | FIFO_64,
    );
}

/// Sends a byte and tells whether it arrives.
fn comes_back(byte: u8) -> bool {
    write(Register::Data, byte);
    arrives(byte)
}

/// Sends so many bytes at once, and returns how many of them arrive, in order.
fn measure(announced: u8) -> u8 {
    (0..announced).for_each(|byte| write(Register::Data, byte));
    let arrived = (0..announced).take_while(|byte| arrives(*byte)).last().map_or(0, |last| last + 1);
    reaches(LSR::TRANSMITTER_EMPTY);
    empty_fifos();
    arrived
}

fn arrives(byte: u8) -> bool {
    reaches(LSR::DATA_READY) && read(Register::Data) == byte
}

/// Waits for a bit of the line status; `false` if it does not come.
fn reaches(bit: LSR) -> bool {
    (0..READS_MAX).any(|_| LSR::from_bits_retain(read(Register::LineStatus)).contains(bit))
}

impl fmt::Display for Fifo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { announced, depth } = self;
        match announced {
            0 | 1 => f.write_str("no FIFO"),
            _ if announced == depth => write!(f, "a FIFO of {depth} bytes"),
            _ => write!(f, "a FIFO of {announced} bytes announced and {depth} found"),
        }
    }
}
