//! How fast the time-stamp counter and the local APIC timer run.
//!
//! Both are measured over 50 ms of channel 2 of the programmable interval timer (8254), which every PC
//! has, at 1,193,182 Hz. Starting and reading it is uncertain by one of its ticks, 17 ppm of the interval,
//! so the results are rounded to 100 kHz: digits below that would be noise.

#![expect(unsafe_code, reason = "drives the interval timer")]

use nmiprof_pmu::CountdownTimer;
use x86_64::instructions::port::Port;

use super::apic::LocalApic;
use super::cpu;

const PIT_HZ: u64 = 1_193_182;
const PIT_COUNT: u16 = 59_659;
const ROUND_TO_HZ: u64 = 100_000;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
const CONTROL_PORT_B: u16 = 0x61;
/// Channel 2, both bytes, mode 0 (output rises at the end of the count).
const CHANNEL_2_ONE_SHOT: u8 = 0b1011_0000;
const GATE: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT: u8 = 1 << 5;

/// Frequencies of the two clocks of a run.
#[derive(Clone, Copy)]
pub struct Frequencies {
    /// Of the time-stamp counter.
    pub tsc_hz: u64,
    /// Of the local APIC timer, undivided.
    pub apic_timer_hz: u64,
}

/// Measures both frequencies.
///
/// # Context
/// Thread, before sampling; the APIC timer is masked.
pub fn measure(apic: LocalApic) -> Frequencies {
    let mut control = Port::<u8>::new(CONTROL_PORT_B);
    // SAFETY: reading the port changes nothing.
    let before = unsafe { control.read() };
    // SAFETY: opens the gate of channel 2 and keeps the speaker off; nothing else uses either.
    unsafe { control.write((before & !SPEAKER) | GATE) };
    start_pit();
    let start = cpu::timestamp();
    apic.arm(u32::MAX);
    // SAFETY: reading the port changes nothing.
    while unsafe { control.read() } & OUTPUT == 0 {
        core::hint::spin_loop();
    }
    let ticks = cpu::timestamp() - start;
    let timer_ticks = u64::from(u32::MAX - apic.remaining());
    apic.disarm();
    // SAFETY: puts the port back as it was.
    unsafe { control.write(before) };
    Frequencies {
        tsc_hz: to_hz(ticks),
        apic_timer_hz: to_hz(timer_ticks),
    }
}

fn start_pit() {
    let [low, high] = PIT_COUNT.to_le_bytes();
    let mut channel = Port::<u8>::new(CHANNEL_2);
    // SAFETY: programs channel 2, which nothing else uses.
    unsafe { Port::<u8>::new(COMMAND).write(CHANNEL_2_ONE_SHOT) };
    // SAFETY: as above.
    unsafe { channel.write(low) };
    // SAFETY: as above; the count starts here.
    unsafe { channel.write(high) };
}

fn to_hz(ticks: u64) -> u64 {
    let hz = ticks * PIT_HZ / u64::from(PIT_COUNT);
    (hz + ROUND_TO_HZ / 2) / ROUND_TO_HZ * ROUND_TO_HZ
}
