//! The serial line: COM1, a 16550.
//!
//! The stream owns the one [`Port`]. A fatal report may come while a frame is half sent and the stream's
//! lock is held, so it opens a second one; nothing else runs after that.
//!
//! A port that is missing or never sends would be waited for for ever, so it is [tested](probe) before it is used.
//! That is done once: while frames leave, the test would damage one.

#![expect(unsafe_code, reason = "owns I/O ports")]

mod probe;

use core::fmt;
use core::hint::spin_loop;

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::LSR;
use uart_16550::{BaudRate, Config, Uart16550};

const COM1: u16 = 0x3f8;

/// The transmitting side of COM1.
pub struct Port(Uart16550<PioBackend>);

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// No UART answers.
    Absent,
    /// A UART answers, but no byte comes through it.
    Dead,
}

impl Port {
    /// Finds and tests the port, and sets it up: 115200 baud, 8N1, FIFOs on.
    ///
    /// # Errors
    /// [`PortError`] where nothing can be sent.
    pub fn open() -> Result<Self, PortError> {
        probe::probe()?;
        Self::reopen().ok_or(PortError::Absent)
    }

    /// Sets the port up again, without a test. Returns `None` where no UART answers.
    pub fn reopen() -> Option<Self> {
        // SAFETY: COM1 belongs to this kernel; a second handle is made only when the first is used no more.
        let mut uart = unsafe { Uart16550::new_port(COM1) }.ok()?;
        uart.init(Self::config()).ok()?;
        Some(Self(uart))
    }

    fn config() -> Config {
        Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT }
    }

    /// Sends all bytes, waiting for room in the FIFO.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.send_bytes_exact(bytes);
    }

    /// Waits until the last byte has left the transmitter.
    pub fn flush(&mut self) {
        while !self.0.lsr().contains(LSR::TRANSMITTER_EMPTY) {
            spin_loop();
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Nothing answers at COM1 (0x3f8)",
            Self::Dead => "A serial port answers at COM1 (0x3f8), but no byte comes through it",
        })
    }
}
