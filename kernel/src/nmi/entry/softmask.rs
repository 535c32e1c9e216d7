//! `softmask`: the entry that Torvalds proposed in 2010, and that was never merged.
//!
//! **Idea**, after Torvalds and Molnar on linux-kernel (July 2010). A nested NMI runs nothing. It makes the frame that its outer NMI will return from unusable
//! and goes back without `iret`, so that NMIs stay masked. The outer one's `iretq` then raises #GP, and
//! that exception repairs the frame from a copy and runs the handler again. The assembly file has the
//! picture, the steps and the windows.
//!
//! **What is poisoned** is CS, with a null selector: the fault is then at the `iretq` itself everywhere. A
//! RIP that is not canonical would fault after the `iretq` on some processors, on whatever stack the
//! interrupted code had. It is not the null selector 0, because that is what a new stack holds.
//!
//! **Vector 13** gets a stub of its own, which lets through to the shared path what is not a poisoned
//! return. #GP must not have an interrupt stack.
//!
//! **Cost** over [`naive`](super::naive): the classification, two copies of the frame, and the state: 19
//! instructions. A run for a nested NMI costs a fault, and every #GP one comparison.
//!
//! **What it can't do**: give RF back to its outer NMI, which runs with no breakpoint. And what none of them can:
//! see [the entries](super).

#![expect(unsafe_code, reason = "names symbols of the assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use nmiprof_wire::{NestedReturn, Unmask};
use x86_64::VirtAddr;

use super::{Context, EntryCounters, HAS_MUTANTS, Variant, address_of, distance};
use crate::arch::frame::{IretFrame, WORD};
use crate::arch::gdt::{KERNEL_CODE, KERNEL_DATA};
use crate::nmi::run;

/// CS of a poisoned frame: a null selector, which no interrupted code can have.
const POISONED_CS: u16 = 1;
/// A bit that is set in every kernel address: without it, the address is not canonical.
const CANONICAL_BIT: u8 = 62;
/// Selectors below this are null (SDM volume 3, "Segment Selectors"): only the privilege level is set.
const NULL_SELECTORS: u16 = 4;

const _: () = assert!(POISONED_CS < NULL_SELECTORS, "an `iretq` to a null CS raises #GP");
const _: () = assert!(POISONED_CS != 0, "a new stack is all zeros and not poisoned");

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

/// What the #GP of a poisoned `iretq` leaves below and at `returning`, lowest address first.
#[repr(C)]
struct ReturnFault {
    error: u64,
    interrupted: IretFrame,
    /// The CPU aligns the stack before it pushes.
    alignment: u64,
    returning: IretFrame,
}

const CONTEXT: usize = offset_of!(Picture, context);
const RETURNING: usize = offset_of!(Picture, returning);
const SAVED: usize = offset_of!(Picture, saved);
const EXECUTING: usize = offset_of!(Picture, executing);
const SCRATCH: usize = offset_of!(Picture, scratch);
const HARDWARE: usize = offset_of!(Picture, hardware);
const COUNTERS: usize = offset_of!(Picture, counters);

const FAULT_RETURNING: usize = offset_of!(ReturnFault, returning);

const _: () =
    assert!(COUNTERS - HARDWARE == size_of::<IretFrame>(), "the CPU pushes just below the counters");
