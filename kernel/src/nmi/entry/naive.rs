//! `naive`: what NMI entry would be if nothing ever unmasked NMIs inside the handler.
//!
//! **Idea.** Save, call, return, on the one stack that every NMI starts on. It is the floor that the other
//! entries are measured against, and the proof that the flaw is real.
//!
//! **What it can't do**: survive an NMI that arrives before its own `iretq`, anywhere. It is sound only as long
//! as nothing unmasks NMIs inside, as with `fault_return=ret`; with a lazy ring and faults that return by `iret`
//! it is refused unless the command line says `unsafe_nmi=on`.

#![expect(unsafe_code, reason = "names symbols of the assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use nmiprof_wire::{NestedReturn, Unmask};
use x86_64::VirtAddr;

use super::{Context, EntryCounters, Variant, address_of};
use crate::arch::frame::{IretFrame, WORD};
use crate::arch::gdt::{KERNEL_CODE, KERNEL_DATA};
use crate::nmi::run;

/// The top of the NMI stack while this entry is in use, lowest address first.
#[repr(C)]
struct Picture {
    context: Context,
    hardware: IretFrame,
    counters: EntryCounters,
}

const CONTEXT: usize = offset_of!(Picture, context);
const HARDWARE: usize = offset_of!(Picture, hardware);
const COUNTERS: usize = offset_of!(Picture, counters);

const _: () =
    assert!(HARDWARE - CONTEXT == size_of::<Context>(), "the context is pushed below the CPU's frame");
const _: () =
    assert!(COUNTERS - HARDWARE == size_of::<IretFrame>(), "the CPU pushes right below the counters");
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () = assert!((COUNTERS - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");

global_asm!(
    include_str!("../../arch/frame.S"),
    include_str!("context.S"),
    include_str!("naive.S"),
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    CONTEXT_TO_HARDWARE = const HARDWARE - CONTEXT,
    CONTEXT_TO_CPU = const COUNTERS + offset_of!(EntryCounters, cpu) - CONTEXT,
    WORD = const WORD,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    DR7_ENABLED = const super::DR7_ENABLED,
    run = sym run,
);

unsafe extern "C" {
    safe static nmi_naive: u8;
    safe static nmi_naive_early: u8;
}

/// Returns the entry for a variant; nested NMIs have no return of their own.
pub(super) fn stub(variant: Variant) -> Option<VirtAddr> {
    match (variant.unmask, variant.nested_return) {
        (Unmask::Fault, NestedReturn::Iret) => Some(address_of(&nmi_naive)),
        (Unmask::Early, NestedReturn::Iret) => Some(address_of(&nmi_naive_early)),
        (_, NestedReturn::Ret) => None,
    }
}
