//! `rostedt`: the entry that Linux has had since 3.3.
//!
//! **Idea**, after Rostedt, "x86: Add workaround to NMI iret woes" (Linux 3.3). The stack itself remembers that an NMI is in progress, and the frame that the exit uses is a
//! copy. A nested NMI only redirects that copy, so that the outer NMI, when it returns, runs once more
//! with the frame that it saved at first. The assembly file has the picture, the steps and the windows.
//!
//! **Differences from Linux.** The gap before the final `iretq` is recognized by the exact stack pointer
//! that the exit has there, not by any address on the NMI stack; the frame to return from lies below the
//! saved one, so both copies are plain pushes.
//!
//! **Cost** over [`naive`](super::naive): the classification, two copies of the frame, and the state: 24
//! instructions, or 27 where the interrupted code had DF set.
//!
//! **What it can't do**: keep NMIs masked in the outer one while a nested NMI returns by `iretq`, so that a storm
//! nests again and again in the same run; `nested_return=ret` does. And what none of them can: see
//! [the entries](super).

#![expect(unsafe_code, reason = "names symbols of the assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use nmiprof_wire::{NestedReturn, Unmask};
use x86_64::VirtAddr;

use super::{
    Context, EntryCounters, HAS_MUTANTS, RFLAGS_DF, RFLAGS_RESERVED, SELECTOR_RPL, Variant, address_of,
    distance,
};
use crate::arch::frame::{IretFrame, WORD};
use crate::arch::gdt::{KERNEL_CODE, KERNEL_DATA};
use crate::nmi::run;

/// The top of the NMI stack while this entry is in use, lowest address first.
#[repr(C)]
struct Picture {
    context: Context,
    returning: IretFrame,
    saved: IretFrame,
    executing: u64,
    scratch: u64,
    hardware: IretFrame,
    counters: EntryCounters,
}

const CONTEXT: usize = offset_of!(Picture, context);
const RETURNING: usize = offset_of!(Picture, returning);
const SAVED: usize = offset_of!(Picture, saved);
const EXECUTING: usize = offset_of!(Picture, executing);
const SCRATCH: usize = offset_of!(Picture, scratch);
const HARDWARE: usize = offset_of!(Picture, hardware);
const COUNTERS: usize = offset_of!(Picture, counters);

