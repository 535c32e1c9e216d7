//! The port with status bits that the self-test raises: no emulated device raises SERR or IOCHK.
//!
//! It behaves as the chipset does: a status bit stays until its line is disabled, and what is raised while the line
//! is disabled is not seen. Everything else goes to the real port.

use core::sync::atomic::{AtomicU8, Ordering};

use super::{Chipset, ControlPort, DISABLE_IOCHK, DISABLE_SERR, IOCHK, SERR};
use crate::selftest::turnstile::{self, Gate};

/// Status bits that are raised. Written by the thread, and cleared by the NMI's acknowledgement.
static RAISED: AtomicU8 = AtomicU8::new(0);
/// Control bits that were written last.
static CONTROL: AtomicU8 = AtomicU8::new(0);

/// Raises lines, as a device would.
pub fn raise(serr: bool, io_check: bool) {
    let status = if serr { SERR } else { 0 } | if io_check { IOCHK } else { 0 };
    RAISED.store(status, Ordering::Relaxed);
}

/// Tells whether nothing is raised any more and both lines are enabled: a reason was acknowledged.
pub fn is_acknowledged() -> bool {
    let disabled = CONTROL.load(Ordering::Relaxed) & (DISABLE_SERR | DISABLE_IOCHK);
    RAISED.load(Ordering::Relaxed) == 0 && disabled == 0
}

/// The chipset's port, and the raised bits.
pub(super) struct StagedPort(Chipset);

impl StagedPort {
    pub(super) const fn new() -> Self {
        Self(Chipset::new())
    }
}

impl ControlPort for StagedPort {
    fn read(&mut self) -> u8 {
        turnstile::pass(Gate::Port);
        self.0.read() | RAISED.load(Ordering::Relaxed)
    }

    fn write(&mut self, control: u8) {
        self.0.write(control);
        let cleared = if control & DISABLE_SERR != 0 { SERR } else { 0 }
            | if control & DISABLE_IOCHK != 0 { IOCHK } else { 0 };
        RAISED.fetch_and(!cleared, Ordering::Relaxed);
        CONTROL.store(control, Ordering::Relaxed);
    }
}