const _: () = assert!(HARDWARE - SCRATCH == WORD, "the entry pushes the scratch word below the CPU's frame");
const _: () = assert!(SCRATCH - EXECUTING == WORD && EXECUTING - SAVED == size_of::<IretFrame>());
const _: () = assert!(SAVED - RETURNING == size_of::<IretFrame>(), "the copies are made by pushes");
const _: () = assert!(RETURNING - CONTEXT == size_of::<Context>(), "the context is pushed below `returning`");
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () = assert!((COUNTERS - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");
const _: () = assert!(
    (COUNTERS - RETURNING) % 16 == WORD && offset_of!(ReturnFault, alignment) + WORD == FAULT_RETURNING,
    "the CPU leaves one word free between `returning` and the frame of #GP"
);

global_asm!(
    include_str!("../../arch/frame.S"),
    include_str!("context.S"),
    include_str!("masked_return.S"),
    include_str!("softmask.S"),
    HAS_MUTANTS = const HAS_MUTANTS,
    WORD = const WORD,
    HARDWARE_TO_RIP = const offset_of!(IretFrame, rip),
    HARDWARE_TO_CS = const offset_of!(IretFrame, cs),
    HARDWARE_TO_EXECUTING = const distance(HARDWARE, EXECUTING),
    HARDWARE_TO_RETURNING_RIP = const distance(HARDWARE, RETURNING + offset_of!(IretFrame, rip)),
    HARDWARE_TO_RETURNING_CS = const distance(HARDWARE, RETURNING + offset_of!(IretFrame, cs)),
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    HARDWARE_TO_NESTED = const COUNTERS + offset_of!(EntryCounters, nested) - HARDWARE,
    SCRATCH_TO_RIP = const HARDWARE + offset_of!(IretFrame, rip) - SCRATCH,
    SCRATCH_TO_RFLAGS = const HARDWARE + offset_of!(IretFrame, rflags) - SCRATCH,
    SCRATCH_TO_RSP = const HARDWARE + offset_of!(IretFrame, rsp) - SCRATCH,
    // A push moves RSP down as fast as the source moves up, so the same offset serves all five words.
    PUSH_HARDWARE_TO_SAVED = const HARDWARE + offset_of!(IretFrame, ss) - EXECUTING,
    PUSH_SAVED_TO_RETURNING = const offset_of!(IretFrame, ss),
    CONTEXT_TO_EXECUTING = const EXECUTING - CONTEXT,
    CONTEXT_TO_SAVED = const SAVED - CONTEXT,
    CONTEXT_TO_CPU = const COUNTERS + offset_of!(EntryCounters, cpu) - CONTEXT,
    RETURNING_TO_CS = const offset_of!(IretFrame, cs),
    RETURNING_TO_SAVED_CS = const SAVED + offset_of!(IretFrame, cs) - RETURNING,
    RETURNING_TO_EXECUTING = const EXECUTING - RETURNING,
    RETURNING_TO_RERUN = const COUNTERS + offset_of!(EntryCounters, rerun) - RETURNING,
    ERROR_TO_RIP = const offset_of!(ReturnFault, interrupted) + offset_of!(IretFrame, rip),
    ERROR_TO_EXECUTING = const FAULT_RETURNING + EXECUTING - RETURNING,
    ERROR_TO_RETURNING = const FAULT_RETURNING,
    ERROR_TO_RETURNING_CS = const FAULT_RETURNING + offset_of!(IretFrame, cs),
    POISONED_CS = const POISONED_CS,
    CANONICAL_BIT = const CANONICAL_BIT,
    DR7_ENABLED = const super::DR7_ENABLED,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    run = sym run,
);

const _: () = assert!(offset_of!(ReturnFault, error) == 0, "the CPU pushes the error code last");

unsafe extern "C" {
    safe static nmi_softmask: u8;
    safe static nmi_softmask_return_fault: u8;
    safe static nmi_softmask_early: u8;
    safe static nmi_softmask_early_return_fault: u8;
}

/// Returns the entry for a variant; nested NMIs always return by `ret`, so that is no form of its own.
pub(super) fn stub(variant: Variant) -> Option<VirtAddr> {
    match (variant.unmask, variant.nested_return) {
        (Unmask::Fault, NestedReturn::Iret) => Some(address_of(&nmi_softmask)),
        (Unmask::Early, NestedReturn::Iret) => Some(address_of(&nmi_softmask_early)),
        (_, NestedReturn::Ret) => None,
    }
}

/// Returns the entry of vector 13 that belongs to [`stub`]'s.
pub(super) fn return_fault_stub(unmask: Unmask) -> VirtAddr {
    match unmask {
        Unmask::Fault => address_of(&nmi_softmask_return_fault),
        Unmask::Early => address_of(&nmi_softmask_early_return_fault),
    }
}

#[cfg(feature = "selftest")]
super::mutant::stubs!(mutant: NestedReturn::Iret {
    nmi_softmask_mutant_no_executing_check = "no-executing-check",
    nmi_softmask_mutant_no_poison_check = "no-poison-check",
    nmi_softmask_mutant_no_gap_check = "no-gap-check",
    nmi_softmask_mutant_clear_early = "clear-early",
    nmi_softmask_mutant_no_poison = "no-poison",
    nmi_softmask_mutant_poison_rip = "poison-rip",
    nmi_softmask_mutant_fault_not_executing = "fault-not-executing",
    nmi_softmask_mutant_no_cure = "no-cure",
    nmi_softmask_mutant_cure_early = "cure-early",
    nmi_softmask_mutant_flags_lost = "flags-lost",
    nmi_softmask_mutant_rsp_off = "rsp-off",
    nmi_softmask_mutant_no_dr7_zero = "no-dr7-zero",
    nmi_softmask_mutant_no_dr7_restore = "no-dr7-restore",
    nmi_softmask_mutant_no_cr2_restore = "no-cr2-restore",
});

// What belongs to them at vector 13.
#[cfg(feature = "selftest")]
super::mutant::stubs!(mutant_return_fault: NestedReturn::Iret {
    nmi_softmask_mutant_no_executing_check_return_fault = "no-executing-check",
    nmi_softmask_mutant_no_poison_check_return_fault = "no-poison-check",
    nmi_softmask_mutant_no_gap_check_return_fault = "no-gap-check",
    nmi_softmask_mutant_clear_early_return_fault = "clear-early",
    nmi_softmask_mutant_no_poison_return_fault = "no-poison",
    nmi_softmask_mutant_poison_rip_return_fault = "poison-rip",
    nmi_softmask_mutant_fault_not_executing_return_fault = "fault-not-executing",
    nmi_softmask_mutant_no_cure_return_fault = "no-cure",
    nmi_softmask_mutant_cure_early_return_fault = "cure-early",
    nmi_softmask_mutant_flags_lost_return_fault = "flags-lost",
    nmi_softmask_mutant_rsp_off_return_fault = "rsp-off",
    nmi_softmask_mutant_no_dr7_zero_return_fault = "no-dr7-zero",
    nmi_softmask_mutant_no_dr7_restore_return_fault = "no-dr7-restore",
    nmi_softmask_mutant_no_cr2_restore_return_fault = "no-cr2-restore",
});
