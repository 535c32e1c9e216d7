//! The line: frames out, one at a time.
//!
//! # Context
//! Thread only: there is a lock. NMIs never write to the line; a fatal report goes around this.

use core::fmt;

use nmiprof_wire::{Frame, LINE_BYTES_MAX, Log, LogLevel, encode};

use crate::arch::cpu;
use crate::arch::serial::{Port, PortError};
use crate::lock::Mutex;
use crate::text::FixedText;

static STREAM: Mutex<Option<Stream>> = Mutex::new(None);

struct Stream {
    port: Port,
    line: [u8; LINE_BYTES_MAX],
}

/// Opens the line.
///
/// # Errors
/// [`PortError`] where there is none: then there is nobody to profile for.
pub fn open() -> Result<(), PortError> {
    let mut port = Port::open()?;
    // Ends whatever firmware has left on the line.
    port.send(&[0]);
    *STREAM.lock() = Some(Stream { port, line: [0; LINE_BYTES_MAX] });
    Ok(())
}

/// Sends one frame, waiting for the UART.
pub fn send(frame: &Frame<'_>) {
    if let Some(stream) = STREAM.lock().as_mut()
        && let Ok(bytes) = encode(frame, &mut stream.line)
    {
        stream.port.send(bytes);
    }
}

/// Waits until everything has left the UART.
pub fn flush() {
    if let Some(stream) = STREAM.lock().as_mut() {
        stream.port.flush();
    }
}

/// Sends one line of text.
pub fn log(level: LogLevel, text: fmt::Arguments<'_>) {
    let text = FixedText::<480>::format(text);
    send(&Frame::Log(Log { time: cpu::timestamp(), level, text: text.as_str() }));
}

/// Sends one warning, formatted.
#[macro_export]
macro_rules! warning {
    ($($text:tt)*) => {
        $crate::stream::log(nmiprof_wire::LogLevel::Warning, format_args!($($text)*))
    };
}

/// Sends one line of information, formatted.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => {
        $crate::stream::log(nmiprof_wire::LogLevel::Info, format_args!($($text)*))
    };
}
