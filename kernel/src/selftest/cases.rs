//! Situations that need more than two NMIs at exact instructions: each is forced, and reported with how often it
//! did arise.
//!
//! | case | forced by | a hit is |
//! |---|---|---|
//! | 2 | self-NMIs in a row, before anything unmasks NMIs | a self-NMI of the row |
//! | 12 | the line, run on every stack pointer on and around the NMI stacks | a stack pointer |
//! | 20 | a first touch in the NMI while the thread holds the locks of mapper, frames and heap | a page fault under all of them |
//! | 23 | a touch of nothing in the NMI | an error that came back |
//! | 25 | an NMI sent by a breakpoint's handler; it raises breakpoints, the second of which does the same | a breakpoint in whose handler an NMI arrived |
//! | 27 | an NMI at every instruction around `mov ss` | an NMI between it and the next instruction |
//! | 30 | a write to an absent MSR in the NMI | an error that came back |
//! | 32 | a look at the descriptor tables | a data segment |
//! | 33 | one instruction that first raises an NMI and then faults | an NMI at the first instruction of #PF's entry |
//! | 34 | a pattern in the x87 and SSE registers around a storm | an NMI |

use alloc::boxed::Box;

use nmiprof_wire::{CaseReport, Failure, Frame};
use x86_64::registers::control::Cr2;

use super::acts::{self, Act};
use super::placement::{Bench, Observed};
use crate::arch::apic::experiment::{MESSAGES_TO_ALL, NMI_MESSAGE};
use crate::arch::frame::WORD;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::percpu::PerCpu;
use crate::arch::shadow::{self, Landing};
use crate::arch::{descriptors, exception, fpu};
use crate::memory::{frames, heap, space, stack};
use crate::nmi::experiment::{Plan, Provoking};
use crate::{report, stream};

/// Pages that one situation touches.
const PAGES: u64 = 32;
/// Self-NMIs in a row.
const ROWS: [u32; 3] = [2, 3, 10];
/// Bursts with a pattern in the registers, and what each provokes.
const PATTERN_BURSTS: u8 = 100;
const BURST: u32 = 24;
/// Vector of the page fault.
const PAGE_FAULT: usize = 14;
/// From the start of an `fxsave` area to the end of the page: MXCSR is in the page, the last registers are not.
const AREA_IN_PAGE: u64 = 256;

/// Forces every situation, and sends a report on each.
pub fn run(cpu: &'static PerCpu) {
    fpu::enable();
    let mut bench = Bench::new(cpu, PAGES);
    for count in ROWS {
        let row = bench.provoke(Provoking::InARow(count), false);
        send(&row.report(2, u64::from(count)));
    }
    send(&stack_pointers(&mut bench, cpu));
    send(&locks_held(&mut bench, cpu));
    send(&errors(&mut bench, cpu, 23, Act::TouchUnmapped));
    send(&breakpoints(&mut bench, cpu));
    send(&mov_ss(&mut bench, cpu));
    send(&errors(&mut bench, cpu, 30, Act::WriteAbsentMsr));
    send(&small_stacks());
    let device = space::map_device(MESSAGES_TO_ALL)
        .unwrap_or_else(|error| report::configuration(format_args!("no page for messages ({error:?})")));
    let area = device + PAGE_BYTES - AREA_IN_PAGE;
    send(&fault_entry(&mut bench, cpu, area));
    send(&nested_fault_entry(&mut bench, cpu));
    send(&registers(&mut bench));
    send(&CaseReport { failures: bench.control(), ..CaseReport::default() });
    bench.finish();
}

fn send(report: &CaseReport) {
    stream::send(&Frame::Case(*report));
}

/// A plan for code that sends its own NMI.
fn own(bench: &Bench, self_nmi: bool, timer: bool) -> Plan {
    Plan { pages: bench.pages(), on_line: false, self_nmi, timer, ..Plan::PLAIN }
}

/// Adds what does not hold.
fn judged(report: CaseReport, failure: Failure, holds: bool) -> CaseReport {
    CaseReport { failures: report.failures | if holds { 0 } else { failure.bit() }, ..report }
}

/// Adds the accounts of two reports on the same situation.
fn sum(a: CaseReport, b: CaseReport) -> CaseReport {
    CaseReport {
        case: b.case,
        hits: a.hits + b.hits,
        arrivals: a.arrivals + b.arrivals,
        runs: a.runs + b.runs,
        nested: a.nested + b.nested,
        stack_bytes: 0,
        failures: a.failures | b.failures,
    }
}

/// Runs the line on every word of the NMI stacks, from a page below to a page above: each time the NMI is a first
/// one, and what nests in it is nested. With the direction flag set only where no exit could be: see `rostedt`.
fn stack_pointers(bench: &mut Bench, cpu: &PerCpu) -> CaseReport {
    let mut all = CaseReport::default();
    for stack in cpu.nmi.stack().stacks() {
        let around = stack.bottom - PAGE_BYTES..stack.top + PAGE_BYTES;
        for pointer in around.step_by(WORD) {
            all = sum(all, bench.on_stack(pointer, false).report(12, 1));
        }
        let top = cpu.nmi.stack().top().as_u64();
        for pointer in [stack.bottom - 8, stack.bottom, top - 8, top, stack.top - 8, stack.top, stack.top + 8]
        {
            all = sum(all, bench.on_stack(pointer, true).report(12, 1));
        }
    }
    all
}

