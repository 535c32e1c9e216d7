//! One run: sample the workloads for as long as was asked, and tell the host about it.

mod seat;
mod team;

use alloc::format;
use alloc::vec::Vec;

#[cfg(feature = "selftest")]
use nmiprof_pmu::engine::Throttle;
use nmiprof_wire::{
    ClockKind, CpuInfo, CpuList, CpuTotals, Frame, Hello, Job, Line, Options, ProcessEnd, SCHEMA_HASH,
    WIRE_VERSION,
};

use crate::arch::build_id::build_id;
use crate::arch::clock::Frequencies;
use crate::arch::cpu::{self, BrandString};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::percpu::{self, PerCpu};
use crate::arch::tick;
use crate::calibrate::Calibration;
use crate::drain::{Drain, Drains, Space};
use crate::init::CPU_0;
use crate::pmu;
use crate::pmu::events::RunEvent;
use crate::pmu::source::TickSource;
use crate::process::Process;
use crate::workloads::Task;
use crate::{info, report, stream, thread, warning};
use seat::{Seat, Setup};
use team::Team;

/// A turn of the drain takes a millisecond at most, if every CPU had its share by then.
const DRAINS_PER_SECOND: u64 = 1000;

/// Everything that one run needs. It lives on CPU 0.
pub struct Session {
    options: Options<'static>,
    cpu_name: BrandString,
    frequencies: Frequencies,
    /// All CPUs that run, and which of them sample.
    cpus: Vec<CpuInfo>,
    /// CPU 0's own part.
    seat: Seat,
    /// The other CPUs' parts.
    team: Team,
    drains: Drains,
    /// When to repeat the description of the run.
    next_hello: u64,
    /// There are programs to run.
    has_processes: bool,
}

impl Session {
    /// Makes the rings, tests the overflow sources, and introduces itself.
    pub fn new(
        options: Options<'static>,
        cpu: &'static PerCpu,
        frequencies: Frequencies,
        mut cpus: Vec<CpuInfo>,
    ) -> Self {
        let spaces = spaces();
        let has_processes = !spaces.is_empty();
        choose_cpus(&options, has_processes, &mut cpus);
        let others = cpus.iter().filter(|info| info.samples && info.cpu != CPU_0).map(|info| info.cpu);
        let setup = Setup { options, frequencies, is_shared_clock: others.clone().count() > 0 };
        let (seat, drain) = Seat::new(setup, cpu, None, spaces);
        stream::begin(&options, cpu.apic, frequencies.tsc_hz);
        report_clock(&frequencies, &seat.calibration);
        let mut drains = Drains::new(drain);
        let team = Team::new(setup, seat.pmu.source, others, |drain| drains.add(drain));
        team.require_same_pmu(&seat);
        let cpu_name = BrandString::read();
        let mut session =
            Self { options, cpu_name, frequencies, cpus, seat, team, drains, next_hello: 0, has_processes };
        session.introduce();
        session
    }

    /// Measures one step of each task with sampling off.
    pub fn measure_steps(&self, tasks: &mut [Task]) {
        for task in tasks {
            task.measure_step(self.seat.calibration.clock);
        }
    }

    /// Tells what the PMU offers.
    pub fn list(&self) {
        pmu::send_offers(&self.seat.pmu);
    }

    /// Tells what the self-test of every counter found.
    pub fn report_counters(&self) {
        for report in &self.seat.pmu.reports {
            stream::send(&Frame::Counter(*report));
        }
    }

    /// Begins to account for overflows and drops of CPU 0: those of the self-test don't count.
    pub fn begin(&mut self) {
        self.seat.begin(self.drains.first_mut());
    }

    /// Starts to sample, on all CPUs that do.
    ///
    /// # Panics
    /// If sampling is on already.
    pub fn start(&mut self) {
        self.begin();
        if self.seat.pmu.registers.is_some() {
            // What the tests of the counters have raised is told apart by this.
            self.drains.iter().for_each(|drain| stream::send(&Frame::Sync(drain.totals())));
        }
        if self.ticks_all_along() {
            self.start_tick();
        }
        self.seat.prepare_line();
        self.team.start();
        if self.samples_here() {
            self.seat.start();
        }
        self.seat.start_line();
        self.seat.announce();
    }

    fn start_tick(&self) {
        tick::start(self.seat.cpu.apic, u64::from(self.options.tick_hz), self.tick_source());
    }

