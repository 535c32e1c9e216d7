//! The tick: a periodic interrupt that lets the scheduler take the CPU away from a thread.
//!
//! It comes from channel 0 of the interval timer (8254) through the legacy interrupt controller. The local
//! APIC's timer would be the usual choice, but it is what the virtual PMU counts with; a kernel whose PMU is
//! the CPU's own can move the tick there by changing this file alone. Under an emulator whose time is
//! instructions, this one is as exact and as deterministic.

#![expect(unsafe_code, reason = "drives the interval timer and the interrupt controller")]

use x86_64::instructions::port::Port;

use super::apic::LocalApic;
use super::{clock::PIT_HZ, pic};

const CHANNEL_0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, mode 2 (one pulse every so many ticks of its clock).
const CHANNEL_0_RATE: u8 = 0b0011_0100;
/// The interrupt line of channel 0.
const LINE: u8 = 0;

/// Slowest tick: the channel counts at most 65,536 ticks of its clock.
pub const HZ_MIN: u64 = PIT_HZ / 65_536 + 1;

/// Starts to tick, `hz` times a second.
///
/// # Context
/// Thread, with the handler in place.
pub fn start(apic: LocalApic, hz: u64) {
    let count = u16::try_from(PIT_HZ / hz.clamp(HZ_MIN, PIT_HZ)).unwrap_or(u16::MAX).max(2);
    // SAFETY: programs channel 0, which nothing else uses.
    unsafe { Port::<u8>::new(COMMAND).write(CHANNEL_0_RATE) };
    for byte in count.to_le_bytes() {
        // SAFETY: one half of the count, in the order that the command asked for.
        unsafe { Port::<u8>::new(CHANNEL_0).write(byte) };
    }
    apic.enable_legacy_interrupts();
    pic::unmask(LINE);
}

/// Stops to tick.
pub fn stop() {
    pic::mask(LINE);
}

/// Tells the controller that the interrupt was taken.
///
/// # Context
/// The tick's interrupt.
pub fn acknowledge() {
    pic::end_of_interrupt();
}
