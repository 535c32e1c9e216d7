//! Channel 0 of the interval timer (8254): a line that ticks.
//!
//! On a PC the line is input 0 of the legacy controller, and an input of the I/O APIC (2, but ACPI says it). Who uses it
//! decides which of the two is not masked. Channel 2, which measures clocks, is another file's.
//!
//! Source: "8254 Programmable Interval Timer" datasheet.

#![expect(unsafe_code, reason = "drives the interval timer")]

use x86_64::instructions::port::Port;

/// Frequency of its clock.
pub const PIT_HZ: u64 = 1_193_182;
/// Longest period in ticks of its clock: 0 counts for it.
pub const PERIOD_MAX: u32 = 1 << 16;
/// Shortest period: the mode can't count 1.
const PERIOD_MIN: u32 = 2;
/// Number of the line on the ISA bus.
pub const ISA_LINE: u8 = 0;

const CHANNEL_0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, mode 2 (one pulse every so many ticks of its clock).
const RATE: u8 = 0b0011_0100;
/// Channel 0, both bytes, mode 0 (the line rises once, and stays).
const ONCE: u8 = 0b0011_0000;

/// Lets the line tick, every so many ticks of the clock.
pub fn start(period_ticks: u32) {
    let count = period_ticks.clamp(PERIOD_MIN, PERIOD_MAX);
    // The largest one does not fit and is written as 0.
    load(RATE, u16::try_from(count).unwrap_or(0));
}

/// Lets the line be quiet: after one more edge, at once.
///
/// The mode alone is not enough: there is no way to stop a channel but to let it run out.
pub fn park() {
    load(ONCE, 1);
}

fn load(command: u8, count: u16) {
    // SAFETY: programs channel 0; who it is for the owner of the line knows.
    unsafe { Port::<u8>::new(COMMAND).write(command) };
    for byte in count.to_le_bytes() {
        // SAFETY: one half of the count, in the order that the command asked for.
        unsafe { Port::<u8>::new(CHANNEL_0).write(byte) };
    }
}
