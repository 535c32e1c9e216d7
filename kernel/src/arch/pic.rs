//! The legacy interrupt controllers (8259): silenced, but for the lines that have a handler and are wanted.
//!
//! They start on the vectors of the CPU's exceptions, so they are moved away before they are masked: a
//! spurious interrupt must not be taken for an exception.

#![expect(unsafe_code, reason = "writes to I/O ports")]

use core::sync::atomic::{AtomicU8, Ordering};

use x86_64::instructions::port::Port;

const PRIMARY_COMMAND: u16 = 0x20;
const PRIMARY_DATA: u16 = 0x21;
const SECONDARY_COMMAND: u16 = 0xa0;
const SECONDARY_DATA: u16 = 0xa1;

/// Lines of the primary controller that are masked. Written by threads of the CPU that booted.
///
/// Relaxed: the controller's copy is what counts.
static MASKED: AtomicU8 = AtomicU8::new(u8::MAX);

/// The four initialization words of each controller: start, first vector, wiring, 8086 mode; then the mask.
const SEQUENCE: [(u16, u8); 10] = [
    (PRIMARY_COMMAND, 0x11),
    (SECONDARY_COMMAND, 0x11),
    (PRIMARY_DATA, 0x20),
    (SECONDARY_DATA, 0x28),
    (PRIMARY_DATA, 1 << 2),
    (SECONDARY_DATA, 2),
    (PRIMARY_DATA, 1),
    (SECONDARY_DATA, 1),
    (PRIMARY_DATA, 0xff),
    (SECONDARY_DATA, 0xff),
];

/// Masks every legacy interrupt.
///
/// With every source masked none arrives; interrupts are enabled all the same, for the flag is what tells code that
/// runs with interrupts enabled from code that does not.
pub fn silence() {
    for (port, value) in SEQUENCE {
        // SAFETY: programs the interrupt controllers, which nothing else uses.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

/// Lets one line of the primary controller through.
pub fn unmask(line: u8) {
    let masked = MASKED.load(Ordering::Relaxed) & !(1 << line);
    set_masked(masked);
}

/// Masks one line of the primary controller.
pub fn mask(line: u8) {
    let masked = MASKED.load(Ordering::Relaxed) | 1 << line;
    set_masked(masked);
}

fn set_masked(masked: u8) {
    MASKED.store(masked, Ordering::Relaxed);
    // SAFETY: every line that is let through has a handler.
    unsafe { Port::<u8>::new(PRIMARY_DATA).write(masked) };
}

/// Tells the primary controller that the interrupt it raised was taken.
pub fn end_of_interrupt() {
    const END_OF_INTERRUPT: u8 = 0x20;
    // SAFETY: its handler is what calls this.
    unsafe { Port::<u8>::new(PRIMARY_COMMAND).write(END_OF_INTERRUPT) };
}
