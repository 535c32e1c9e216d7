//! `latched`: a stub on the NMI stack, the handler on a second one, and a latch between them.
//!
//! **Idea**, after Desnoyers, "[RFC] Latched NMI handler" (2011). The stub keeps nothing on the stack on which every NMI starts, so a nested NMI has nothing to
//! destroy. It leaves a latch, which the exit looks at; one that arrives after that look, until the final
//! `iretq`, is recognized by its RIP and starts the exit's work again from the saved registers, with one
//! more run before. The assembly file has the pictures, the steps and the windows.
//!
//! **Differences from the proposal.** The state is assigned instead of counted; frame and registers are
//! saved once and stay as they are until the final `iretq`; CR2 and DR7 are among them; an RIP in the
//! window counts only if it is the kernel's. A restart from the window goes on with NMIs masked, as the
//! first run begins.
//!
//! **Cost** over [`naive`](super::naive): the classification, one copy of the frame, the switch of stacks,
//! and the check of the latch: 19 instructions; and a second stack.
//!
//! **What it can't do**: as [`rostedt`](super::rostedt) it has NMIs unmasked in the outer one after a nested NMI
//! that returns by `iretq`. And what none of them can: see [the entries](super).

#![expect(unsafe_code, reason = "names symbols of the assembly, and writes the top of the second stack")]

use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr;

use nmiprof_wire::{NestedReturn, Unmask};
use x86_64::VirtAddr;

use super::{Context, EntryCounters, HAS_MUTANTS, NmiStack, SELECTOR_RPL, Variant, address_of};
use crate::arch::frame::{IretFrame, WORD};
use crate::arch::gdt::{KERNEL_CODE, KERNEL_DATA};
use crate::memory::stack::StackRange;
use crate::nmi::run;

/// The top of the NMI stack while the stub decides, lowest address first.
#[repr(C)]
struct Arrival {
    scratch: u64,
    hardware: IretFrame,
    counters: EntryCounters,
}

/// The top of the second stack while an NMI is in progress, lowest address first.
#[repr(C)]
struct Body {
    context: Context,
    frame: IretFrame,
    block: Block,
}

/// What stays at the top of the second stack.
#[repr(C, align(16))]
struct Block {
    /// 1 while an NMI is in progress, else 0.
    state: u64,
    /// 1 if another NMI arrived since the latest run was about to start, else 0.
    latch: u64,
    /// Where the NMI stack's [`EntryCounters`] are.
    counters: u64,
    /// Where this stack ends, for whoever looks at it.
    bottom: u64,
    /// The CPU's area, as in [`EntryCounters`].
    cpu: u64,
}

const SCRATCH: usize = offset_of!(Arrival, scratch);
const HARDWARE: usize = offset_of!(Arrival, hardware);
const COUNTERS: usize = offset_of!(Arrival, counters);
const CONTEXT: usize = offset_of!(Body, context);
const FRAME: usize = offset_of!(Body, frame);
const BLOCK: usize = offset_of!(Body, block);
const STATE: usize = BLOCK + offset_of!(Block, state);
const LATCH: usize = BLOCK + offset_of!(Block, latch);

const _: () = assert!(HARDWARE - SCRATCH == WORD, "the stub pushes the scratch word below the CPU's frame");
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () =
    assert!(size_of::<Arrival>() == COUNTERS + size_of::<EntryCounters>(), "counters end the stack");
