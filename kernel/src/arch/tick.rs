//! The tick: a periodic interrupt that lets the scheduler take the CPU away from a thread.
//!
//! It comes through the legacy interrupt controller, from channel 0 of the interval timer (8254) or, where that
//! raises the NMIs of a profile, from the real-time clock. The local
//! APIC's timer would be the usual choice, but it is what the virtual PMU counts with; a kernel whose PMU is
//! the CPU's own can move the tick there by changing this file alone. Under an emulator whose time is
//! instructions, both are as exact and as deterministic.

use core::sync::atomic::{AtomicU8, Ordering};

use super::apic::LocalApic;
use super::pit::{self, PIT_HZ};
use super::{pic, rtc};

/// Slowest tick of the interval timer: the channel counts at most 65,536 ticks of its clock.
const HZ_MIN: u64 = PIT_HZ / pit::PERIOD_MAX as u64 + 1;

/// The line that ticks. Written by the thread while no tick can come, read by the tick's interrupt.
static LINE: AtomicU8 = AtomicU8::new(pit::ISA_LINE);

/// Where ticks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Channel 0 of the interval timer.
    IntervalTimer,
    /// The real-time clock, which ticks at powers of two: at the next one below what was asked for.
    RealTimeClock,
}

/// Starts to tick, `hz` times a second.
///
/// # Context
/// Thread, with the handler in place.
pub fn start(apic: LocalApic, hz: u64, source: Source) {
    let line = match source {
        Source::IntervalTimer => {
            let period_ticks = PIT_HZ / hz.clamp(HZ_MIN, PIT_HZ);
            pit::start(u32::try_from(period_ticks).unwrap_or(pit::PERIOD_MAX));
            pit::ISA_LINE
        }
        Source::RealTimeClock => {
            rtc::start(hz);
            rtc::ISA_LINE
        }
    };
    // Relaxed, here and below: for this CPU only.
    LINE.store(line, Ordering::Relaxed);
    apic.enable_legacy_interrupts();
    pic::unmask(line);
}

/// Stops to tick.
pub fn stop() {
    let line = LINE.load(Ordering::Relaxed);
    pic::mask(line);
    if line == rtc::ISA_LINE {
        rtc::stop();
    }
}

/// Tells the controller, and the clock, that the interrupt was taken.
///
/// # Context
/// The tick's interrupt.
pub fn acknowledge() {
    let line = LINE.load(Ordering::Relaxed);
    if line == rtc::ISA_LINE {
        rtc::acknowledge();
    }
    pic::end_of_interrupt(line);
}
