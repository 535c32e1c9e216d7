//! One placement of the NMI sweep: a first NMI, a second one so many ticks later, and what must hold then.
//!
//! The interrupted code is [`arch::experiment`](crate::arch::experiment); the handler's part is
//! [`nmi::experiment`](crate::nmi::experiment). After the two NMIs a control experiment sends a third one with
//! the opposite flags: it must arrive at once (NMI-live), and come back as clean as the others.

use alloc::boxed::Box;

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
use crate::arch::percpu::PerCpu;
use crate::memory::vmalloc::LazyArea;
use crate::nmi::experiment::Plan;
use crate::report;

/// Every flag that survives `popfq` and does not raise an exception: CF PF AF ZF SF IF DF OF NT AC ID, and
/// the bit that is always set. (TF would raise #DB after each instruction.)
const FLAGS_SET: u64 = 0x0024_4ed7;
/// The bit that is always set.
const FLAGS_CLEAR: u64 = 0x2;
/// Canonical, mapped nowhere, and no address of a page fault here.
const CR2: u64 = 0x5a5a_1234_5678;
/// Mapped nowhere: the breakpoint in DR0 is never hit.
const BREAKPOINT: u64 = HEAP - PAGE_BYTES;
/// Odd, with bits set all over: its multiples differ in every byte.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the placements of one CPU share.
pub struct Bench {
    cpu: &'static PerCpu,
    page: LazyArea,
    stack: Box<ScratchStack>,
    dr7: u64,
}

impl Bench {
    /// Sets the experiment up.
    pub fn new(cpu: &'static PerCpu) -> Self {
        let page = LazyArea::new(PAGE_BYTES).unwrap_or_else(|error| {
            report::configuration(format_args!("no memory for the sweep's page ({error:?})"))
        });
        if cpu.apic.aim_at_self().and_then(|()| cpu.apic.route_timer_to_nmi()).is_err() {
            report::configuration(format_args!(
                "the sweep needs an xAPIC whose timer raises NMIs; run QEMU's TCG"
            ));
        }
        cpu.nmi.stack().paint_canary();
        Dr0::write(BREAKPOINT);
        Dr7::write(breakpoint_control());
        Self { cpu, page, stack: Box::new(ScratchStack::new()), dr7: Dr7::read_raw() }
    }

    /// Leaves the CPU as it was.
    pub fn finish(self) {
        Dr7::write(Dr7Value::from(Dr7Flags::empty()));
        self.cpu.apic.mask_timer();
    }

    /// Runs one placement and checks it.
    pub fn place(&mut self, ticks: u32) -> Placement {
        self.page.decommit(|frame| self.cpu.reserve.put_back(frame));
        let before = self.cpu.nmi.snapshot();
        let mut failures = self.experiment(&wanted(ticks, FLAGS_SET), Some(self.page.start()));
        let last_rip = self.cpu.nmi.stack().last_arrival().rip;
        let counts = since(&before, &self.cpu.nmi.snapshot());
        if counts.entries != 2 || !equation_holds(&counts) {
            failures |= Failure::Latch.bit();
        }
        Placement {
            ticks,
            last_rip,
            arrivals: narrow(counts.entries),
            runs: narrow(counts.runs),
            nested: narrow(counts.nested),
            failures: failures | self.control(),
        }
    }

    /// Sends one NMI, whose arrival must be immediate, and returns what failed.
    fn control(&mut self) -> u32 {
        let before = self.cpu.nmi.snapshot();
        let mut failures = self.experiment(&wanted(0, FLAGS_CLEAR), None);
        let counts = since(&before, &self.cpu.nmi.snapshot());
        let at_once = self.cpu.nmi.stack().last_arrival().rip == line_start();
        if counts.entries != 1 || counts.runs != 1 || counts.nested != 0 || !at_once {
            failures |= Failure::Live.bit();
        }
        failures
    }

    /// Runs the interrupted code once; returns the failures that the code and the handler see.
    fn experiment(&mut self, wanted: &Registers, page: Option<u64>) -> u32 {
        let seed = wanted.rbp_to_r15[0];
        self.stack.paint(seed);
        Dr7::write_raw(self.dr7);
        write_cr2(CR2);
        let plan = Plan { page, timer: ticks_of(wanted) != 0 };
        self.cpu.nmi.experiment.begin(plan, self.arrivals());
        let found = experiment::run(wanted, &self.stack);
        let (cr2, dr7) = (Cr2::read_raw(), Dr7::read_raw());
        self.cpu.apic.disarm();
        let outcome = self.cpu.nmi.experiment.end(self.arrivals());
        if outcome.touch_failed {
            report::configuration(format_args!("the sweep's page found no frame: raise reserve_frames"));
        }
        let mut failures = outcome.failures;
        let mut check = |failure: Failure, holds: bool| failures |= if holds { 0 } else { failure.bit() };
        // An abandoned NMI gives nothing back: that NMI-once or NMI-latch failed says it all.
        if let Some((registers, rsp)) = found {
            check(Failure::Registers, Registers { rflags: wanted.rflags, ..registers } == *wanted);
            check(Failure::Flags, registers.rflags == wanted.rflags);
            check(Failure::Stack, rsp == self.stack.pointer() && self.stack.is_intact(seed));
            check(Failure::Cr2, cr2 == CR2);
            check(Failure::Dr7, dr7 == self.dr7);
        }
        check(Failure::Canary, self.cpu.nmi.stack().canary_is_intact());
        failures
    }

    fn arrivals(&self) -> u64 {
        self.cpu.nmi.stack().read_counters().entries
    }
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

const fn ticks_of(registers: &Registers) -> u64 {
    registers.rcx & u32::MAX as u64
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
