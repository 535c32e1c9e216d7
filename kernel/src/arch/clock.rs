//! How fast the time-stamp counter and the local APIC timer run.
//!
//! Both are measured against channel 2 of the programmable interval timer (8254), which every PC has, at
//! 1,193,182 Hz: its count and theirs are read at the same moment twice, 34 ms apart. Reading it is uncertain
//! by one of its ticks, 25 ppm of the interval, so the results are rounded to 100 kHz: digits below that
//! would be noise.

#![expect(unsafe_code, reason = "drives the interval timer")]

use nmiprof_pmu::CountdownTimer;
use x86_64::instructions::port::Port;

use super::apic::LocalApic;
use super::cpu;

/// Frequency of the interval timer's clock.
pub const PIT_HZ: u64 = 1_193_182;
/// Length of the measurement in ticks of the interval timer.
const PIT_TICKS_MIN: u16 = 40_000;
/// Longest time for that: a second of the fastest clock, and many of a slow one.
const TSC_TICKS_MAX: u64 = 1 << 33;
const ROUND_TO_HZ: u64 = 100_000;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
const CONTROL_PORT_B: u16 = 0x61;
/// Channel 2, both bytes, mode 0 (counts down, and on past 0).
const CHANNEL_2_COUNT_DOWN: u8 = 0b1011_0000;
/// Channel 2: keep the present count until it is read.
const CHANNEL_2_LATCH: u8 = 0b1000_0000;
const GATE: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;

/// Frequencies of the two clocks of a run.
#[derive(Clone, Copy)]
pub struct Frequencies {
    /// Of the time-stamp counter.
    pub tsc_hz: u64,
    /// Of the local APIC timer, undivided.
    pub apic_timer_hz: u64,
}

/// Measures both frequencies; `None` where no interval timer runs.
///
/// # Context
/// Thread, before sampling; the APIC timer is masked.
pub fn measure(apic: LocalApic) -> Option<Frequencies> {
    let mut control = Port::<u8>::new(CONTROL_PORT_B);
    // SAFETY: reading the port changes nothing.
    let before = unsafe { control.read() };
    // SAFETY: opens the gate of channel 2 and keeps the speaker off; nothing else uses either.
    unsafe { control.write((before & !SPEAKER) | GATE) };
    start_pit();
    apic.arm(u32::MAX);
    let start = Reading::take(apic);
    let end = loop {
        // Each reading costs an emulator far more than these instructions.
        cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
        let now = Reading::take(apic);
        if start.pit_ticks_until(&now) >= PIT_TICKS_MIN {
            break Some(now);
        }
        if now.tsc.wrapping_sub(start.tsc) > TSC_TICKS_MAX {
            break None;
        }
    };
    apic.disarm();
    // SAFETY: puts the port back as it was.
    unsafe { control.write(before) };
    let end = end?;
    let pit_ticks = u64::from(start.pit_ticks_until(&end));
    Some(Frequencies {
        tsc_hz: to_hz(end.tsc.wrapping_sub(start.tsc), pit_ticks),
        apic_timer_hz: to_hz(u64::from(start.apic_timer.wrapping_sub(end.apic_timer)), pit_ticks),
    })
}

/// The three counts at one moment.
struct Reading {
    /// Counts down.
    pit: u16,
    tsc: u64,
    /// Counts down.
    apic_timer: u32,
}

impl Reading {
    fn take(apic: LocalApic) -> Self {
        // SAFETY: latches the count of channel 2, which nothing else uses.
        unsafe { Port::<u8>::new(COMMAND).write(CHANNEL_2_LATCH) };
        let (tsc, apic_timer) = (cpu::timestamp(), apic.remaining());
        let mut channel = Port::<u8>::new(CHANNEL_2);
        // SAFETY: reads the lower half of the latched count.
        let low = unsafe { channel.read() };
        // SAFETY: reads the upper half.
        let high = unsafe { channel.read() };
        Self { pit: u16::from_le_bytes([low, high]), tsc, apic_timer }
    }

    const fn pit_ticks_until(&self, later: &Self) -> u16 {
        self.pit.wrapping_sub(later.pit)
    }
}

fn start_pit() {
    let mut channel = Port::<u8>::new(CHANNEL_2);
    // SAFETY: programs channel 2, which nothing else uses.
    unsafe { Port::<u8>::new(COMMAND).write(CHANNEL_2_COUNT_DOWN) };
    // SAFETY: the lower half of the first count.
    unsafe { channel.write(u8::MAX) };
    // SAFETY: the upper half; the count starts here.
    unsafe { channel.write(u8::MAX) };
}

const fn to_hz(ticks: u64, pit_ticks: u64) -> u64 {
    let hz = ticks * PIT_HZ / pit_ticks;
    (hz + ROUND_TO_HZ / 2) / ROUND_TO_HZ * ROUND_TO_HZ
}
