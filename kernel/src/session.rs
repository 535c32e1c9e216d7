//! One run: sample the workloads for as long as was asked, and tell the host about it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_pmu::{Pmu, VirtualPmu};
use nmiprof_ring::{Producer, Ring};
use nmiprof_wire::{
    ClockKind, EventInfo, Frame, Hello, Line, Mode, Options, PmuInfo, PmuKind, ProcessEnd, SCHEMA_HASH,
    Sampling, Stress, WIRE_VERSION,
};

use crate::arch::apic::LocalApic;
use crate::arch::build_id::build_id;
use crate::arch::clock::{self, Frequencies};
use crate::arch::cpu::{self, BrandString};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::percpu::PerCpu;
use crate::arch::tick;
use crate::calibrate::{self, Calibration};
use crate::drain::{Drain, Space};
use crate::memory::ring_memory::RingMemory;
use crate::process::Process;
use crate::sampler::{Detail, Sampler};
use crate::workloads::Task;
use crate::{info, report, stream, thread, warning};

type VirtualLapicPmu = VirtualPmu<LocalApic>;

/// Everything that one run needs.
pub struct Session {
    options: Options<'static>,
    cpu: &'static PerCpu,
    cpu_name: BrandString,
    frequencies: Frequencies,
    calibration: Calibration,
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
        let mut drain = Drain::new(cpu, consumer, options.chains, spaces);
        let frequencies = clock::measure(cpu.apic);
        cpu.nmi.set_nest_on_first_touch(options.stress == Stress::Nest);
        let (calibration, producer) = calibrate::run(cpu, producer, &mut drain, frequencies.tsc_hz)
            .unwrap_or_else(|error| {
                report::configuration(format_args!(
                    "no overflow source: the APIC timer raises no NMI here ({error:?}); run under QEMU's TCG"
                ))
            });
        report_clock(&frequencies, &calibration);
        let cpu_name = BrandString::read();
        let ring = Some(producer);
        let mut session = Self {
            options,
            cpu,
            cpu_name,
            frequencies,
            calibration,
            ring,
            drain,
            next_hello: 0,
            has_processes,
        };
        session.introduce();
        session
    }

    /// Measures one step of each task with sampling off.
    pub fn measure_steps(&self, tasks: &mut [Task]) {
        for task in tasks {
            task.measure_step(self.calibration.clock);
        }
    }

    /// Starts to sample.
    ///
    /// # Panics
    /// If sampling is on already.
    pub fn start(&mut self) {
        let period = match self.options.sampling {
            Sampling::Period(events) => events,
            Sampling::Frequency(hz) => (self.frequencies.apic_timer_hz / hz).max(1),
        };
        self.begin();
        self.start_with(period);
        info!("sampling: one {} sample every {period} events", self.event_name());
    }

    /// Begins to account for overflows and drops: those of the self-test don't count.
    pub fn begin(&mut self) {
        self.cpu.nmi.counters.overflows.reset();
        self.drain.begin();
    }

    fn start_with(&mut self, period: u64) {
        let mut pmu = VirtualLapicPmu::new(self.cpu.apic, self.calibration.resume_ticks);
        pmu.set_period(period);
        let ring = self.ring.take().expect("sampling is off");
        let detail =
            Detail { chains: self.options.chains, spaces: self.has_processes, mode: self.options.mode };
        let started = self.cpu.nmi.start(self.cpu.apic, Box::new(Sampler::new(pmu, ring, detail)));
        started.expect("the self-test has started the same timer");
    }

    /// Works on the tasks in turn until the time is over, and drains meanwhile. Programs run beside that, and where
    /// there are any, the last one's end is the end.
    pub fn work(&mut self, tasks: &mut [Task]) {
        let end = cpu::timestamp().saturating_add(self.duration_ticks());
        if self.has_processes {
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
        if self.has_processes {
            tick::stop();
        }
    }

    /// Stops to sample.
    pub fn stop(&mut self) {
        self.ring = self.cpu.nmi.stop(self.cpu.apic).map(|sampler| sampler.into_ring());
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
        let event = EventInfo { name: self.event_name(), sampling: self.options.sampling };
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
            pmu: PmuInfo {
                kind: if VirtualLapicPmu::IS_VIRTUAL { PmuKind::Virtual } else { PmuKind::Hardware },
                name: VirtualLapicPmu::NAME,
            },
            events: core::iter::once(event).collect(),
            sample_instructions: self.calibration.sample_ticks,
            deterministic: exact && self.options.line == Line::File,
            options: self.options,
        }
    }

    /// Names the event after what the timer was seen to count.
    const fn event_name(&self) -> &'static str {
        match (self.calibration.clock, self.options.mode) {
            (ClockKind::Instructions, Mode::Any) => "instructions",
            (ClockKind::Instructions, Mode::User) => "instructions:u",
            (ClockKind::Instructions, Mode::Kernel) => "instructions:k",
            (ClockKind::Time, Mode::Any) => "virtual-clock",
            (ClockKind::Time, Mode::User) => "virtual-clock:u",
            (ClockKind::Time, Mode::Kernel) => "virtual-clock:k",
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
    /// Samples one piece of code.
    pub fn sample(&mut self, period: u64, code: impl FnOnce()) {
        self.start_with(period);
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
