//! What the self-test image does on request.

#![expect(unsafe_code, reason = "breaks the machine on purpose")]

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use nmiprof_wire::Options;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

use super::{dispatch, exceptions, rain, storm, sweep};
use crate::arch::percpu::PerCpu;
use crate::arch::{idt, layout};
use crate::session::Session;
use crate::{init, report};

/// The mutant loses every sample whose turn it is, without a trace.
const SKIP_EVERY: u32 = 100;

/// Samples until the next one is lost; 0 while the kernel is not mutated. Written by the trigger, and then
/// by the NMI.
static SKIP_COUNTDOWN: AtomicU32 = AtomicU32::new(0);

const KNOWN: &str = "panic, panic-in-rain, hang, triple-fault, exception, exceptions, stack-overflow, skip-ring-write, \
     no-nmi-stack, sweep, storm, dispatch";

/// Does what the command line asks for.
///
/// # Panics
/// On request.
pub fn trigger(name: &str) {
    match name {
        "" => {}
        "panic" => panic!("a panic on request"),
        "hang" => hang(),
        "triple-fault" => triple_fault(),
        "exception" => read_unmapped(),
        "exceptions" => exceptions::start(),
        "stack-overflow" => {
            core::hint::black_box(recurse(0));
        }
        "skip-ring-write" => SKIP_COUNTDOWN.store(SKIP_EVERY, Ordering::Relaxed),
        "no-nmi-stack" => {
            idt::take_nmi_stack_away();
            init::require_nmi_stack();
        }
        "panic-in-rain" => {
            rain::start();
            panic!("a panic on request, in a rain of NMIs");
        }
        "sweep" | "storm" | "dispatch" => {}
        _ => report::configuration(format_args!("unknown selftest `{name}`; known: {KNOWN}")),
    }
}

/// Does the experiment that the command line asks for, in place of sampling; tells whether there was one.
pub fn experiment(options: &Options<'_>, cpu: &'static PerCpu, session: &mut Session) -> bool {
    match options.selftest {
        "sweep" => sweep::run(options, cpu),
        "storm" => storm::run(options, cpu),
        "dispatch" => dispatch::run(options, cpu, session),
        _ => return false,
    }
    true
}

/// Says what the self-test found, when sampling is over.
pub fn finish() {
    exceptions::finish();
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
    SKIP_COUNTDOWN.store(if left == 1 { SKIP_EVERY } else { left - 1 }, Ordering::Relaxed);
    left == 1
}

fn hang() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// Calls itself until the stack is used up and its guard page is hit.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    recurse(core::hint::black_box(depth) + 1) + 1
}

/// Reads from an address that nothing maps: a page fault that nobody resolves.
fn read_unmapped() {
    let address = layout::HEAP - layout::PAGE_BYTES;
    // SAFETY: the read faults, and the fault is fatal.
    unsafe { ptr::read_volatile(address as *const u64) };
}

/// Takes the interrupt table away: the next exception can't be delivered, nor can the #DF that follows.
fn triple_fault() {
    let empty = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: nothing runs after this that could notice.
    unsafe { lidt(&empty) };
    interrupts::int3();
}
