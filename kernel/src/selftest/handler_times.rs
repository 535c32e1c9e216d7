//! How long the handler takes for a sample, by the clock of its CPU: the shortest of many times.
//!
//! With several CPUs one tick of the clock is an instruction of any of them, so a time says what the handler took only if
//! no other CPU had its turn meanwhile; among many that is the shortest.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::arch::cpu;
use crate::arch::percpu::{self, CPUS_MAX, PerCpu};
use crate::info;

/// Name of the measurement.
pub const NAME: &str = "handler-times";

/// Written by the trigger.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// What each CPU has seen. Written by its NMI.
static SEEN: [Times; CPUS_MAX as usize] = [const { Times::new() }; CPUS_MAX as usize];

/// What one CPU has seen, on lines of its own.
#[repr(align(128))]
struct Times {
    begun: AtomicU64,
    /// Overflows, and runs at the instruction of the one before, at the beginning of the run at hand.
    overflows: AtomicU64,
    back_to_back: AtomicU64,
    samples: AtomicU64,
    ticks_min: AtomicU64,
}

impl Times {
    const fn new() -> Self {
        let [begun, overflows, back_to_back, samples] = [const { AtomicU64::new(0) }; 4];
        Self { begun, overflows, back_to_back, samples, ticks_min: AtomicU64::new(u64::MAX) }
    }
}

/// Begins to look at the clock.
pub fn start() {
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Tells whether runs are to be timed.
pub fn is_on() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// Notes that a run of the handler begins.
///
/// # Context
/// NMI.
#[inline]
pub fn begin_run(cpu: &PerCpu) {
    let Some(times) = SEEN.get(usize::from(cpu.index)) else { return };
    times.overflows.store(cpu.nmi.counters.overflows.read(), Ordering::Relaxed);
    times.back_to_back.store(cpu.nmi.counters.back_to_back.read(), Ordering::Relaxed);
    times.begun.store(cpu::timestamp(), Ordering::Relaxed);
}

/// Notes that it ends, if it was one with a sample, and not at the instruction of the one before: that is another path,
/// which a run on several CPUs takes more often than one on one.
///
/// # Context
/// NMI.
#[inline]
pub fn end_run(cpu: &PerCpu) {
    let now = cpu::timestamp();
    let Some(times) = SEEN.get(usize::from(cpu.index)) else { return };
    let has_sample = times.overflows.load(Ordering::Relaxed) != cpu.nmi.counters.overflows.read();
    if !has_sample || times.back_to_back.load(Ordering::Relaxed) != cpu.nmi.counters.back_to_back.read() {
        return;
    }
    let ticks = now.wrapping_sub(times.begun.load(Ordering::Relaxed));
    times.ticks_min.store(times.ticks_min.load(Ordering::Relaxed).min(ticks), Ordering::Relaxed);
    times.samples.store(times.samples.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Says what was seen.
pub fn finish() {
    if !is_on() {
        return;
    }
    for cpu in (0..CPUS_MAX).map_while(percpu::of) {
        let times = &SEEN[usize::from(cpu.index)];
        let (samples, ticks) =
            (times.samples.load(Ordering::Relaxed), times.ticks_min.load(Ordering::Relaxed));
        info!("in the handler: CPU {}, {samples} samples, at least {ticks} ticks", cpu.index);
    }
}
