//! What the self-test image does on request.

#![expect(unsafe_code, reason = "breaks the machine on purpose")]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use nmiprof_wire::Options;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::paging::PhysFrame;

use super::acts::{self, Act};
use super::{
    cases, dispatch, exceptions, exit_window, falling, first_touch, frameless, gap, handler_times, pairs,
    parked, race, rain, spaces, starting, storm, sweep, switch, user, windows,
};
use crate::arch::apic::refusal;
use crate::arch::percpu::PerCpu;
use crate::arch::{budget, idt, switch_line};
use crate::memory::space::AddressSpace;
use crate::session::Session;
use crate::{init, report};

/// The mutant loses every sample whose turn it is, without a trace.
const SKIP_EVERY: u32 = 100;

/// Samples until the next one is lost; 0 while the kernel is not mutated. Written by the trigger, and then
/// by the NMI.
static SKIP_COUNTDOWN: AtomicU32 = AtomicU32::new(0);

/// The mutant that trusts the software's idea of the current address space. Written by the trigger.
static SYNC_CURRENT: AtomicBool = AtomicBool::new(false);

/// Name of the trigger that sets the clocks of all CPUs but the first wrong, while they are compared.
const CLOCK_SKEW: &str = "clock-skew";
/// How far.
const SKEW_TICKS: i64 = -1_000_000_000_000;
/// How far they are off. Written before any other CPU starts.
static SKEW: AtomicI64 = AtomicI64::new(0);

/// Name of the mutant whose additions to shared words are no atomic ones.
const LOST_WRITES: &str = "lost-writes";
/// Whether it is on. Written by the trigger.
static LOSES_WRITES: AtomicBool = AtomicBool::new(false);

const KNOWN: &str = "panic, panic-in-rain, hang, spin, triple-fault, exception, exceptions, stack-overflow, double-fault-nmi, nmi-read, \
     nmi-stack-overflow, no-nmi-stack, skip-ring-write, sweep, sweep-redirected, pairs, storm, exit-window, cases, dispatch, ipi, late, \
     switch, switch-sync-current, spaces, first-touch, decommit-gap, decommit-publish-first, decommit-no-flush, parked, windows, windows-nested, gs-base, bad-return, idle, frameless, clock-skew, lost-writes, no-lapic-nmi, \
     race, race-long, starting, panic-one, panic-two, handler-times";

/// The local APIC's timer is refused, as hardware may do it: other sources have to take its place.
const NO_LAPIC_NMI: &str = "no-lapic-nmi";

/// Does what the command line asks for.
///
/// # Panics
/// On request.
pub fn trigger(name: &str) {
    match name {
        "" => {}
        "panic" => panic!("a panic on request"),
        "hang" => hang(),
        "spin" => spin(),
        "triple-fault" => triple_fault(),
        "exception" => acts::read_unmapped(),
        "exceptions" => exceptions::start(),
        "stack-overflow" => acts::overflow_stack(),
        "double-fault-nmi" => acts::overflow_interrupted(),
        "nmi-read" => acts::order(Act::ReadUnmapped),
        "nmi-stack-overflow" => acts::order(Act::OverflowStack),
        "skip-ring-write" => SKIP_COUNTDOWN.store(SKIP_EVERY, Ordering::Relaxed),
        "no-nmi-stack" => {
            idt::take_nmi_stack_away();
            init::require_nmi_stack();
        }
        "panic-in-rain" => {
            rain::start();
            panic!("a panic on request, in a rain of NMIs");
        }
        switch::SYNC_CURRENT => SYNC_CURRENT.store(true, Ordering::Relaxed),
        LOST_WRITES => LOSES_WRITES.store(true, Ordering::Relaxed),
        handler_times::NAME => handler_times::start(),
        falling::ONE | falling::TWO => {
            falling::start(if name == falling::ONE { 1 } else { 2 });
            // It makes samples take the slow way, on which they are counted.
            SKIP_COUNTDOWN.store(u32::MAX, Ordering::Relaxed);
        }
        "windows" => windows::start(false),
        "windows-nested" => windows::start(true),
        "gs-base" => user::spoil_gs_base(),
        "bad-return" => user::spoil_returns(),
        "sweep"
        | "sweep-redirected"
        | "pairs"
        | "storm"
        | "exit-window"
        | "cases"
        | "dispatch"
        | "ipi"
        | "late"
        | "idle"
        | NO_LAPIC_NMI
        | switch::NAME
        | spaces::NAME
        | first_touch::NAME
        | frameless::NAME
        | gap::GAP
        | gap::PUBLISH_FIRST
        | gap::NO_FLUSH
        | parked::NAME
        | starting::NAME
        | race::NAME
        | race::LONG
        | CLOCK_SKEW => {}
        _ => report::configuration(format_args!("unknown selftest `{name}`; known: {KNOWN}")),
    }
}

