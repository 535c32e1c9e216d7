//! The self-test of counters: each has to count a known piece of work, and to interrupt.
//!
//! Nothing that CPUID says is believed before that. A counter that fails is not used, and why is told.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_pmu::event::{generic_events, offer};
use nmiprof_pmu::selftest::{Counted, count_during};
use nmiprof_pmu::{Capabilities, Counter, CounterSet, CounterUnit as _, Encoding, Rate, Request};
use nmiprof_ring::Producer;
use nmiprof_wire::{CounterReport, CounterVerdict};

use super::Counters;
use crate::arch::cpu::{SLED_INSTRUCTIONS, nop_sled, timestamp};
use crate::arch::percpu::PerCpu;
use crate::drain::Drain;
use crate::memory::ring_memory::RingMemory;
use crate::sampler::{Detail, Sampler};

/// Times that the sled is walked for each half of the test.
const WALKS: u64 = 8;
/// Events between overflows: some in all walks, however many instructions a cycle takes, and more than a handler of a
/// model takes, for nothing throttles that where the command line sets no limit.
const PERIOD: u64 = 5003;
/// Overflows that show that the counter interrupts. One shows nothing: the NMI by which sampling is stopped finds the
/// overflow of a counter that never interrupted.
const OVERFLOWS_MIN: u64 = 2;

/// Counters while they are tested, and the ring that the samples go to.
pub struct Bench {
    /// What is tested.
    pub counters: Box<Counters>,
    /// Where samples go.
    pub ring: Producer<'static, RingMemory>,
}

/// Tests every counter.
pub fn test_all(
    cpu: &PerCpu,
    mut bench: Bench,
    drain: &mut Drain,
    tsc_hz: u64,
) -> (Vec<CounterReport>, Bench) {
    let capabilities = *bench.counters.unit().capabilities();
    let mut reports = Vec::new();
    for counter in capabilities.counters().iter() {
        let report;
        (report, bench) = test(cpu, bench, &capabilities, counter, tsc_hz);
        reports.push(report);
        drain.discard(|_| ());
    }
    (reports, bench)
}

/// Returns the counters that can be used.
pub fn usable(capabilities: &Capabilities, reports: &[CounterReport]) -> CounterSet {
    let works = |counter: Counter| {
        reports
            .iter()
            .any(|report| report.counter == counter.number() && report.verdict == CounterVerdict::Works)
    };
    let counters = capabilities.counters().iter().filter(|counter| works(*counter));
    counters.fold(CounterSet::EMPTY, |set, counter| set.union(counter.set()))
}

fn test(
    cpu: &PerCpu,
    mut bench: Bench,
    capabilities: &Capabilities,
    counter: Counter,
    tsc_hz: u64,
) -> (CounterReport, Bench) {
    let work = WALKS * SLED_INSTRUCTIONS;
    let mut report = CounterReport {
        counter: counter.number(),
        verdict: CounterVerdict::Untested,
        counted: 0,
        work,
        overflows: 0,
    };
    let Some(encoding) = known_event(capabilities, counter) else { return (report, bench) };
    report.verdict = CounterVerdict::Dead;
    if let Counted::Events(events) = count_during(bench.counters.unit(), counter, encoding, walk) {
        report.counted = events;
    }
    if report.counted == 0 {
        return (report, bench);
    }
    (report.overflows, bench) = count_overflows(cpu, bench, counter, encoding, tsc_hz);
    report.verdict =
        if report.overflows >= OVERFLOWS_MIN { CounterVerdict::Works } else { CounterVerdict::Silent };
    (report, bench)
}

/// Finds an event that this counter can count and that happens during a walk.
fn known_event(capabilities: &Capabilities, counter: Counter) -> Option<Encoding> {
    const HAPPENING: [&str; 4] = ["instructions", "cycles", "ref-cycles", "slots"];
    let happening = HAPPENING.iter().filter_map(|name| {
        let event = generic_events().iter().find(|event| event.name() == *name)?;
        offer(*event, capabilities).ok()
    });
    let mut able = happening.filter(|encoding| encoding.counters.contains(counter));
    able.next().map(|encoding| Encoding { counters: counter.set(), ..encoding })
}

/// Samples with one counter during the piece of work, and counts the overflows that arrive.
fn count_overflows(
    cpu: &PerCpu,
    bench: Bench,
    counter: Counter,
    encoding: Encoding,
    tsc_hz: u64,
) -> (u64, Bench) {
    let Bench { mut counters, ring } = bench;
    let request = Request { encoding, rate: Rate::Period(PERIOD), group: 0 };
    if counters.set_events(&[request], counter.set()).is_err() {
        return (0, Bench { counters, ring });
    }
    let before = cpu.nmi.counters.overflows.read();
    let sampler = Sampler::with_counters(cpu.apic, counters, ring, Detail::PLAIN);
    let sampler = match cpu.nmi.start(cpu.apic, Box::new(sampler)) {
        Ok(()) => {
            walk_until_overflows(|| cpu.nmi.counters.overflows.read() - before, tsc_hz);
            cpu.nmi.stop(cpu.apic).expect("it was put there")
        }
        Err((_, sampler)) => sampler,
    };
    let (counters, ring) = sampler.into_parts();
    let bench = Bench { counters: counters.expect("it was made with them"), ring };
    (cpu.nmi.counters.overflows.read() - before, bench)
}

/// Walks once, and on until there are enough overflows: NMIs may take their time. Gives up after a tenth of a second.
fn walk_until_overflows(overflows: impl Fn() -> u64, tsc_hz: u64) {
    let start = timestamp();
    walk();
    while overflows() < OVERFLOWS_MIN && timestamp().wrapping_sub(start) < tsc_hz / 10 {
        walk();
    }
}

fn walk() {
    for _ in 0..WALKS {
        nop_sled(SLED_INSTRUCTIONS);
    }
}
