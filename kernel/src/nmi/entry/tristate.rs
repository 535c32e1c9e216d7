//! `tristate`: the three states of i386 Linux, brought to x86-64.
//!
//! **Idea**, after the i386 entry of Linux (3.3 and later). A word on the NMI stack says *not running*, *executing* or *latched*. A nested NMI sets it to
//! latched and leaves; the exit decrements it and runs again if that does not free it. The registers are
//! restored before the decrement, so that what remains between it and the `iretq` is a window of two
//! instructions with nothing to lose: an NMI there runs again from the frame that was saved at first.
//! The assembly file has the picture, the steps and the windows.
//!
//! **Differences from i386.** There an NMI has no stack of its own to start at, and one in the window
//! simply nests. Here it would overwrite the frame, so the frame is copied once, below what the CPU
//! overwrites, and the window is recognized by RIP. There an NMI between the decrement of a latched state
//! and the next run asks for yet another run; here the state is assigned right before the next run, which
//! serves it.
//!
//! **Cost** over [`naive`](super::naive): the classification, the state, and one copy of the frame: twelve
//! instructions, or fourteen where the interrupted code lies below the window, as all of user code does. The
//! entry works on memory and RFLAGS alone; a nested NMI is six instructions from entry to `iretq`.
//!
//! **What it can't do**: keep NMIs masked in the outer one; a nested NMI returns by `iretq` always. And what none of
//! them can: see [the entries](super).

#![expect(unsafe_code, reason = "names symbols of the assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use nmiprof_wire::{NestedReturn, Unmask};
use x86_64::VirtAddr;

use super::{Context, EntryCounters, HAS_MUTANTS, Variant, address_of, distance};
use crate::arch::frame::{IretFrame, WORD};
use crate::arch::gdt::{KERNEL_CODE, KERNEL_DATA};
use crate::nmi::run;

/// State: no NMI is in progress; what a new stack holds.
const NOT_RUNNING: u64 = 0;
/// State: an NMI is in progress.
const EXECUTING: u64 = 1;
/// State: an NMI is in progress, and others arrived meanwhile.
const LATCHED: u64 = 2;

const _: () = assert!(EXECUTING - 1 == NOT_RUNNING, "the decrement frees the state");
const _: () = assert!(LATCHED - 1 != NOT_RUNNING, "the decrement keeps a latched state set");
const _: () = assert!(NOT_RUNNING == 0, "the decrement's zero flag tells; a new stack is all zeros");

/// The top of the NMI stack while this entry is in use, lowest address first.
#[repr(C)]
struct Picture {
    context: Context,
    saved: IretFrame,
    state: u64,
    hardware: IretFrame,
    counters: EntryCounters,
}

const CONTEXT: usize = offset_of!(Picture, context);
const SAVED: usize = offset_of!(Picture, saved);
const STATE: usize = offset_of!(Picture, state);
const HARDWARE: usize = offset_of!(Picture, hardware);
const COUNTERS: usize = offset_of!(Picture, counters);

const _: () = assert!(HARDWARE - STATE == WORD, "the state is set by a push below the CPU's frame");
const _: () = assert!(COUNTERS - HARDWARE == size_of::<IretFrame>(), "the CPU starts at the counters");
const _: () = assert!(STATE - SAVED == size_of::<IretFrame>(), "the copy is made by pushes");
const _: () = assert!(SAVED - CONTEXT == size_of::<Context>(), "the context is pushed below `saved`");
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () = assert!((COUNTERS - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");

global_asm!(
    include_str!("../../arch/frame.S"),
    include_str!("context.S"),
    include_str!("tristate.S"),
    HAS_MUTANTS = const HAS_MUTANTS,
    WORD = const WORD,
    NOT_RUNNING = const NOT_RUNNING,
    EXECUTING = const EXECUTING,
    LATCHED = const LATCHED,
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    HARDWARE_TO_NESTED = const COUNTERS + offset_of!(EntryCounters, nested) - HARDWARE,
    SAVED_TO_RERUN = const COUNTERS + offset_of!(EntryCounters, rerun) - SAVED,
    HARDWARE_TO_RIP = const offset_of!(IretFrame, rip),
    HARDWARE_TO_CS = const offset_of!(IretFrame, cs),
    HARDWARE_TO_STATE = const distance(HARDWARE, STATE),
    SAVED_TO_STATE = const STATE - SAVED,
    SAVED_TO_HARDWARE = const HARDWARE - SAVED,
    CONTEXT_TO_STATE = const STATE - CONTEXT,
    CONTEXT_TO_SAVED = const SAVED - CONTEXT,
    CONTEXT_TO_CPU = const COUNTERS + offset_of!(EntryCounters, cpu) - CONTEXT,
    // A push moves RSP down as fast as the source moves up, so the same offset serves all five words.
    PUSH_HARDWARE_TO_SAVED = const HARDWARE + offset_of!(IretFrame, ss) - STATE,
    DR7_ENABLED = const super::DR7_ENABLED,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    run = sym run,
);

unsafe extern "C" {
    safe static nmi_tristate: u8;
    safe static nmi_tristate_early: u8;
}

/// Returns the entry for a variant; a nested NMI always returns by `iretq`.
pub(super) fn stub(variant: Variant) -> Option<VirtAddr> {
    match (variant.unmask, variant.nested_return) {
        (Unmask::Fault, NestedReturn::Iret) => Some(address_of(&nmi_tristate)),
        (Unmask::Early, NestedReturn::Iret) => Some(address_of(&nmi_tristate_early)),
        (_, NestedReturn::Ret) => None,
    }
}

#[cfg(feature = "selftest")]
super::mutant::stubs!(mutant: NestedReturn::Iret {
    nmi_tristate_mutant_no_window_check = "no-window-check",
    nmi_tristate_mutant_window_late = "window-late",
    nmi_tristate_mutant_window_short = "window-short",
    nmi_tristate_mutant_set_late = "set-late",
    nmi_tristate_mutant_release_early = "release-early",
    nmi_tristate_mutant_no_latch = "no-latch",
    nmi_tristate_mutant_again_not_set = "again-not-set",
    nmi_tristate_mutant_window_no_run = "window-no-run",
    nmi_tristate_mutant_window_keeps_rsp = "window-keeps-rsp",
    nmi_tristate_mutant_save_again = "save-again",
    nmi_tristate_mutant_no_dr7_zero = "no-dr7-zero",
    nmi_tristate_mutant_no_dr7_restore = "no-dr7-restore",
    nmi_tristate_mutant_no_cr2_restore = "no-cr2-restore",
});
