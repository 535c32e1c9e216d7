//! One run: sample the workloads for as long as was asked, and tell the host about it.

mod counting;

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_ring::{Producer, Ring};
use nmiprof_wire::{ClockKind, Frame, Hello, Line, Options, ProcessEnd, SCHEMA_HASH, Stress, WIRE_VERSION};

use crate::arch::build_id::build_id;
use crate::arch::clock::{self, Frequencies};
use crate::arch::cpu::{self, BrandString};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::percpu::PerCpu;
use crate::arch::tick;
use crate::calibrate::{self, Calibration};
use crate::drain::{Drain, Space};
use crate::memory::ring_memory::RingMemory;
use crate::pmu::events::RunEvent;
use crate::pmu::{self, Place, Pmu};
use crate::process::Process;
use crate::sampler::Kept;
use crate::workloads::Task;
use crate::{info, report, stream, thread, warning};

/// Everything that one run needs.
pub struct Session {
    options: Options<'static>,
    cpu: &'static PerCpu,
    cpu_name: BrandString,
    frequencies: Frequencies,
    /// What the timer's self-test found.
    calibration: Calibration,
    pmu: Pmu,
    events: Vec<RunEvent>,
    /// Which samples are kept.
    kept: Kept,
    /// The counters want to be ticked.
    needs_tick: bool,
    /// How often the timer's throttle has tripped, and for how many ticks of the clock in all.
    timer_throttled: (u64, u64),
    /// The ring's producer, while the NMI does not have it.
    ring: Option<Producer<'static, RingMemory>>,
    drain: Drain,
    /// When to repeat the description of the run.
    next_hello: u64,
    /// There are programs to run.
    has_processes: bool,
}

impl Session {
    /// Makes the ring, measures the clocks, tests the overflow source, and introduces itself.
    pub fn new(options: Options<'static>, cpu: &'static PerCpu) -> Self {
        let (producer, consumer) = make_ring(&options);
        let spaces = spaces();
        let has_processes = !spaces.is_empty();
        let mut drain = Drain::new(cpu, consumer, options.chains, spaces).aggregating(options.aggregate);
        let frequencies = clock::measure(cpu.apic);
        cpu.nmi.set_nest_on_first_touch(options.stress == Stress::Nest);
        let (timer, producer) = calibrate::run(cpu, producer, &mut drain, frequencies.tsc_hz);
        let calibration = timer.unwrap_or(Calibration::UNKNOWN);
        report_clock(&frequencies, &calibration);
        let place = Place { cpu, options: &options, timer, tsc_hz: frequencies.tsc_hz, drain: &mut drain };
        let (pmu, producer) = Pmu::choose(place, producer).unwrap_or_else(|why| refuse(&why));
        let mut session = Self {
            options,
            cpu,
            cpu_name: BrandString::read(),
            frequencies,
            calibration,
            pmu,
            events: Vec::new(),
            kept: Kept::ALL,
            needs_tick: false,
            timer_throttled: (0, 0),
            ring: Some(producer),
            drain,
            next_hello: 0,
            has_processes,
        };
        session.set_events();
        session.introduce();
        session
    }

    /// Measures one step of each task with sampling off.
    pub fn measure_steps(&self, tasks: &mut [Task]) {
        for task in tasks {
            task.measure_step(self.calibration.clock);
        }
    }

    /// Tells what the PMU offers.
    pub fn list(&self) {
        pmu::send_offers(&self.pmu);
    }

    /// Tells what the self-test of every counter found.
    pub fn report_counters(&self) {
        for report in &self.pmu.reports {
            stream::send(&Frame::Counter(*report));
        }
    }

    /// Works on the tasks in turn until the time is over, and drains meanwhile. Programs run beside that, and where
    /// there are any, the last one's end is the end.
    pub fn work(&mut self, tasks: &mut [Task]) {
        let end = cpu::timestamp().saturating_add(self.duration_ticks());
        let ticks = self.has_processes || self.needs_tick;
        if ticks {
            tick::start(self.cpu.apic, u64::from(self.options.tick_hz));
        }
        let mut turns = (0..tasks.len()).cycle();
        while cpu::timestamp() < end && (!self.has_processes || thread::processes() > 0) {
            match turns.next() {
                Some(turn) => tasks[turn].step(),
                None if self.has_processes => thread::wait_for_tick(),
                None => break,
            }
            self.tend();
        }
        if ticks {
            tick::stop();
        }
    }

    /// Stops to sample.
    pub fn stop(&mut self) {
        if let Some(sampler) = self.cpu.nmi.stop(self.cpu.apic) {
            self.timer_throttled = sampler.throttled();
            let (counters, ring) = sampler.into_parts();
            self.ring = Some(ring);
            self.pmu.give_back(counters);
        }
        thread::stop_processes();
        self.reap();
    }

    /// Sends what is left, the tasks' results, and the final counters.
    pub fn finish(&mut self, tasks: &[Task]) {
        self.drain.flush();
        self.warn();
        for task in tasks {
            stream::send(&Frame::Workload(task.result()));
        }
        self.pmu.send_counts(self.cpu.index, self.events.len(), self.timer_throttled);
        stream::send(&Frame::End(self.drain.totals()));
        stream::flush();
    }

