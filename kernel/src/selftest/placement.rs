//! One placement of the NMI sweep: a first NMI, a second one so many ticks later, and what must hold then.
//!
//! The interrupted code is [`arch::experiment`](crate::arch::experiment); the handler's part is
//! [`nmi::experiment`](crate::nmi::experiment). After the two NMIs a control experiment sends a third one with
//! the opposite flags: it must arrive at once (NMI-live), and come back as clean as the others.

#![expect(unsafe_code, reason = "takes pages away between experiments")]

use alloc::boxed::Box;
use core::ops::Range;

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::{CaseReport, Failure, NmiCounters, Placement};
use x86_64::registers::control::Cr2;

use crate::arch::breakpoint::{self, Breakpoint};
use crate::arch::experiment::{
    self, LINE_INSTRUCTIONS, Registers, ScratchStack, Third, line_start, write_cr2,
};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::paging::MapError;
use crate::arch::percpu::PerCpu;
use crate::arch::{apic, arrivals, budget};
use crate::memory::vmalloc::LazyArea;
use crate::nmi::experiment::{Outcome, Plan, Provoking};
use crate::report;

/// Every flag that survives `popfq` and does not raise an exception: CF PF AF ZF SF IF DF OF NT AC ID, and
/// the bit that is always set. (TF would raise #DB after each instruction.)
const FLAGS_SET: u64 = 0x0024_4ed7;
/// The bit that is always set.
const FLAGS_CLEAR: u64 = 0x2;
/// Canonical, mapped nowhere, and no address of a page fault here.
const CR2: u64 = 0x5a5a_1234_5678;
/// Bit of a seed that chooses the flags of a burst.
const FLAGS_CHOICE: u64 = 1 << 32;
/// Bits of a seed, from this one on, that choose the ticks of a burst.
const BURST_TICKS_SHIFT: u32 = 33;
/// Odd, with bits set all over: its multiples differ in every byte.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the placements of one CPU share.
pub struct Bench {
    cpu: &'static PerCpu,
    area: LazyArea,
    /// Pages of the area.
    pages: u64,
    stack: Box<ScratchStack>,
}

impl Bench {
    /// Sets the experiments up, with so many pages to touch.
    pub fn new(cpu: &'static PerCpu, pages: u64) -> Self {
        let area = LazyArea::new(pages * PAGE_BYTES).unwrap_or_else(|error| no_memory(error));
        // Makes the tables, so that all placements are alike; the first one takes the pages away.
        area.populate().unwrap_or_else(|error| no_memory(error));
        if cpu.apic.aim_at_self().and_then(|()| cpu.apic.route_timer_to_nmi()).is_err() {
            report::configuration(format_args!(
                "this needs an xAPIC whose timer raises NMIs; run QEMU's TCG"
            ));
        }
        cpu.nmi.stack().paint();
        Self { cpu, area, pages, stack: Box::new(ScratchStack::new()) }
    }

    /// Leaves the CPU as it was.
    pub fn finish(self) {
        budget::lift();
        self.cpu.apic.mask_timer();
    }

    /// Runs one placement and checks it.
    pub fn place(&mut self, ticks: u32) -> Placement {
        let plan = Plan { pages: self.pages(), timer: true, ..Plan::PLAIN };
        let mut placement = self.experiment(&wanted(ticks, FLAGS_SET), None, &plan).0;
        if placement.arrivals != 2 {
            placement.failures |= Failure::Latch.bit();
        }
        placement.failures |= self.control();
        placement
    }

    /// Runs one placement with a third NMI and checks it. The addresses of its arrivals are in their log.
    pub fn place_with(&mut self, ticks: u32, third: &Third) -> Placement {
        let plan = Plan { pages: self.pages(), timer: true, third: third.count, ..Plan::PLAIN };
        arrivals::clear();
        self.experiment(&wanted(ticks, FLAGS_SET), Some(third), &plan).0
    }

    /// Runs a placement whose first run provokes as it is told.
    pub fn place_provoking(&mut self, ticks: u32, provoking: Provoking) -> Placement {
        let plan = Plan { pages: self.pages(), timer: true, provoking, ..Plan::PLAIN };
        let mut placement = self.experiment(&wanted(ticks, FLAGS_SET), None, &plan).0;
        placement.failures |= self.control();
        placement
    }

