//! The real-time clock (MC146818) as a line that ticks: for machines whose interval timer ticks for somebody else.
//!
//! It ticks 2 to 8192 times a second, in powers of two. Each tick has to be acknowledged by reading a register, else there
//! is no next one. Bit 7 of the port that selects a register masks NMIs on a PC: it is always written as 0.
//!
//! Source: "MC146818A Real-Time Clock Plus RAM (RTC)" datasheet.

#![expect(unsafe_code, reason = "drives the real-time clock")]

use x86_64::instructions::port::Port;

/// Number of the line on the ISA bus.
pub const ISA_LINE: u8 = 8;

const SELECT: u16 = 0x70;
const DATA: u16 = 0x71;
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
const RATE: u8 = 0x0f;
const PERIODIC_INTERRUPT: u8 = 1 << 6;
const CLOCK_HZ: u64 = 32_768;
/// Fastest and slowest rate, as the register has them.
const RATE_FIRST: u8 = 3;
const RATE_LAST: u8 = 15;

/// Starts to tick, at the rate that is not above `hz`, if there is one.
///
/// # Context
/// Interrupts of the line masked.
pub fn start(hz: u64) {
    let rate = (RATE_FIRST..RATE_LAST).find(|rate| rate_hz(*rate) <= hz).unwrap_or(RATE_LAST);
    write(REGISTER_A, read(REGISTER_A) & !RATE | rate);
    write(REGISTER_B, read(REGISTER_B) | PERIODIC_INTERRUPT);
    acknowledge();
}

/// Stops to tick.
pub fn stop() {
    write(REGISTER_B, read(REGISTER_B) & !PERIODIC_INTERRUPT);
    acknowledge();
}

/// Lets the next tick come.
pub fn acknowledge() {
    read(REGISTER_C);
}

const fn rate_hz(rate: u8) -> u64 {
    CLOCK_HZ >> (rate - 1)
}

fn read(register: u8) -> u8 {
    // SAFETY: selects a register; NMIs stay as they are.
    unsafe { Port::<u8>::new(SELECT).write(register) };
    // SAFETY: reading has no effect but to acknowledge.
    unsafe { Port::<u8>::new(DATA).read() }
}

fn write(register: u8, value: u8) {
    // SAFETY: selects a register; NMIs stay as they are.
    unsafe { Port::<u8>::new(SELECT).write(register) };
    // SAFETY: the rate of a line that has a handler, or whether it ticks.
    unsafe { Port::<u8>::new(DATA).write(value) };
}
