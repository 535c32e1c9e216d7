//! The legacy interrupt controllers (8259): silenced, but for the lines that have a handler and are wanted.
//!
//! They start on the vectors of the CPU's exceptions, so they are moved away before they are masked: a
//! spurious interrupt must not be taken for an exception.

#![expect(unsafe_code, reason = "writes to I/O ports")]

use core::sync::atomic::{AtomicU16, Ordering};

use x86_64::instructions::port::Port;

const PRIMARY_COMMAND: u16 = 0x20;
const PRIMARY_DATA: u16 = 0x21;
const SECONDARY_COMMAND: u16 = 0xa0;
const SECONDARY_DATA: u16 = 0xa1;
/// Lines of each controller.
const LINES: u8 = 8;
/// Line of the primary controller that the secondary one is at.
const CASCADE: u8 = 2;

/// Lines that are masked, those of the secondary controller in the upper half. Written by threads of the CPU that booted.
///
/// Relaxed: the controllers' copy is what counts.
static MASKED: AtomicU16 = AtomicU16::new(u16::MAX);
/// The primary controller forgets an interrupt as soon as it is taken. An edge at its input for the secondary one that
/// the secondary knows nothing of is then spurious and over, and does not keep the next one out: QEMU sends the HPET's
/// there, when that uses the interval timer's input of the I/O APIC.
const AUTOMATIC_END: u8 = 1 << 1;

/// The four initialization words of each controller: start, first vector, wiring, 8086 mode; then the mask.
const SEQUENCE: [(u16, u8); 10] = [
    (PRIMARY_COMMAND, 0x11),
    (SECONDARY_COMMAND, 0x11),
    (PRIMARY_DATA, 0x20),
    (SECONDARY_DATA, 0x28),
    (PRIMARY_DATA, 1 << 2),
    (SECONDARY_DATA, 2),
    (PRIMARY_DATA, 1 | AUTOMATIC_END),
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

/// Lets one line through: of the primary controller, or from 8 on of the secondary one, behind a line of the primary.
pub fn unmask(line: u8) {
    // What was withdrawn while it was masked may have left the primary one waiting for this.
    end_of_interrupt(line);
    let lines = if line < LINES { 1 << line } else { 1 << line | 1 << CASCADE };
    set_masked(MASKED.load(Ordering::Relaxed) & !lines);
}

/// Masks one line.
pub fn mask(line: u8) {
    set_masked(MASKED.load(Ordering::Relaxed) | 1 << line);
}

/// Tells the controllers that the interrupt of this line was taken.
pub fn end_of_interrupt(line: u8) {
    const END_OF_INTERRUPT: u8 = 0x20;
    if line >= LINES {
        // SAFETY: the line's handler is what calls this, or nothing was taken: then it has no effect.
        unsafe { Port::<u8>::new(SECONDARY_COMMAND).write(END_OF_INTERRUPT) };
    }
    // SAFETY: as above.
    unsafe { Port::<u8>::new(PRIMARY_COMMAND).write(END_OF_INTERRUPT) };
}

fn set_masked(lines: u16) {
    MASKED.store(lines, Ordering::Relaxed);
    let [primary, secondary] = lines.to_le_bytes();
    // SAFETY: every line that is let through has a handler.
    unsafe { Port::<u8>::new(PRIMARY_DATA).write(primary) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(SECONDARY_DATA).write(secondary) };
}