    /// Tells whether the tick has to come from before the start until after the end.
    ///
    /// The CPUs of an emulator may run in turn, and where no timer is armed a turn takes a tenth of a second. So long
    /// the counters of one CPU would wait in the midst of their start.
    fn ticks_all_along(&self) -> bool {
        !self.team.is_empty() && !self.has_processes
    }

    /// Tells whether CPU 0 samples.
    fn samples_here(&self) -> bool {
        self.cpus.first().is_some_and(|info| info.samples)
    }

    /// Works on the tasks in turn until the time is over, and drains meanwhile. Programs run beside that, and where
    /// there are any, the last one's end is the end. Nobody waits for the line meanwhile.
    pub fn work(&mut self, tasks: &mut [Task]) {
        let end = cpu::timestamp().saturating_add(self.duration_ticks());
        // Where CPU 0 only drains, the tick is what wakes it.
        let only_drains = !self.samples_here();
        let ticks = (self.has_processes || only_drains || self.seat.needs_tick) && !self.ticks_all_along();
        if ticks {
            self.start_tick();
        }
        let tasks = if only_drains { &mut [] } else { tasks };
        stream::set_busy(true);
        let mut turns = (0..tasks.len()).cycle();
        while cpu::timestamp() < end && (!self.has_processes || thread::has_running()) {
            match turns.next() {
                Some(turn) => tasks[turn].step(),
                None if self.has_processes || only_drains => thread::wait_for_tick(),
                None => break,
            }
            self.tend();
        }
        stream::set_busy(false);
        if ticks {
            tick::stop();
        }
    }

    /// Stops to sample, on all CPUs.
    pub fn stop(&mut self) {
        if let Some(source) = &self.seat.pmu.source {
            source.stop();
        }
        self.team.stop();
        self.seat.stop();
        if self.ticks_all_along() {
            tick::stop();
        }
        thread::stop_processes();
        if thread::has_ended() {
            // What a line that stands still leaves is given up at the end; nobody takes the address spaces' frames now.
            let _ = self.drains.first_mut().flush();
            self.bury();
        }
    }

    /// Sends what is left, the tasks' results, and the final counters.
    pub fn finish(&mut self, tasks: &[Task]) {
        self.drains.flush_or_abandon();
        self.warn();
        self.send_results(tasks);
        self.seat.send_counts();
        self.team.for_each(|seat, _| seat.send_counts());
        for info in self.cpus.iter().filter(|info| info.cpu != CPU_0 && !info.samples) {
            stream::send(&Frame::End(totals_of_parked(info.cpu)));
        }
        stream::send_counters();
        self.drains.iter().for_each(|drain| stream::send(&Frame::End(drain.totals())));
        stream::flush();
    }

    /// Sends what came of each workload, on all CPUs.
    fn send_results(&self, tasks: &[Task]) {
        let mut results: Vec<_> = tasks.iter().map(Task::result).collect();
        self.team.for_each(|_, tasks| {
            for (result, task) in results.iter_mut().zip(tasks) {
                let other = task.result();
                result.steps += other.steps;
                result.wrong_results += other.wrong_results;
            }
        });
        results.into_iter().for_each(|result| stream::send(&Frame::Workload(result)));
    }

    /// Does between two steps what the NMI can't: refill, drain, and introduce itself again.
    fn tend(&mut self) {
        if !self.team.is_empty() {
            team::give_way();
        }
        self.seat.cpu.reserve.refill();
        stream::pump();
        self.drains.poll(cpu::timestamp().saturating_add(self.frequencies.tsc_hz / DRAINS_PER_SECOND));
        self.reap();
        self.warn();
        if cpu::timestamp() >= self.next_hello && stream::has_room() {
            self.drains.iter_mut().for_each(Drain::next_epoch);
            self.introduce();
            self.drains.iter().for_each(|drain| stream::send(&Frame::Sync(drain.totals())));
            stream::send_counters();
        }
    }

    /// Buries the processes that have ended, after their last samples were sent; later, where the line is behind.
    fn reap(&mut self) {
        if thread::has_ended() && self.drains.first_mut().flush() {
            self.bury();
        }
    }

    /// Buries the processes that have ended, and tells how.
    fn bury(&self) {
        while let Some(thread) = thread::take_ended() {
            if let Some(outcome) = thread.outcome() {
                let (process, time) = (thread.id, cpu::timestamp());
                stream::send(&Frame::ProcessEnd(ProcessEnd { process, time, outcome }));
            }
        }
    }