    /// Runs a burst: a first NMI, and `budget` more, or up to twice as many, each provoked by a run of the handler
    /// that some earlier one caused. The timer's NMI comes anywhere among them, so that two may be nested in the
    /// same run.
    pub fn burst(&mut self, budget: u32, seed: u64) -> (Placement, Observed) {
        let flags = if seed & FLAGS_CHOICE == 0 { FLAGS_CLEAR } else { FLAGS_SET };
        let provoking = Provoking::Random { budget, seed };
        let plan = Plan { pages: self.pages(), timer: true, provoking, ..Plan::PLAIN };
        self.experiment(&wanted(burst_ticks(seed), flags), None, &plan)
    }

    /// Runs the line once, interrupted by a self-NMI, while the handler provokes as it is told.
    pub fn provoke(&mut self, provoking: Provoking, touches: bool) -> Observed {
        let pages = if touches { self.pages() } else { 0..0 };
        self.experiment(&wanted(0, FLAGS_SET), None, &Plan { pages, provoking, ..Plan::PLAIN }).1
    }

    /// Runs the line on another stack pointer, interrupted by an NMI that touches a page and sends another one.
    pub fn on_stack(&mut self, pointer: u64, backwards: bool) -> Observed {
        let wanted = wanted(0, if backwards { FLAGS_SET } else { FLAGS_CLEAR });
        let plan = Plan { pages: self.pages(), provoking: Provoking::AtExit(1), ..Plan::PLAIN };
        let (found, observed) = self.observe(&plan, |_| experiment::run(&wanted, None, pointer));
        let is_same = found.is_none_or(|found| found == (wanted, pointer));
        let has_run_twice = (observed.counts.entries, observed.counts.runs) == (2, 2);
        let stack = if is_same { 0 } else { Failure::Stack.bit() };
        let latch = if has_run_twice { 0 } else { Failure::Latch.bit() };
        Observed { failures: observed.failures | stack | latch, ..observed }
    }

    /// Sends one NMI, whose arrival must be immediate, and returns what failed.
    pub fn control(&mut self) -> u32 {
        let Placement { arrivals, runs, nested, last_rip, failures, .. } =
            self.experiment(&wanted(0, FLAGS_CLEAR), None, &Plan::PLAIN).0;
        let at_once = (arrivals, runs, nested, last_rip) == (1, 1, 0, line_start());
        failures | if at_once { 0 } else { Failure::Live.bit() }
    }

    /// Runs the interrupted code once, and checks everything that does not depend on the plan.
    fn experiment(
        &mut self,
        wanted: &Registers,
        third: Option<&Third>,
        plan: &Plan,
    ) -> (Placement, Observed) {
        let seed = wanted.rbp_to_r15[0];
        self.stack.paint(seed);
        let (found, observed) = self.observe(plan, |bench| {
            let found = experiment::run(wanted, third, bench.stack.pointer());
            if let Some(third) = third {
                third.disarm();
            }
            found
        });
        let mut failures = observed.failures;
        // An abandoned NMI gives nothing back: what made it so says it all.
        if let Some((registers, rsp)) = found {
            let mut check = |failure: Failure, holds: bool| failures |= if holds { 0 } else { failure.bit() };
            check(Failure::Registers, Registers { rflags: wanted.rflags, ..registers } == *wanted);
            check(Failure::Flags, registers.rflags == wanted.rflags);
            check(Failure::Stack, rsp == self.stack.pointer() && self.stack.is_intact(seed));
        }
        let last_rip = observed.outcome.watchdog_rip;
        let placement = Placement {
            ticks: wanted.ticks(),
            last_rip: last_rip.unwrap_or_else(|| self.cpu.nmi.stack().last_arrival().rip),
            arrivals: narrow(observed.counts.entries),
            runs: narrow(observed.counts.runs),
            nested: narrow(observed.counts.nested),
            failures,
        };
        (placement, Observed { failures, ..observed })
    }