    /// Does between two steps what the NMI can't: refill, drain, and introduce itself again.
    fn tend(&mut self) {
        self.cpu.reserve.refill();
        self.drain.poll();
        self.reap();
        self.warn();
        if cpu::timestamp() >= self.next_hello {
            self.drain.next_epoch();
            self.introduce();
            stream::send(&Frame::Sync(self.drain.totals()));
        }
    }

    /// Buries the processes that have ended, after their last samples were sent.
    fn reap(&mut self) {
        if !thread::has_ended() {
            return;
        }
        self.drain.flush();
        while let Some(thread) = thread::take_ended() {
            if let Some(outcome) = thread.outcome() {
                let (process, time) = (thread.id, cpu::timestamp());
                stream::send(&Frame::ProcessEnd(ProcessEnd { process, time, outcome }));
            }
        }
    }

    /// Reports the first page fault inside an NMI, where that was asked for.
    fn warn(&self) {
        if let Some((address, rip)) = self.cpu.nmi.first_fault.take().filter(|_| self.options.warn_fault) {
            warning!("first page fault inside an NMI: RIP {rip:#x}, address {address:#x} (warn_fault=on)");
        }
    }

    fn introduce(&mut self) {
        let now = cpu::timestamp();
        stream::send(&Frame::Hello(self.hello(now)));
        thread::for_each_process(Process::introduce);
        self.next_hello = now.saturating_add(self.frequencies.tsc_hz);
    }

    fn hello(&self, time: u64) -> Hello<'_> {
        let exact = self.calibration.clock == ClockKind::Instructions;
        Hello {
            wire_version: WIRE_VERSION,
            schema: SCHEMA_HASH,
            build_id: build_id(),
            time,
            clock_hz: self.frequencies.tsc_hz,
            clock: self.calibration.clock,
            cpus: 1,
            cpu_name: self.cpu_name.as_str(),
            pmu: self.pmu.info(),
            events: self.events.iter().map(RunEvent::info).collect(),
            sample_instructions: self.calibration.sample_ticks,
            deterministic: exact && self.options.line == Line::File,
            options: self.options,
        }
    }

    fn duration_ticks(&self) -> u64 {
        let ticks =
            u128::from(self.options.duration_ns) * u128::from(self.frequencies.tsc_hz) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// What experiments do instead of [`Session::start`] and the rest.
#[cfg(feature = "selftest")]
impl Session {
    /// Samples one piece of code, however short the period is.
    pub fn sample(&mut self, period: u64, code: impl FnOnce()) {
        self.start_timer(period, nmiprof_pmu::engine::Throttle::OFF);
        code();
        self.stop();
    }

    /// Sends everything that waits, after showing it to `look`.
    pub fn flush(&mut self, look: impl FnMut(nmiprof_wire::Sample)) {
        self.drain.flush_seen(look);
    }

    /// Fills the reserve up.
    pub fn refill(&self) {
        self.cpu.reserve.refill();
    }

    /// Returns where the ring is.
    pub fn ring_address(&self) -> u64 {
        self.drain.ring_address()
    }
}

fn refuse(why: &str) -> ! {
    report::configuration(format_args!("{why}"))
}

fn make_ring(
    options: &Options<'_>,
) -> (Producer<'static, RingMemory>, nmiprof_ring::Consumer<'static, RingMemory>) {
    let memory = RingMemory::new(options.ring, options.ring_bytes).unwrap_or_else(|error| {
        report::configuration(format_args!(
            "ring={} ring_bytes={}: {error:?}; choose a smaller ring",
            options.ring, options.ring_bytes
        ))
    });
    let ring = Ring::new(memory).and_then(|ring| match options.decommit {
        0 => Ok(ring),
        pages => ring.decommitting(pages as usize),
    });
    let ring = ring.unwrap_or_else(|error| {
        report::configuration(format_args!(
            "ring_bytes={} decommit={}: {error}",
            options.ring_bytes, options.decommit
        ))
    });
    #[cfg_attr(not(feature = "selftest"), expect(unused_mut, reason = "only a mutant changes it"))]
    let (producer, mut consumer) = Box::leak(Box::new(ring)).split();
    #[cfg(feature = "selftest")]
    crate::selftest::gap::prepare(options, &mut consumer);
    (producer, consumer)
}

/// Lists the address spaces of all processes.
fn spaces() -> Vec<Space> {
    // Room first: nothing may be allocated while the queue is locked.
    let mut spaces = Vec::with_capacity(thread::processes());
    thread::for_each_process(|process| {
        spaces.push(Space { process: process.number, root: process.root() / PAGE_BYTES });
    });
    spaces
}

fn report_clock(frequencies: &Frequencies, calibration: &Calibration) {
    let mhz = frequencies.tsc_hz / 1_000_000;
    match calibration.sample_ticks {
        Some(ticks) => info!(
            "clock: {mhz} MHz, one tick is one instruction; a flat sample costs {ticks}, {} of them after the \
             counter is armed",
            calibration.resume_ticks,
        ),
        None => info!("clock: {mhz} MHz, ticks are time, not instructions"),
    }
}