    /// Reports the first page fault inside an NMI of each CPU, where that was asked for.
    fn warn(&self) {
        if !self.options.warn_fault {
            return;
        }
        for cpu in self.drains.iter().map(Drain::cpu) {
            if let Some((address, rip)) = cpu.nmi.first_fault.take() {
                let index = cpu.index;
                warning!(
                    "CPU {index}: first page fault inside an NMI: RIP {rip:#x}, address {address:#x} (warn_fault=on)"
                );
            }
        }
    }

    /// Returns the line that the scheduler may tick by.
    fn tick_source(&self) -> tick::Source {
        self.seat.pmu.source.as_ref().map_or(tick::Source::IntervalTimer, TickSource::tick_source)
    }

    fn introduce(&mut self) {
        let now = cpu::timestamp();
        stream::send(&Frame::Hello(self.hello(now)));
        self.cpus.iter().for_each(|info| stream::send(&Frame::Cpu(*info)));
        thread::for_each_process(Process::introduce);
        self.next_hello = now.saturating_add(self.frequencies.tsc_hz);
    }

    fn hello(&self, time: u64) -> Hello<'_> {
        let Calibration { clock, sample_ticks, .. } = self.seat.calibration;
        let exact = clock == ClockKind::Instructions;
        Hello {
            wire_version: WIRE_VERSION,
            schema: SCHEMA_HASH,
            build_id: build_id(),
            time,
            clock_hz: self.frequencies.tsc_hz,
            clock,
            cpus: u16::try_from(self.cpus.len()).unwrap_or(u16::MAX),
            cpu_name: self.cpu_name.as_str(),
            pmu: self.seat.pmu.info(),
            events: self.seat.events.iter().map(RunEvent::info).collect(),
            sample_instructions: sample_ticks,
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
        self.seat.start_timer(period, Throttle::OFF);
        code();
        self.stop();
    }

    /// Sends everything that waits, after showing it to `look`.
    pub fn flush(&mut self, look: impl FnMut(nmiprof_wire::Sample)) {
        // A line that stands still has nobody to tell.
        let _ = self.drains.first_mut().flush_seen(look);
    }

    /// Fills the reserve up.
    pub fn refill(&self) {
        self.seat.cpu.reserve.refill();
    }

    /// Returns where the ring is.
    pub fn ring_address(&mut self) -> u64 {
        self.drains.first_mut().ring_address()
    }
}

fn refuse(why: &str) -> ! {
    report::configuration(format_args!("{why}"))
}

/// Says of each CPU whether it samples. Programs run on CPU 0, and where there are some it is alone unless others are
/// asked for.
fn choose_cpus(options: &Options<'_>, has_processes: bool, cpus: &mut [CpuInfo]) {
    let list = CpuList::parse(options.cpu_list).unwrap_or_else(|expected| refuse(expected));
    let last = cpus.last().map_or(CPU_0, |info| info.cpu);
    if list.highest().is_some_and(|highest| highest > last) {
        refuse(&format!("cpu_list={}: the CPUs of this machine are 0 to {last}", list.text()));
    }
    if has_processes && !list.contains(CPU_0) {
        refuse(&format!("cpu_list={}: programs run on CPU 0; name it, too", list.text()));
    }
    for info in cpus {
        let is_wanted = options.job == Job::Record || options.job == Job::Stat;
        let is_alone =
            options.cpu_list.is_empty() && (has_processes || !is_wanted || !options.selftest.is_empty());
        info.samples = list.contains(info.cpu) && (info.cpu == CPU_0 || !is_alone);
    }
}

/// Reads the counters of a CPU that does not sample.
fn totals_of_parked(index: u16) -> CpuTotals {
    let nmi = percpu::of(index).map(|cpu| cpu.nmi.snapshot()).unwrap_or_default();
    CpuTotals { cpu: index, time: cpu::timestamp(), nmi, ..CpuTotals::default() }
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
    let tick = match (calibration.clock, calibration.sample_ticks) {
        (ClockKind::Instructions, _) => "one tick is one instruction",
        (ClockKind::Time, Some(_)) => "one tick is one instruction of any CPU, so a CPU's ticks are time",
        (ClockKind::Time, None) => return info!("clock: {mhz} MHz, ticks are time, not instructions"),
    };
    info!(
        "clock: {mhz} MHz, {tick}; a flat sample costs {}, {} of them after the counter is armed",
        calibration.sample_ticks.unwrap_or_default(),
        calibration.resume_ticks,
    );
}
