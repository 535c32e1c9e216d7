//! The self-test of the overflow source: does it count, does it interrupt, and what does it count?
//!
//! It samples a straight line of one-byte instructions through the real path: timer, NMI entry, handler,
//! ring. The distances between the sampled addresses then *are* instruction counts. Where they are all
//! the same, the timer counts instructions, and the difference to the period is the cost of resuming
//! after an NMI, which the PMU takes into account from then on. A second pass checks the result.

pub mod ticks;

use alloc::boxed::Box;

use nmiprof_pmu::TimerPmu;
use nmiprof_pmu::engine::Throttle;
use nmiprof_ring::Producer;
use nmiprof_wire::ClockKind;

use crate::arch::cpu::{self, SLED_INSTRUCTIONS, nop_sled, sled_offset};
use crate::arch::fallible::AccessError;
use crate::arch::percpu::PerCpu;
use crate::drain::Drain;
use crate::memory::ring_memory::RingMemory;
use crate::sampler::{Detail, Sampler};

/// Shortest test period: longer than any plausible resume cost.
const PERIOD: u64 = 509;
/// The first samples touch ring pages and may be followed by provoked NMIs: they are left out.
const WARM_UP_SAMPLES: usize = 3;
/// Samples after which a pass may end.
const SAMPLES_ENOUGH: u64 = 8;
/// Most samples of one pass.
const SAMPLES_MAX: usize = 32;

/// A detail that no usual sampler has.
const UNUSUAL: Detail = Detail { spaces: true, ..Detail::PLAIN };

/// What the self-test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// What one tick of the time-stamp counter, and of the timer, is.
    pub clock: ClockKind,
    /// Ticks from arming the counter to the first interrupted instruction.
    pub resume_ticks: u32,
    /// The same for samplers that are not the usual ones: the way out of their handler is another one.
    pub resume_ticks_unusual: u32,
    /// Ticks that a flat sample on a warm page costs, from the first instruction of the NMI entry to the
    /// last of its exit; known where ticks are instructions.
    pub sample_ticks: Option<u64>,
}

/// Why there is nothing to sample with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationError {
    /// The APIC refuses a timer that raises NMIs.
    Refused(AccessError),
    /// The timer was programmed and no NMI came.
    Silent,
}

/// Tests the source; gives the ring's producer back with the result.
///
/// The result is [`CalibrationError`] where the timer is nothing to sample with.
pub fn run(
    cpu: &PerCpu,
    ring: Producer<'static, RingMemory>,
    drain: &mut Drain,
    tsc_hz: u64,
) -> (Result<Calibration, CalibrationError>, Producer<'static, RingMemory>) {
    let overflows_before = cpu.nmi.counters.overflows.read();
    let (first, ring) = pass(cpu, Detail::PLAIN, 0, ring, drain, tsc_hz);
    let usual = resume_ticks(&first);
    let (second, ring) = pass(cpu, Detail::PLAIN, usual.unwrap_or_default(), ring, drain, tsc_hz);
    let (unusual, ring) = pass(cpu, UNUSUAL, 0, ring, drain, tsc_hz);
    let unusual = resume_ticks(&unusual);
    // Overflows, not samples in the sled: where ticks are time they may all fall outside of it.
    let is_silent = cpu.nmi.counters.overflows.read() == overflows_before;
    let calibration = second.and_then(|second| {
        if is_silent {
            Err(CalibrationError::Silent)
        } else {
            Ok(Calibration::of(&second, usual.zip(unusual)))
        }
    });
    (calibration, ring)
}

/// Returns the ticks that went by between arming the timer and the first interrupted instruction.
fn resume_ticks(pass: &Result<Pass, CalibrationError>) -> Option<u32> {
    let interval = pass.as_ref().ok().and_then(Pass::interval)?;
    u32::try_from(PERIOD.checked_sub(interval)?).ok()
}

impl Calibration {
    /// What is known where there is no timer to test with.
    pub const UNKNOWN: Self =
        Self { clock: ClockKind::Time, resume_ticks: 0, resume_ticks_unusual: 0, sample_ticks: None };