/// What an experiment needs from before the ring was made: address spaces that are older.
pub struct Prepared(Vec<AddressSpace>);

/// Prepares the experiment that the command line asks for.
pub fn prepare(options: &Options<'_>) -> Prepared {
    if options.selftest == NO_LAPIC_NMI {
        refusal::begin();
    }
    let mut old = switch::prepare(options);
    old.extend(first_touch::prepare(options));
    if options.selftest == CLOCK_SKEW {
        SKEW.store(SKEW_TICKS, Ordering::Relaxed);
    }
    if options.selftest == starting::NAME {
        starting::prepare();
    }
    Prepared(old)
}

/// Does the experiment that the command line asks for, in place of sampling; tells whether there was one.
pub fn experiment(
    options: &Options<'_>,
    cpu: &'static PerCpu,
    session: &mut Session,
    Prepared(old): Prepared,
) -> bool {
    match options.selftest {
        "sweep" => sweep::run(options, cpu),
        "sweep-redirected" => sweep::run_redirected(options, cpu),
        "pairs" => pairs::run(options, cpu),
        "storm" => storm::run(options, cpu),
        "exit-window" => exit_window::run(options, cpu),
        "cases" => cases::run(cpu),
        "dispatch" => dispatch::run(options, cpu, session),
        "ipi" => dispatch::run_afar(options, cpu, session),
        "late" => dispatch::run_late(options, cpu, session),
        "idle" => user::idle(options, cpu, session),
        switch::NAME | switch::SYNC_CURRENT => switch::run(options, cpu, session, old),
        spaces::NAME => spaces::run(cpu),
        first_touch::NAME => first_touch::run(options, session, &old),
        frameless::NAME => frameless::run(session),
        parked::NAME => parked::run(session),
        starting::NAME => starting::run(),
        race::NAME => race::run(),
        race::LONG => race::run_long(options),
        _ => return false,
    }
    true
}

/// Returns how far the clocks of other CPUs are set wrong, in ticks.
pub fn clock_skew() -> i64 {
    SKEW.load(Ordering::Relaxed)
}

/// Returns the address space that the mutated fault handler brings up to date, in place of the one in CR3.
///
/// # Context
/// A page fault, also in the NMI.
pub fn mutant_syncs_current() -> Option<PhysFrame> {
    SYNC_CURRENT.load(Ordering::Relaxed).then(switch_line::current)
}

/// Tells a workload to add to shared words as if nobody else did.
pub fn mutant_loses_writes() -> bool {
    LOSES_WRITES.load(Ordering::Relaxed)
}

/// Says what the self-test found, when sampling is over.
pub fn finish() {
    handler_times::finish();
    exceptions::finish();
    windows::finish();
    user::finish();
}

/// Tells the mutated sampler to forget the sample at hand.
///
/// # Context
/// NMI.
pub fn mutant_skips_this_write() -> bool {
    let left = SKIP_COUNTDOWN.load(Ordering::Relaxed);
    if left == 0 {
        return false;
    }
    if falling::is_on() {
        falling::note_sample();
        return false;
    }
    SKIP_COUNTDOWN.store(if left == 1 { SKIP_EVERY } else { left - 1 }, Ordering::Relaxed);
    left == 1
}

fn hang() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// Executes instructions for ever, and takes no interrupt: only its budget ends that.
fn spin() -> ! {
    interrupts::disable();
    budget::renew();
    loop {
        core::hint::black_box(());
    }
}

/// Takes the interrupt table away: the next exception can't be delivered, nor can the #DF that follows.
fn triple_fault() {
    let empty = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: nothing runs after this that could notice.
    unsafe { lidt(&empty) };
    interrupts::int3();
}
