//! The serial line: COM1, a 16550 or one of its relatives.
//!
//! The stream owns the one [`Port`]. A fatal report may come while a frame is half sent and the stream's
//! lock is held, so it opens a second one; nothing else runs after that.
//!
//! A port that is missing or never sends would be waited for for ever, so it is [tested](probe) before it is used, and
//! the test finds out how many bytes its FIFO takes at once. That is done once: while frames leave, the test would
//! damage one. Nothing here waits: [`Port::write`] takes what there is room for, and its callers know when to give up.
//!
//! Source: "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs" (National Semiconductor).

mod probe;
mod registers;

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use nmiprof_wire::{Options, Rate};
use uart_16550::spec::registers::{FCR, IER, LCR, LSR, MCR, MSR};

pub use probe::Fifo;
use registers::{Register, read, write};

/// The interrupt line of COM1 at the legacy controller.
pub const LINE: u8 = 4;

/// How the port is set up, for a report that opens it again: [`Setup::to_bits`]. Written by [`Port::open`] alone.
///
/// Relaxed: whoever reads it runs on after that, or finds 0 and takes the default.
static SETUP: AtomicU32 = AtomicU32::new(0);

/// How the line is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How fast it is.
    pub rate: Rate,
    /// Send only while the far end says that it listens.
    pub rts_cts: bool,
}

impl Setup {
    const RTS_CTS_BIT: u32 = 1 << 16;
    const DEPTH_SHIFT: u32 = 24;

    /// Reads what the command line says. A rate that the UART can't make is refused later, at the default rate.
    pub fn of(options: &Options<'_>) -> Self {
        Self { rate: options.rate().unwrap_or(Rate::DEFAULT), rts_cts: options.rts_cts }
    }
}

/// The transmitting side of COM1.
pub struct Port {
    divisor: u16,
    rts_cts: bool,
    /// Bytes that the empty transmitter takes at once; at least 1.
    depth: u8,
}

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// No UART answers.
    Absent,
    /// A UART answers, but no byte comes through it.
    Dead,
}

impl Port {
    /// Finds and tests the port, and sets it up: 8N1, FIFOs on, interrupts off. Tells what FIFO it has.
    ///
    /// # Errors
    /// [`PortError`] where nothing can be sent.
    pub fn open(setup: Setup) -> Result<(Self, Fifo), PortError> {
        let fifo = probe::probe()?;
        let port = Self { divisor: setup.rate.divisor, rts_cts: setup.rts_cts, depth: fifo.depth };
        SETUP.store(port.to_bits(), Ordering::Relaxed);
        write(Register::FifoControl, (FCR::FIFO_ENABLE | FCR::RX_FIFO_RESET | FCR::TX_FIFO_RESET).bits());
        port.set_up();
        Ok((port, fifo))
    }

    /// Returns the port as it was opened, untouched. `None` where no UART answered in the first place.
    pub fn again() -> Option<Self> {
        Self::from_bits(SETUP.load(Ordering::Relaxed))
    }

    /// Hands bytes to the UART, as many as it has room for, and returns how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() || !self.is_ready() {
            return 0;
        }
        let burst = bytes.len().min(usize::from(self.depth));
        for byte in bytes.iter().take(burst) {
            write(Register::Data, *byte);
        }
        burst
    }

    /// Tells whether the last byte has left.
    pub fn is_idle(&self) -> bool {
        line_status().contains(LSR::TRANSMITTER_EMPTY)
    }

    /// Lets the UART raise its interrupt when there is room, and when the far end listens again; or not.
    pub fn set_interrupts(&mut self, are_wanted: bool) {
        let wanted = if are_wanted { IER::THR_EMPTY | IER::MODEM_STATUS } else { IER::empty() };
        write(Register::InterruptEnable, wanted.bits());
    }

    /// Takes note of an interrupt, so that the UART withdraws it: the next one is an edge again.
    pub fn acknowledge(&mut self) {
        read(Register::InterruptIdentification);
        read(Register::ModemStatus);
    }

    /// Tells whether the transmitter is empty, and the far end listens where that matters.
    fn is_ready(&self) -> bool {
        line_status().contains(LSR::THR_EMPTY) && (!self.rts_cts || is_clear_to_send())
    }

    /// Sets everything that was set, with interrupts off; the FIFO keeps its content, which may still be on its way.
    pub fn set_up(&self) {
        let [low, high] = self.divisor.to_le_bytes();
        let eight_bits = LCR::WORD_LENGTH0 | LCR::WORD_LENGTH1;
        write(Register::LineControl, (eight_bits | LCR::DLAB).bits());
        write(Register::Data, low);
        write(Register::InterruptEnable, high);
        write(Register::LineControl, eight_bits.bits());
        write(Register::InterruptEnable, IER::empty().bits());
        // The second output is the gate of the interrupt line on a PC.
        write(Register::ModemControl, (MCR::DTR | MCR::RTS | MCR::OUT_2_INT_ENABLE).bits());
    }

    fn to_bits(&self) -> u32 {
        let rts_cts = if self.rts_cts { Setup::RTS_CTS_BIT } else { 0 };
        u32::from(self.divisor) | rts_cts | u32::from(self.depth) << Setup::DEPTH_SHIFT
    }

    fn from_bits(bits: u32) -> Option<Self> {
        let [low, high, flags, depth] = bits.to_le_bytes();
        let divisor = u16::from_le_bytes([low, high]);
        (divisor > 0).then_some(Self { divisor, rts_cts: flags != 0, depth: depth.max(1) })
    }
}

fn line_status() -> LSR {
    LSR::from_bits_retain(read(Register::LineStatus))
}

fn is_clear_to_send() -> bool {
    MSR::from_bits_retain(read(Register::ModemStatus)).contains(MSR::CTS)
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Nothing answers at COM1 (0x3f8)",
            Self::Dead => "A serial port answers at COM1 (0x3f8), but no byte comes through it",
        })
    }
}
