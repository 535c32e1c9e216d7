//! Case 14: an exception with a stack of its own at the last instruction of an NMI entry, and an NMI inside it.
//!
//! That instruction is the `iretq`: the entry's state is free already, but its frame is still needed. Two
//! exceptions could come there. #DB does not: [`Breakpoint::set`] refuses what the entries use, which is checked
//! first. #MC may, and is the end of the run: it has to come to its report although an NMI arrives inside.
//!
//! No emulator raises #MC at a chosen instruction. So a breakpoint that is *not* refused stands in: it raises
//! #DB at the `iretq`, and vector 1 goes to the entry and the stack of #MC.

use core::sync::atomic::{AtomicBool, Ordering};

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::Options;

use crate::arch::breakpoint::{self, Breakpoint};
use crate::arch::experiment::{self, Registers, ScratchStack};
use crate::arch::frame::WORD;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::percpu::{self, PerCpu};
use crate::arch::{apic, idt};
use crate::memory::vmalloc::LazyArea;
use crate::nmi::entry::{self, last_instruction};
use crate::nmi::experiment::Plan;
use crate::{info, report};

const MACHINE_CHECK: u64 = 18;

/// The next machine check is the one that is waited for.
static EXPECTED: AtomicBool = AtomicBool::new(false);
/// Stack of the interrupted code.
static STACK: ScratchStack = ScratchStack::new();

/// Checks the refusals, and then raises the machine check.
///
/// # Panics
/// If a breakpoint is set that should be refused, or no machine check comes.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu) -> ! {
    let exit = last_instruction(options.nmi_entry);
    check_refusals(exit, cpu);
    let area = LazyArea::new(PAGE_BYTES).unwrap_or_else(|error| {
        report::configuration(format_args!("no memory for a page ({error:?})"));
    });
    idt::swap_debug_for_machine_check();
    cpu.apic.aim_at_self().expect("QEMU's APIC is an xAPIC here");
    // The page fault of the touch unmasks NMIs, so that one can arrive inside the machine check.
    let pages = area.start()..area.start() + PAGE_BYTES;
    let plan = Plan { pages, ..Plan::PLAIN };
    cpu.nmi.experiment.begin(&plan, cpu.nmi.snapshot().entries);
    cpu.apic.disarm();
    EXPECTED.store(true, Ordering::Relaxed);
    Breakpoint::Execute(exit).set_anywhere();
    let registers = Registers { rdi: apic::experiment::REGISTERS, ..Registers::default() };
    experiment::run(&registers, None, STACK.pointer());
    panic!("no machine check came at {exit:#x}");
}

/// Sends an NMI from inside the machine check, and says what came of it: the report of the exception follows.
///
/// # Context
/// The exception path; a machine check at the exit of an NMI.
pub fn take(vector: u64) {
    if vector != MACHINE_CHECK || !EXPECTED.swap(false, Ordering::Relaxed) {
        return;
    }
    // A real machine check leaves no breakpoint behind that the NMI inside would hit again.
    breakpoint::clear();
    let cpu = percpu::current();
    let before = cpu.nmi.snapshot();
    cpu.nmi.send_self_nmi(cpu.apic);
    let after = cpu.nmi.snapshot();
    info!(
        "exit window: {} arrivals and {} runs before the machine check; {} and {} inside it",
        before.entries,
        before.runs,
        after.entries - before.entries,
        after.runs - before.runs,
    );
}

/// Tries to set breakpoints on what the entries execute and write, and next to it.
fn check_refusals(exit: u64, cpu: &PerCpu) {
    let (text, [stack, second]) = (entry::text(), cpu.nmi.stack().used_by_entries());
    let last_word = stack.end - WORD as u64;
    let mut refused = [text.start, exit, text.end - 1].map(Breakpoint::Execute).to_vec();
    refused.extend([stack.start, last_word, stack.end - 1, stack.start - 1].map(Breakpoint::Write));
    if !second.is_empty() {
        refused.extend([second.start, second.end - WORD as u64].map(Breakpoint::Write));
    }
    for breakpoint in &refused {
        assert!(breakpoint.set().is_err(), "{breakpoint:x?} is set, but an NMI entry hits it");
    }
    let allowed = [
        Breakpoint::Execute(text.start - 1),
        Breakpoint::Execute(text.end),
        Breakpoint::Write(stack.start - WORD as u64),
    ];
    for breakpoint in allowed {
        assert!(breakpoint.set().is_ok(), "{breakpoint:x?} is refused, but no NMI entry hits it");
        breakpoint::clear();
    }
    info!("exit window: {} breakpoints refused, {} set", refused.len(), allowed.len());
}
