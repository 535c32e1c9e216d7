//! The serial line: COM1, a 16550.
//!
//! The stream owns the one [`Port`]. A fatal report may come while a frame is half sent and the stream's
//! lock is held, so it opens a second one; nothing else runs after that.

#![expect(unsafe_code, reason = "owns I/O ports")]

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::LSR;
use uart_16550::{BaudRate, Config, Uart16550};

const COM1: u16 = 0x3f8;

/// The transmitting side of COM1.
pub struct Port(Uart16550<PioBackend>);

impl Port {
    /// Sets the port up: 115200 baud, 8N1, FIFOs on. Returns `None` where no UART answers.
    pub fn open() -> Option<Self> {
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
            core::hint::spin_loop();
        }
    }
}