/// Takes a first touch in an NMI while this thread holds every lock of memory.
fn locks_held(bench: &mut Bench, cpu: &PerCpu) -> CaseReport {
    let plan = own(bench, true, false);
    let send_nmi = || {
        cpu.apic.send_self_nmi();
        space::is_locked().then_some(())
    };
    let (locked, observed) = bench.observe(&plan, |_| {
        let _mapper = space::kernel();
        frames::while_locked(|| heap::while_locked(send_nmi))
    });
    judged(observed.report(20, observed.counts.page_faults), Failure::Live, locked.is_some())
}

/// Lets the NMI make an access that returns an error.
fn errors(bench: &mut Bench, cpu: &PerCpu, case: u16, act: Act) -> CaseReport {
    acts::take_errors();
    let observed = sent(bench, cpu, act);
    observed.report(case, u64::from(acts::take_errors()))
}

/// Sends a self-NMI whose handler acts.
fn sent(bench: &mut Bench, cpu: &PerCpu, act: Act) -> Observed {
    acts::prepare(act);
    let plan = own(bench, true, false);
    let send_nmi = |_: &Bench| {
        cpu.apic.send_self_nmi();
        Some(())
    };
    bench.observe(&plan, send_nmi).1
}

/// Raises a breakpoint here, whose handler is interrupted by an NMI that raises two more, and the handler of the
/// second one is interrupted again where NMIs are unmasked by then.
fn breakpoints(bench: &mut Bench, cpu: &PerCpu) -> CaseReport {
    acts::prepare(Act::Break);
    let plan = own(bench, true, false);
    let raise = |_: &Bench| {
        cpu.nmi.experiment.break_and_send();
        Some(())
    };
    let observed = bench.observe(&plan, raise).1;
    let report = observed.report(25, u64::from(observed.outcome.hit_breakpoints));
    judged(report, Failure::Latch, observed.outcome.breakpoints == 3)
}

/// Lets the timer's NMI land on each instruction around `mov ss`.
fn mov_ss(bench: &mut Bench, cpu: &PerCpu) -> CaseReport {
    let other = stack::current().bottom;
    let mut all = CaseReport::default();
    for ticks in 1..shadow::TICKS_END {
        let plan = own(bench, false, true);
        let (rsp, observed) = bench.observe(&plan, |_| Some(shadow::run(ticks, other)));
        let landing = shadow::landing(&cpu.nmi.stack().last_arrival(), other);
        let report = observed.report(27, u64::from(landing == Some(Landing::InShadow)));
        let is_right = rsp == Some(other) && landing.is_some() && observed.counts.entries == 1;
        all = sum(all, judged(report, Failure::Stack, is_right));
    }
    all
}

/// Looks for stack segments of 16 bits: without a local table and without one in the global table there is none.
fn small_stacks() -> CaseReport {
    let (hits, small) = descriptors::data_segments();
    let report = CaseReport { case: 32, hits, ..CaseReport::default() };
    judged(report, Failure::Stack, small == 0 && descriptors::local_table() == 0)
}

/// Interrupts this thread's #PF at the first instruction of its entry; the handler faults there once more.
fn fault_entry(bench: &mut Bench, cpu: &PerCpu, area: u64) -> CaseReport {
    message_state();
    acts::take_errors();
    let plan = own(bench, true, false);
    let mut address = 0;
    let fault = |_: &Bench| {
        acts::fault_with_nmi(area);
        address = Cr2::read_raw();
        // CR2 is not what it was, and may not be: the bench need not look.
        None::<()>
    };
    let observed = bench.observe(&plan, fault).1;
    let report = judged(at_fault_entry(&observed, cpu), Failure::Cr2, address == area + AREA_IN_PAGE);
    judged(report, Failure::Latch, acts::take_errors() == 1)
}

/// The same with a fault inside an NMI: where something unmasks NMIs before, the one at #PF's entry is nested.
fn nested_fault_entry(bench: &mut Bench, cpu: &PerCpu) -> CaseReport {
    message_state();
    acts::take_errors();
    let observed = sent(bench, cpu, Act::FaultWithNmi);
    judged(at_fault_entry(&observed, cpu), Failure::Latch, acts::take_errors() == 1)
}

/// Puts an NMI's message into MXCSR.
fn message_state() {
    fpu::load(&fpu::State::pattern(0).with_mxcsr(NMI_MESSAGE));
}

fn at_fault_entry(observed: &Observed, cpu: &PerCpu) -> CaseReport {
    let is_there = cpu.nmi.stack().last_arrival().rip == exception::stub(PAGE_FAULT).as_u64();
    observed.report(33, u64::from(is_there))
}

/// Runs bursts with a pattern in the registers that the kernel does not use.
fn registers(bench: &mut Bench) -> CaseReport {
    let mut all = CaseReport::default();
    for seed in 1..=PATTERN_BURSTS {
        fpu::load(&fpu::State::pattern(seed));
        let before = Box::new(fpu::save());
        let (_, observed) = bench.burst(BURST, u64::from(seed));
        let is_same = fpu::save() == *before;
        all = sum(all, judged(observed.report(34, observed.counts.entries), Failure::Registers, is_same));
    }
    all
}