const _: () = assert!(BLOCK - FRAME == size_of::<IretFrame>(), "the frame is pushed below the block");
const _: () = assert!(FRAME - CONTEXT == size_of::<Context>(), "the context is pushed below the frame");
const _: () = assert!((BLOCK - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");

global_asm!(
    include_str!("../../arch/frame.S"),
    include_str!("context.S"),
    include_str!("masked_return.S"),
    include_str!("latched.S"),
    HAS_MUTANTS = const HAS_MUTANTS,
    WORD = const WORD,
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    SCRATCH_TO_NESTED = const COUNTERS + offset_of!(EntryCounters, nested) - SCRATCH,
    SCRATCH_TO_SECOND = const COUNTERS + offset_of!(EntryCounters, second) - SCRATCH,
    SCRATCH_TO_RIP = const HARDWARE + offset_of!(IretFrame, rip) - SCRATCH,
    SCRATCH_TO_CS = const HARDWARE + offset_of!(IretFrame, cs) - SCRATCH,
    SCRATCH_TO_RFLAGS = const HARDWARE + offset_of!(IretFrame, rflags) - SCRATCH,
    SCRATCH_TO_RSP = const HARDWARE + offset_of!(IretFrame, rsp) - SCRATCH,
    SCRATCH_TO_SS = const HARDWARE + offset_of!(IretFrame, ss) - SCRATCH,
    BLOCK_TO_STATE = const STATE - BLOCK,
    BLOCK_TO_LATCH = const LATCH - BLOCK,
    FRAME_TO_STATE = const STATE - FRAME,
    CONTEXT_TO_DR7 = const offset_of!(Context, dr7),
    CONTEXT_TO_FRAME = const FRAME - CONTEXT,
    CONTEXT_TO_BLOCK = const BLOCK - CONTEXT,
    CONTEXT_TO_STATE = const STATE - CONTEXT,
    CONTEXT_TO_LATCH = const LATCH - CONTEXT,
    CONTEXT_TO_COUNTERS = const BLOCK + offset_of!(Block, counters) - CONTEXT,
    CONTEXT_TO_CPU = const BLOCK + offset_of!(Block, cpu) - CONTEXT,
    COUNTERS_TO_RERUN = const offset_of!(EntryCounters, rerun),
    SELECTOR_RPL = const SELECTOR_RPL,
    DR7_ENABLED = const super::DR7_ENABLED,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    run = sym run,
);

unsafe extern "C" {
    safe static nmi_latched: u8;
    safe static nmi_latched_early: u8;
    safe static nmi_latched_nret: u8;
    safe static nmi_latched_early_nret: u8;
}

/// Returns the entry for a variant.
pub(super) fn stub(variant: Variant) -> Option<VirtAddr> {
    Some(match (variant.unmask, variant.nested_return) {
        (Unmask::Fault, NestedReturn::Iret) => address_of(&nmi_latched),
        (Unmask::Early, NestedReturn::Iret) => address_of(&nmi_latched_early),
        (Unmask::Fault, NestedReturn::Ret) => address_of(&nmi_latched_nret),
        (Unmask::Early, NestedReturn::Ret) => address_of(&nmi_latched_early_nret),
    })
}

#[cfg(feature = "selftest")]
super::mutant::stubs!(mutant: NestedReturn::Iret {
    nmi_latched_mutant_no_window_check = "no-window-check",
    nmi_latched_mutant_window_late = "window-late",
    nmi_latched_mutant_window_short = "window-short",
    nmi_latched_mutant_clear_early = "clear-early",
    nmi_latched_mutant_no_latch = "no-latch",
    nmi_latched_mutant_latch_stays = "latch-stays",
    nmi_latched_mutant_unlatch_late = "unlatch-late",
    nmi_latched_mutant_literal_rfc = "literal-rfc",
    nmi_latched_mutant_restart_state_free = "restart-state-free",
    nmi_latched_mutant_restart_keeps_rsp = "restart-keeps-rsp",
    nmi_latched_mutant_restart_keeps_dr7 = "restart-keeps-dr7",
    nmi_latched_mutant_save_again = "save-again",
    nmi_latched_mutant_context_again = "context-again",
    nmi_latched_mutant_no_dr7_zero = "no-dr7-zero",
    nmi_latched_mutant_no_dr7_restore = "no-dr7-restore",
    nmi_latched_mutant_no_cr2_restore = "no-cr2-restore",
} NestedReturn::Ret {
    nmi_latched_nret_mutant_no_window_check = "no-window-check",
    nmi_latched_nret_mutant_no_latch = "no-latch",
    nmi_latched_nret_mutant_flags_lost = "flags-lost",
    nmi_latched_nret_mutant_rsp_off = "rsp-off",
});

impl NmiStack {
    /// Takes a stack, which must be all zeros, for the handler to run on.
    ///
    /// # Context
    /// Thread, before this CPU can take an NMI. `latched` needs it; the other strategies ignore it.
    pub fn add_second(&self, second: StackRange) {
        let block_address = second.top - size_of::<Block>() as u64;
        let block = Block { state: 0, latch: 0, counters: self.counters(), bottom: second.bottom, cpu: 0 };
        // SAFETY: (1) the block lies at the top of a mapped stack; (2) (caller) nobody uses that stack yet.
        unsafe { ptr::write(block_address as *mut Block, block) };
        let link = self.counters() + offset_of!(EntryCounters, second) as u64;
        // SAFETY: (1) the word lies in the mapped NMI stack, above where the CPU pushes; (2) (caller) no
        // NMI can arrive yet.
        unsafe { ptr::write(link as *mut u64, block_address) };
    }

    /// Returns where the second stack keeps the address of the CPU's area, if there is such a stack.
    pub(super) fn second_cpu(&self) -> Option<*mut u64> {
        let block = self.read_counters().second;
        (block != 0).then(|| (block + offset_of!(Block, cpu) as u64) as *mut u64)
    }

    /// Returns the addresses of what the entry keeps at the top of the second stack; empty where there is none.
    #[cfg(feature = "selftest")]
    pub(super) fn second_words(&self) -> core::ops::Range<u64> {
        match self.read_counters().second {
            0 => 0..0,
            block => block - BLOCK as u64..block + size_of::<Block>() as u64,
        }
    }
}

/// Returns the second stack of an NMI stack, if it has one.
#[cfg(feature = "selftest")]
pub(super) fn second_stack(stack: &NmiStack) -> Option<StackRange> {
    let block = stack.read_counters().second;
    let bottom = (block + offset_of!(Block, bottom) as u64) as *const u64;
    // SAFETY: not 0 means that `add_second` has put a block there, whose `bottom` nobody changes.
    let bottom = (block != 0).then(|| unsafe { ptr::read(bottom) })?;
    Some(StackRange { bottom, top: block + size_of::<Block>() as u64 })
}
