//! System control port B (0x61): the chipset's own reasons for an NMI.
//!
//! Bit 7 is SERR (a system error on PCI), bit 6 IOCHK (an error on an expansion card). All CPUs share the
//! port, and an NMI may come on several at once, so it is read under a try-lock: whoever does not get it
//! leaves the reason to the other one. Each reason is acknowledged by disabling and enabling its line.
//!
//! Source: Intel I/O Controller Hub datasheets, "NMI Status and Control Register".

#![expect(unsafe_code, reason = "reads and writes an I/O port")]

#[cfg(feature = "selftest")]
pub mod staged;

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::Port;

const PORT: u16 = 0x61;
const SERR: u8 = 1 << 7;
const IOCHK: u8 = 1 << 6;
const DISABLE_SERR: u8 = 1 << 2;
const DISABLE_IOCHK: u8 = 1 << 3;
/// The bits that may be written; the upper ones are status.
const WRITABLE: u8 = 0x0f;

/// Held by whoever is looking. Only ever tried, never waited for.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// What the port said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing.
    None,
    /// One of these, or both; acknowledged.
    Reported {
        /// SERR.
        serr: bool,
        /// IOCHK.
        io_check: bool,
    },
    /// Somebody else is looking.
    Busy,
}

/// The port, or what stands in for it.
trait ControlPort {
    /// Reads status and control bits.
    fn read(&mut self) -> u8;
    /// Writes the control bits.
    fn write(&mut self, control: u8);
}

/// Reads the reason and acknowledges it.
///
/// # Context
/// NMI; takes no lock that it would have to wait for.
pub fn take_reason() -> Reason {
    let Some(looking) = Looking::try_begin() else { return Reason::Busy };
    let reason = read_and_acknowledge(&mut port());
    drop(looking);
    reason
}

/// The right to look at the port.
pub struct Looking(());

impl Looking {
    /// Begins to look, unless somebody does.
    pub fn try_begin() -> Option<Self> {
        // Acquire and Release: the port's read-modify-write stays between them.
        (!LOOKING.swap(true, Ordering::Acquire)).then_some(Self(()))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.store(false, Ordering::Release);
    }
}

fn read_and_acknowledge(port: &mut impl ControlPort) -> Reason {
    let status = port.read();
    let (serr, io_check) = (status & SERR != 0, status & IOCHK != 0);
    if !serr && !io_check {
        return Reason::None;
    }
    let disable = if serr { DISABLE_SERR } else { 0 } | if io_check { DISABLE_IOCHK } else { 0 };
    let enabled = status & WRITABLE & !disable;
    // Disables the lines that reported, which clears them, and enables them again.
    port.write(enabled | disable);
    port.write(enabled);
    Reason::Reported { serr, io_check }
}

/// The chipset's port.
struct Chipset(Port<u8>);

impl Chipset {
    const fn new() -> Self {
        Self(Port::new(PORT))
    }
}

impl ControlPort for Chipset {
    fn read(&mut self) -> u8 {
        // SAFETY: reading the port changes nothing.
        unsafe { self.0.read() }
    }

    fn write(&mut self, control: u8) {
        // SAFETY: the bits enable and disable NMI lines, and the speaker as it was.
        unsafe { self.0.write(control) };
    }
}

#[cfg(not(feature = "selftest"))]
const fn port() -> impl ControlPort {
    Chipset::new()
}

#[cfg(feature = "selftest")]
const fn port() -> impl ControlPort {
    staged::StagedPort::new()
}
