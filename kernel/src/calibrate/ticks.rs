//! The self-test of a line that ticks: do its NMIs come, and as often as they should?
//!
//! It samples the usual straight line of instructions for some periods. What is counted are overflows, and NMIs that
//! nobody explains: a line that comes too often has ticks that are none.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use nmiprof_pmu::TickPmu;
use nmiprof_ring::Producer;

use crate::arch::cpu::{self, SLED_INSTRUCTIONS, nop_sled};
use crate::arch::percpu::PerCpu;
use crate::drain::Drain;
use crate::memory::ring_memory::RingMemory;
use crate::pmu::source::TickSource;
use crate::sampler::{Detail, Sampler};

/// Rate of the test.
const HZ: u64 = 1000;
/// Overflows that are waited for.
const OVERFLOWS: u64 = 20;
/// The test gives up after so many times as long as it should take.
const PATIENCE: u64 = 10;

/// Tests a line; gives the ring's producer back with the result, which is a text that says what is wrong.
pub fn test(
    cpu: &PerCpu,
    source: &TickSource,
    ring: Producer<'static, RingMemory>,
    drain: &mut Drain,
    tsc_hz: u64,
) -> (Result<(), String>, Producer<'static, RingMemory>) {
    let period = source.period(source.clock_hz() / HZ);
    let rhythm = source.rhythm(period, tsc_hz);
    let unknown_before = cpu.nmi.counters.unknown.read();
    source.prepare();
    let ticks = TickPmu::new(source.clock(), rhythm, source.first_due(&rhythm));
    let sampler = Box::new(Sampler::with_ticks(cpu.apic, ticks, ring, Detail::PLAIN));
    if let Err((error, sampler)) = cpu.nmi.start(cpu.apic, sampler) {
        return (Err(format!("{error:?}")), sampler.into_parts().1);
    }
    source.start(period);
    let seen = watch(cpu, tsc_hz);
    source.stop();
    let sampler = cpu.nmi.stop(cpu.apic).expect("it was put there");
    let seen = Seen { merged: sampler.timer_counts().merged, ..seen };
    drain.discard(|_| ());
    let unknown = cpu.nmi.counters.unknown.read() - unknown_before;
    (seen.judge(unknown, tsc_hz), sampler.into_parts().1)
}

/// Overflows that were seen, and the time from the start to the last.
struct Seen {
    overflows: u64,
    /// Ticks that an overflow came late for: a busy host lets an emulator's merge.
    merged: u64,
    elapsed: u64,
}

impl Seen {
    /// Says what is wrong. The rate may be off by half: an emulator's time passes unevenly.
    fn judge(&self, unknown: u64, tsc_hz: u64) -> Result<(), String> {
        if self.overflows == 0 {
            return Err("its line raises no NMI".to_string());
        }
        let hz = (self.overflows + self.merged) * tsc_hz / self.elapsed.max(1);
        if !(HZ / 2..=HZ * 2).contains(&hz) {
            return Err(format!("its NMIs come {hz} times a second instead of {HZ}"));
        }
        if unknown > self.overflows / 2 {
            return Err(format!("{unknown} NMIs came beside {} ticks", self.overflows));
        }
        Ok(())
    }
}

/// Works, and watches the overflows come.
fn watch(cpu: &PerCpu, tsc_hz: u64) -> Seen {
    let overflows_before = cpu.nmi.counters.overflows.read();
    let begin = cpu::timestamp();
    let end = begin.saturating_add(PATIENCE * OVERFLOWS * tsc_hz / HZ);
    loop {
        nop_sled(SLED_INSTRUCTIONS);
        let (now, overflows) = (cpu::timestamp(), cpu.nmi.counters.overflows.read() - overflows_before);
        if overflows >= OVERFLOWS || now >= end {
            return Seen { overflows, merged: 0, elapsed: now - begin };
        }
    }
}
