//! The serial line: COM1, a 16550.
//!
//! The stream owns the one [`Port`]. A fatal report may come while a frame is half sent and the stream's
//! lock is held, so it opens a second one; nothing else runs after that.
//!
//! A port may be missing, and then its registers read as all ones; or there is something that never sends. Whoever
//! waits for such a port waits for ever, so a byte has to come back through its loopback before it is used. That is
//! done once: while frames leave, a loopback would damage one.

#![expect(unsafe_code, reason = "owns I/O ports")]

use core::fmt;
use core::hint::spin_loop;

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{LSR, MCR};
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port as IoPort;

const COM1: u16 = 0x3f8;
const DATA: u16 = COM1;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;

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
        let port = Self::reopen().ok_or(PortError::Absent)?;
        if comes_back(0x5a) && comes_back(0xa5) { Ok(port) } else { Err(PortError::Dead) }
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
            Self::Absent => "nothing answers at the port of COM1 (0x3f8)",
            Self::Dead => "a serial port answers at COM1 (0x3f8), but it does not send",
        })
    }
}

/// Sends a byte to the port's own receiver, and tells whether it arrives.
///
/// The FIFOs have just been emptied, so nothing is on its way.
fn comes_back(byte: u8) -> bool {
    /// A byte takes 87 microseconds, and a read of a register a microsecond or less.
    const READS_MAX: u32 = 200_000;
    let mut control = IoPort::<u8>::new(MODEM_CONTROL);
    let (mut data, mut status) = (IoPort::<u8>::new(DATA), IoPort::<u8>::new(LINE_STATUS));
    // SAFETY: COM1 belongs to this kernel; reading changes nothing.
    let before = unsafe { control.read() };
    // SAFETY: as above; in loopback nothing leaves the port.
    unsafe { control.write(MCR::LOOP_BACK.bits()) };
    // SAFETY: as above; the transmitter is empty.
    unsafe { data.write(byte) };
    let arrived = (0..READS_MAX).any(|_| {
        // SAFETY: as above; what a read clears are errors that nobody looks at.
        LSR::from_bits_retain(unsafe { status.read() }).contains(LSR::DATA_READY)
    });
    // SAFETY: as above; what is read, if anything, was sent here.
    let received = unsafe { data.read() };
    // SAFETY: puts the register back as it was.
    unsafe { control.write(before) };
    arrived && received == byte
}
