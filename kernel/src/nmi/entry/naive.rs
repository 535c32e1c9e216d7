//! `naive`: what NMI entry would be if nothing ever unmasked NMIs inside the handler.
//!
//! It is sound only as long as that holds, so with a lazy ring it is refused unless the command line
//! says `unsafe_nmi=on`.

use core::arch::global_asm;
use core::mem::offset_of;

use super::{Context, EntryCounters};
use crate::arch::frame::{IretFrame, WORD};
use crate::nmi::run;

/// The top of the NMI stack while this entry is in use, lowest address first.
#[repr(C)]
struct Picture {
    context: Context,
    /// Keeps the stack aligned for the call.
    padding: u64,
    hardware: IretFrame,
    counters: EntryCounters,
}

const CONTEXT: usize = offset_of!(Picture, context);
const HARDWARE: usize = offset_of!(Picture, hardware);
const COUNTERS: usize = offset_of!(Picture, counters);

const _: () = assert!(offset_of!(Picture, padding) - CONTEXT == size_of::<Context>());
const _: () = assert!(COUNTERS.is_multiple_of(16), "the CPU aligns the stack before it pushes");
const _: () = assert!((COUNTERS - CONTEXT).is_multiple_of(16), "Rust is called with an aligned stack");

global_asm!(
    include_str!("naive.S"),
    HARDWARE_TO_ENTRIES = const COUNTERS + offset_of!(EntryCounters, entries) - HARDWARE,
    CONTEXT_TO_HARDWARE = const HARDWARE - CONTEXT,
    PADDING = const WORD,
    DR7_ENABLED = const super::DR7_ENABLED,
    run = sym run,
);
