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
use super::pit::PIT_HZ;

/// Length of the measurement in ticks of the interval timer.
const PIT_TICKS_MIN: u16 = 40_000;
/// Longest time for that: a second of the fastest clock, and many of a slow one.
const TSC_TICKS_MAX: u64 = 1 << 33;
/// Measurements that may be given up.
const TRIES_MAX: u32 = 20;
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

/// Measures both frequencies; `None` where there is no interval timer that runs.
///
/// # Context
/// Thread, before sampling; the APIC timer is masked.
pub fn measure(apic: LocalApic) -> Option<Frequencies> {
    let mut control = Port::<u8>::new(CONTROL_PORT_B);
    // SAFETY: reading the port changes nothing.
    let before = unsafe { control.read() };
    // SAFETY: opens the gate of channel 2 and keeps the speaker off; nothing else uses either.
    unsafe { control.write((before & !SPEAKER) | GATE) };
    let measured = (0..TRIES_MAX).map_while(|_| Interval::watch(apic)).find(Interval::is_whole);
    let measured = measured.or_else(|| Interval::watch(apic));
    // SAFETY: puts the port back as it was.
    unsafe { control.write(before) };
    measured.map(|interval| interval.frequencies())
}

/// What went by between two readings.
struct Interval {
    start: Reading,
    end: Reading,
    /// Longest time between two looks at the clocks.
    gap_tsc_ticks: u64,
}

impl Interval {
    /// Looks at the clocks for as long as it takes; `None` where the interval timer stands still.
    fn watch(apic: LocalApic) -> Option<Self> {
        start_pit();
        apic.arm(u32::MAX);
        let start = Reading::take(apic);
        let (mut last_tsc, mut gap_tsc_ticks) = (start.tsc, 0);
        loop {
            // Each reading costs an emulator far more than these instructions.
            cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
            let end = Reading::take(apic);
            gap_tsc_ticks = end.tsc.wrapping_sub(last_tsc).max(gap_tsc_ticks);
            last_tsc = end.tsc;
            if start.pit_ticks_until(&end) >= PIT_TICKS_MIN {
                apic.disarm();
                return Some(Self { start, end, gap_tsc_ticks });
            }
            if end.tsc.wrapping_sub(start.tsc) > TSC_TICKS_MAX {
                apic.disarm();
                return None;
            }
        }
    }

    /// Tells whether nobody looked away for so long that the interval timer may have gone round unseen. A CPU of an
    /// emulator does, on a busy host. To go round takes 55 ms, of which fewer than 34 were seen before, and the rest of
    /// them after it: 21 ms of 89 are the least that does it. A tenth is less than that, and the most by which a pause in
    /// the midst of the last reading can falsify the result.
    const fn is_whole(&self) -> bool {
        self.gap_tsc_ticks < self.end.tsc.wrapping_sub(self.start.tsc) / 10
    }

    fn frequencies(&self) -> Frequencies {
        let Self { start, end, .. } = self;
        let pit_ticks = u64::from(start.pit_ticks_until(end));
        Frequencies {
            tsc_hz: to_hz(end.tsc.wrapping_sub(start.tsc), pit_ticks),
            apic_timer_hz: to_hz(u64::from(start.apic_timer.wrapping_sub(end.apic_timer)), pit_ticks),
        }
    }
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