    /// Runs `code` under a plan, and checks the accounts, the stack of the NMI, CR2 and DR7.
    ///
    /// Where the code returns nothing, the NMI was abandoned.
    pub fn observe<T>(
        &mut self,
        plan: &Plan,
        code: impl FnOnce(&Self) -> Option<T>,
    ) -> (Option<T>, Observed) {
        let cpu = self.cpu;
        // SAFETY: (1) between two experiments nothing uses the pages; (2) a touch leaves zeros.
        self.area.remove_all(|frame| unsafe { cpu.reserve.put_back(frame) });
        write_cr2(CR2);
        let before = cpu.nmi.snapshot();
        cpu.nmi.experiment.begin(plan, before.entries);
        budget::renew();
        let debug_control = self.watch_handler();
        let result = code(self);
        let (cr2, dr7) = (Cr2::read_raw(), breakpoint::control());
        breakpoint::clear();
        cpu.apic.disarm();
        let after = cpu.nmi.snapshot();
        let outcome = cpu.nmi.experiment.end(after.entries);
        if outcome.touch_failed {
            report::configuration(format_args!(
                "the experiment found no frame for a page: raise reserve_frames"
            ));
        }
        let counts = since(&before, &after);
        let mut failures = outcome.failures;
        let mut check = |failure: Failure, holds: bool| failures |= if holds { 0 } else { failure.bit() };
        check(Failure::Latch, equation_holds(&counts));
        check(Failure::Canary, cpu.nmi.stack().canary_is_intact());
        if result.is_some() {
            check(Failure::Cr2, cr2 == CR2);
            check(Failure::Dr7, dr7 == debug_control);
        }
        (result, Observed { counts, outcome, failures })
    }

    /// Sets a breakpoint that every run of the handler hits, unless DR7 is zeroed for it: the #DB would be fatal.
    /// Returns DR7.
    fn watch_handler(&self) -> u64 {
        let word = Breakpoint::Write(self.cpu.nmi.experiment.written_by_runs());
        word.set()
            .unwrap_or_else(|_| report::configuration(format_args!("an NMI entry writes the handler's word")))
    }

    /// Returns the pages that have no frame when an experiment begins.
    pub const fn pages(&self) -> Range<u64> {
        self.area.start()..self.area.start() + self.pages * PAGE_BYTES
    }
}

fn no_memory(error: MapError) -> ! {
    report::configuration(format_args!("no memory for the pages ({error:?})"))
}

/// What an experiment came to.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// What the dispatcher and the entry counted meanwhile.
    pub counts: NmiCounters,
    /// What the handler saw.
    pub outcome: Outcome,
    /// Bits of [`Failure`].
    pub failures: u32,
}

impl Observed {
    /// Makes the report on a situation that arose so many times.
    pub fn report(&self, case: u16, hits: u64) -> CaseReport {
        let NmiCounters { entries: arrivals, runs, nested, .. } = self.counts;
        CaseReport { case, hits, arrivals, runs, nested, stack_bytes: 0, failures: self.failures }
    }
}

/// Chooses when the timer of a burst ends: before the line does, even if nothing but the line runs.
const fn burst_ticks(seed: u64) -> u32 {
    1 + (seed >> BURST_TICKS_SHIFT) as u32 % (LINE_INSTRUCTIONS / 2)
}

/// Makes registers that differ from each other and from one placement to the next.
fn wanted(ticks: u32, rflags: u64) -> Registers {
    let pattern = |index: u64| PATTERN.wrapping_mul(index).wrapping_add(u64::from(ticks)) ^ rflags << 32;
    Registers {
        rax_rbx: [1, 2].map(pattern),
        rcx: pattern(3) & !u64::from(u32::MAX) | u64::from(ticks),
        rdx_rsi: [4, 5].map(pattern),
        rdi: apic::experiment::REGISTERS,
        rbp_to_r15: [6, 7, 8, 9, 10, 11, 12, 13, 14].map(pattern),
        rflags,
    }
}

fn since(before: &NmiCounters, after: &NmiCounters) -> NmiCounters {
    NmiCounters {
        entries: after.entries.wrapping_sub(before.entries),
        runs: after.runs.wrapping_sub(before.runs),
        nested: after.nested.wrapping_sub(before.nested),
        rerun: after.rerun.wrapping_sub(before.rerun),
        back_to_back: after.back_to_back.wrapping_sub(before.back_to_back),
        page_faults: after.page_faults.wrapping_sub(before.page_faults),
        ..NmiCounters::default()
    }
}

/// Tells whether the entry's own accounts add up: see [`NmiCounters`].
const fn equation_holds(counts: &NmiCounters) -> bool {
    counts.entries.wrapping_add(counts.rerun) == counts.runs.wrapping_add(counts.nested)
}

fn narrow(count: u64) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
