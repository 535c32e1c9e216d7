//! One placement of the NMI sweep: a first NMI, a second one so many ticks later, and what must hold then.
//!
//! The interrupted code is [`arch::experiment`](crate::arch::experiment); the handler's part is
//! [`nmi::experiment`](crate::nmi::experiment). After the two NMIs a control experiment sends a third one with
//! the opposite flags: it must arrive at once (NMI-live), and come back as clean as the others.

#![expect(unsafe_code, reason = "takes pages away between experiments")]

use alloc::boxed::Box;
use core::ops::Range;

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::{Failure, NmiCounters, Placement};
use x86_64::registers::control::Cr2;
use x86_64::registers::debug::{
    BreakpointCondition, BreakpointSize, DebugAddressRegister, DebugAddressRegisterNumber, Dr0, Dr7,
    Dr7Flags, Dr7Value,
};

use crate::arch::apic;
use crate::arch::experiment::{self, Registers, ScratchStack, line_start, write_cr2};
use crate::arch::layout::{HEAP, PAGE_BYTES};
use crate::arch::paging::MapError;
use crate::arch::percpu::PerCpu;
use crate::memory::vmalloc::LazyArea;
use crate::nmi::experiment::{PROVOKED_TICKS_MAX, Plan};
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
/// Mapped nowhere: the breakpoint in DR0 is never hit.
const BREAKPOINT: u64 = HEAP - PAGE_BYTES;
/// Odd, with bits set all over: its multiples differ in every byte.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the placements of one CPU share.
pub struct Bench {
    cpu: &'static PerCpu,
    area: LazyArea,
    /// Pages of the area.
    pages: u64,
    stack: Box<ScratchStack>,
    dr7: u64,
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
        cpu.nmi.stack().paint_canary();
        Dr0::write(BREAKPOINT);
        Dr7::write(breakpoint_control());
        Self { cpu, area, pages, stack: Box::new(ScratchStack::new()), dr7: Dr7::read_raw() }
    }

    /// Leaves the CPU as it was.
    pub fn finish(self) {
        Dr7::write(Dr7Value::from(Dr7Flags::empty()));
        self.cpu.apic.mask_timer();
    }

    /// Runs one placement and checks it.
    pub fn place(&mut self, ticks: u32) -> Placement {
        let plan = Plan { pages: self.pages(), timer: true, provoke: 0, seed: 0 };
        let mut placement = self.experiment(&wanted(ticks, FLAGS_SET), &plan);
        if placement.arrivals != 2 {
            placement.failures |= Failure::Latch.bit();
        }
        placement.failures |= self.control();
        placement
    }

    /// Runs a burst: a first NMI, and `provoke` more, each by a run of the handler that some earlier one caused.
    pub fn burst(&mut self, provoke: u32, seed: u64) -> Placement {
        let flags = if seed & FLAGS_CHOICE == 0 { FLAGS_CLEAR } else { FLAGS_SET };
        let plan = Plan { pages: self.pages(), timer: true, provoke, seed };
        self.experiment(&wanted(PROVOKED_TICKS_MAX, flags), &plan)
    }

    /// Sends one NMI, whose arrival must be immediate, and returns what failed.
    pub fn control(&mut self) -> u32 {
        let plan = Plan { pages: 0..0, timer: false, provoke: 0, seed: 0 };
        let Placement { arrivals, runs, nested, last_rip, failures, .. } =
            self.experiment(&wanted(0, FLAGS_CLEAR), &plan);
        let at_once = (arrivals, runs, nested, last_rip) == (1, 1, 0, line_start());
        failures | if at_once { 0 } else { Failure::Live.bit() }
    }

    /// Runs the interrupted code once, and checks everything that does not depend on the plan.
    fn experiment(&mut self, wanted: &Registers, plan: &Plan) -> Placement {
        let (cpu, seed) = (self.cpu, wanted.rbp_to_r15[0]);
        // SAFETY: (1) between two experiments nothing uses the pages; (2) a touch leaves zeros.
        self.area.remove_all(|frame| unsafe { cpu.reserve.put_back(frame) });
        self.stack.paint(seed);
        Dr7::write_raw(self.dr7);
        write_cr2(CR2);
        let before = cpu.nmi.snapshot();
        cpu.nmi.experiment.begin(plan, before.entries);
        let found = experiment::run(wanted, &self.stack);
        let (cr2, dr7) = (Cr2::read_raw(), Dr7::read_raw());
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
        // An abandoned NMI gives nothing back: what made it so says it all.
        if let Some((registers, rsp)) = found {
            check(Failure::Registers, Registers { rflags: wanted.rflags, ..registers } == *wanted);
            check(Failure::Flags, registers.rflags == wanted.rflags);
            check(Failure::Stack, rsp == self.stack.pointer() && self.stack.is_intact(seed));
            check(Failure::Cr2, cr2 == CR2);
            check(Failure::Dr7, dr7 == self.dr7);
        }
        Placement {
            ticks: wanted.ticks(),
            last_rip: outcome.watchdog_rip.unwrap_or_else(|| cpu.nmi.stack().last_arrival().rip),
            arrivals: narrow(counts.entries),
            runs: narrow(counts.runs),
            nested: narrow(counts.nested),
            failures,
        }
    }

    fn pages(&self) -> Range<u64> {
        self.area.start()..self.area.start() + self.pages * PAGE_BYTES
    }
}

fn no_memory(error: MapError) -> ! {
    report::configuration(format_args!("no memory for the pages ({error:?})"))
}

/// A breakpoint on 8 bytes that nothing writes to.
fn breakpoint_control() -> Dr7Value {
    let mut control = Dr7Value::from(Dr7Flags::LOCAL_BREAKPOINT_0_ENABLE);
    control.set_condition(DebugAddressRegisterNumber::Dr0, BreakpointCondition::DataWrites);
    control.set_size(DebugAddressRegisterNumber::Dr0, BreakpointSize::Length8B);
    control
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
