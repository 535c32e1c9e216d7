//! System control port B (0x61): the chipset's own reasons for an NMI.
//!
//! Bit 7 is SERR (a system error on PCI), bit 6 IOCHK (an error on an expansion card). All CPUs share the
//! port, and an NMI may come on several at once, so it is read under a try-lock: whoever does not get it
//! leaves the reason to the other one. Each reason is acknowledged by disabling and enabling its line.

#![expect(unsafe_code, reason = "reads and writes an I/O port")]

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;

const PORT: u16 = 0x61;
const SERR: u8 = 1 << 7;
const IOCHK: u8 = 1 << 6;
const DISABLE_SERR: u8 = 1 << 2;
const DISABLE_IOCHK: u8 = 1 << 3;
/// The bits that may be written; the upper ones are status.
const WRITABLE: u8 = 0x0f;

/// Held by the CPU that is looking. Only ever tried, never waited for.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// What the port said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing.
    None,
    /// SERR or IOCHK; acknowledged.
    External,
    /// Another CPU is looking.
    Busy,
}

/// Reads the reason and acknowledges it.
///
/// # Context
/// NMI; takes no lock that it would have to wait for.
pub fn take_reason() -> Reason {
    // Acquire and Release: the port's read-modify-write stays between them.
    if LOOKING.swap(true, Ordering::Acquire) {
        return Reason::Busy;
    }
    let reason = read_and_acknowledge();
    LOOKING.store(false, Ordering::Release);
    reason
}

fn read_and_acknowledge() -> Reason {
    let mut port = Port::<u8>::new(PORT);
    // SAFETY: reading the port changes nothing.
    let status = unsafe { port.read() };
    let disable = if status & SERR != 0 { DISABLE_SERR } else { 0 }
        | if status & IOCHK != 0 { DISABLE_IOCHK } else { 0 };
    if disable == 0 {
        return Reason::None;
    }
    let enabled = status & WRITABLE & !disable;
    // SAFETY: disables the lines that reported, which clears them.
    unsafe { port.write(enabled | disable) };
    // SAFETY: enables them again.
    unsafe { port.write(enabled) };
    Reason::External
}