const _: () = assert!(HARDWARE - SCRATCH == WORD, "the entry pushes the scratch word below the CPU's frame");
const _: () = assert!(SCRATCH - EXECUTING == WORD && EXECUTING - SAVED == size_of::<IretFrame>());
const _: () = assert!(SAVED - RETURNING == size_of::<IretFrame>(), "the copies are made by pushes");
const _: () = assert!(RETURNING - CONTEXT == size_of::<Context>(), "the context is pushed below `returning`");
const _: () =
    assert!(COUNTERS - HARDWARE == size_of::<IretFrame>(), "the CPU pushes right below the counters");
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () = assert!((COUNTERS - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");

global_asm!(
    include_str!("../../arch/frame.S"),
    include_str!("context.S"),
    include_str!("masked_return.S"),
    include_str!("rostedt.S"),
    HAS_MUTANTS = const HAS_MUTANTS,
    CONTEXT_TO_EXECUTING = const EXECUTING - CONTEXT,
    WORD = const WORD,
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    SCRATCH_TO_NESTED = const COUNTERS + offset_of!(EntryCounters, nested) - SCRATCH,
    SAVED_TO_RERUN = const COUNTERS + offset_of!(EntryCounters, rerun) - SAVED,
    SCRATCH_TO_RIP = const HARDWARE + offset_of!(IretFrame, rip) - SCRATCH,
    SCRATCH_TO_CS = const HARDWARE + offset_of!(IretFrame, cs) - SCRATCH,
    SCRATCH_TO_RFLAGS = const HARDWARE + offset_of!(IretFrame, rflags) - SCRATCH,
    SCRATCH_TO_RSP = const HARDWARE + offset_of!(IretFrame, rsp) - SCRATCH,
    SCRATCH_TO_EXECUTING = const distance(SCRATCH, EXECUTING),
    SAVED_TO_EXECUTING = const EXECUTING - SAVED,
    RETURNING_TO_EXECUTING = const EXECUTING - RETURNING,
    RETURNING_TO_SCRATCH = const SCRATCH - RETURNING,
    SAVED_TO_SCRATCH = const SCRATCH - SAVED,
    CONTEXT_TO_SAVED = const SAVED - CONTEXT,
    CONTEXT_TO_CPU = const COUNTERS + offset_of!(EntryCounters, cpu) - CONTEXT,
    // A push moves RSP down as fast as the source moves up, so the same offset serves all five words.
    PUSH_HARDWARE_TO_SAVED = const HARDWARE + offset_of!(IretFrame, ss) - EXECUTING,
    PUSH_SAVED_TO_RETURNING = const offset_of!(IretFrame, ss),
    SCRATCH_TO_RETURNING_RIP = const distance(SCRATCH, RETURNING + offset_of!(IretFrame, rip)),
    SCRATCH_TO_RETURNING_CS = const distance(SCRATCH, RETURNING + offset_of!(IretFrame, cs)),
    SCRATCH_TO_RETURNING_RFLAGS = const distance(SCRATCH, RETURNING + offset_of!(IretFrame, rflags)),
    SCRATCH_TO_RETURNING_RSP = const distance(SCRATCH, RETURNING + offset_of!(IretFrame, rsp)),
    SCRATCH_TO_RETURNING_SS = const distance(SCRATCH, RETURNING + offset_of!(IretFrame, ss)),
    RFLAGS_DF = const RFLAGS_DF,
    RFLAGS_RESERVED = const RFLAGS_RESERVED,
    SELECTOR_RPL = const SELECTOR_RPL,
    DR7_ENABLED = const super::DR7_ENABLED,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    run = sym run,
);

unsafe extern "C" {
    safe static nmi_rostedt: u8;
    safe static nmi_rostedt_early: u8;
    safe static nmi_rostedt_nret: u8;
    safe static nmi_rostedt_early_nret: u8;
}

/// Returns the entry for a variant.
pub(super) fn stub(variant: Variant) -> Option<VirtAddr> {
    Some(match (variant.unmask, variant.nested_return) {
        (Unmask::Fault, NestedReturn::Iret) => address_of(&nmi_rostedt),
        (Unmask::Early, NestedReturn::Iret) => address_of(&nmi_rostedt_early),
        (Unmask::Fault, NestedReturn::Ret) => address_of(&nmi_rostedt_nret),
        (Unmask::Early, NestedReturn::Ret) => address_of(&nmi_rostedt_early_nret),
    })
}

#[cfg(feature = "selftest")]
super::mutant::stubs!(mutant: NestedReturn::Iret {
    nmi_rostedt_mutant_no_window_check = "no-window-check",
    nmi_rostedt_mutant_window_late = "window-late",
    nmi_rostedt_mutant_window_short = "window-short",
    nmi_rostedt_mutant_no_gap_check = "no-gap-check",
    nmi_rostedt_mutant_clear_early = "clear-early",
    nmi_rostedt_mutant_no_redirect = "no-redirect",
    nmi_rostedt_mutant_repeat_not_executing = "repeat-not-executing",
    nmi_rostedt_mutant_save_again = "save-again",
    nmi_rostedt_mutant_no_dr7_zero = "no-dr7-zero",
    nmi_rostedt_mutant_no_dr7_restore = "no-dr7-restore",
    nmi_rostedt_mutant_no_cr2_restore = "no-cr2-restore",
} NestedReturn::Ret {
    nmi_rostedt_nret_mutant_no_window_check = "no-window-check",
    nmi_rostedt_nret_mutant_no_gap_check = "no-gap-check",
    nmi_rostedt_nret_mutant_no_redirect = "no-redirect",
    nmi_rostedt_nret_mutant_flags_lost = "flags-lost",
    nmi_rostedt_nret_mutant_rsp_off = "rsp-off",
});