    /// Judges the second pass, for which the cost of resuming was taken into account.
    fn of(second: &Pass, resume_ticks: Option<(u32, u32)>) -> Self {
        let exact = second.interval() == Some(PERIOD) && timestamps_count_instructions();
        resume_ticks.filter(|_| exact).map_or(Self::UNKNOWN, |(resume_ticks, resume_ticks_unusual)| Self {
            clock: ClockKind::Instructions,
            resume_ticks,
            resume_ticks_unusual,
            sample_ticks: second.sample_ticks(),
        })
    }
}

/// Samples of one pass that hit the sled, in order.
struct Pass {
    hits: [Hit; SAMPLES_MAX],
    samples: usize,
}

/// A sample in the sled: how many of its instructions were done, and when.
#[derive(Clone, Copy, Default)]
struct Hit {
    offset: u64,
    time: u64,
}

impl Pass {
    /// Returns the instructions between samples, if they are the same between all of them.
    fn interval(&self) -> Option<u64> {
        self.same_for_all(|earlier, later| later.offset.wrapping_sub(earlier.offset))
    }

    /// Returns what a sample costs: the time between two of them is the instructions between them and one
    /// whole NMI.
    fn sample_ticks(&self) -> Option<u64> {
        self.same_for_all(|earlier, later| {
            let instructions = later.offset.wrapping_sub(earlier.offset);
            later.time.wrapping_sub(earlier.time).wrapping_sub(instructions)
        })
    }

    fn same_for_all(&self, measure: impl Fn(&Hit, &Hit) -> u64) -> Option<u64> {
        let hits = self.hits.get(WARM_UP_SAMPLES..self.samples)?;
        let mut measures = hits.windows(2).map(|pair| measure(&pair[0], &pair[1]));
        let first = measures.next()?;
        measures.all(|other| other == first).then_some(first)
    }
}

fn pass(
    cpu: &PerCpu,
    detail: Detail,
    resume_ticks: u32,
    ring: Producer<'static, RingMemory>,
    drain: &mut Drain,
    tsc_hz: u64,
) -> (Result<Pass, CalibrationError>, Producer<'static, RingMemory>) {
    let mut timer = TimerPmu::new(cpu.apic, resume_ticks);
    timer.set_period(PERIOD);
    let sampler = Box::new(Sampler::with_timer(timer, ring, detail, Throttle::OFF));
    if let Err((error, sampler)) = cpu.nmi.start(cpu.apic, sampler) {
        return (Err(CalibrationError::Refused(error)), sampler.into_parts().1);
    }
    walk_sled(cpu, tsc_hz);
    let sampler = cpu.nmi.stop(cpu.apic).expect("it was put there");
    (Ok(hits(drain)), sampler.into_parts().1)
}

/// Walks the sled until there are enough samples; gives up after a tenth of a second.
///
/// Once is enough where the timer counts instructions. Elsewhere the first NMI may take its time.
fn walk_sled(cpu: &PerCpu, tsc_hz: u64) {
    let overflows_before = cpu.nmi.counters.overflows.read();
    let end = cpu::timestamp().saturating_add(tsc_hz / 10);
    loop {
        nop_sled(SLED_INSTRUCTIONS);
        let enough = cpu.nmi.counters.overflows.read() - overflows_before >= SAMPLES_ENOUGH;
        if enough || cpu::timestamp() >= end {
            break;
        }
    }
}

fn hits(drain: &mut Drain) -> Pass {
    let mut pass = Pass { hits: [Hit::default(); SAMPLES_MAX], samples: 0 };
    drain.discard(|sample| {
        if let (Some(offset), Some(slot)) = (sled_offset(sample.ip), pass.hits.get_mut(pass.samples)) {
            *slot = Hit { offset, time: sample.time };
            pass.samples += 1;
        }
    });
    pass
}

/// Compares the time-stamp counter over a long and a short run of the sled: the difference must be exact.
fn timestamps_count_instructions() -> bool {
    let [long, short] = [SLED_INSTRUCTIONS, SLED_INSTRUCTIONS / 2].map(|instructions| {
        let start = cpu::timestamp();
        nop_sled(instructions);
        cpu::timestamp().wrapping_sub(start)
    });
    long.checked_sub(short) == Some(SLED_INSTRUCTIONS / 2)
}
