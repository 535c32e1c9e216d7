//! A straight line of code that switches from one address space to another: what the sweep of the switch
//! interrupts at every instruction.
//!
//! It does what a context switch does around CR3: it says which space is the current one, and some instructions
//! later loads it. In between the two disagree, and what an NMI there needs is decided by CR3 alone.

#![expect(unsafe_code, reason = "loads CR3 in the middle of a line of no-operations")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Instructions before the switch: more than from the start of sampling to the line.
const LEAD_INSTRUCTIONS: u32 = 512;
/// Instructions between the two steps of the switch.
const GAP_INSTRUCTIONS: u32 = 8;
/// Instructions after it.
const TAIL_INSTRUCTIONS: u32 = 128;
/// The one-byte no-operation.
const NOP: u8 = 0x90;

/// What the software takes for the current space: its top-level table's address. The handler must not care.
static CURRENT: AtomicU64 = AtomicU64::new(0);

global_asm!(
    ".text",
    ".balign 64",
    ".global switch_line",
    // # State: called as an `extern "C"` function; RDI = value for CR3.
    "switch_line:",
    ".fill {LEAD_INSTRUCTIONS}, 1, {NOP}",
    "mov [rip + {CURRENT}], rdi",
    ".fill {GAP_INSTRUCTIONS}, 1, {NOP}",
    ".global switch_line_cr3",
    "switch_line_cr3:",
    "mov cr3, rdi",
    ".fill {TAIL_INSTRUCTIONS}, 1, {NOP}",
    ".global switch_line_end",
    "switch_line_end:",
    "ret",
    LEAD_INSTRUCTIONS = const LEAD_INSTRUCTIONS,
    GAP_INSTRUCTIONS = const GAP_INSTRUCTIONS,
    TAIL_INSTRUCTIONS = const TAIL_INSTRUCTIONS,
    NOP = const NOP,
    CURRENT = sym CURRENT,
);

unsafe extern "C" {
    safe static switch_line_cr3: u8;
    safe static switch_line_end: u8;
    fn switch_line(root: u64);
}

/// Where the line is.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Its first instruction.
    pub start: u64,
    /// The instruction that loads CR3.
    pub cr3: u64,
    /// Its last instruction.
    pub end: u64,
}

/// Returns where the line is.
pub fn line() -> Line {
    Line {
        start: switch_line as *const () as u64,
        cr3: (&raw const switch_line_cr3) as u64,
        end: (&raw const switch_line_end) as u64,
    }
}

/// Runs the line.
///
/// # Safety
/// `root` is the top-level table of an address space that is not dropped while it is loaded.
pub unsafe fn run(root: PhysFrame) {
    // SAFETY: (1) (caller); (2) the kernel half is the same in every space; (3) the line changes nothing else.
    unsafe { switch_line(root.start_address().as_u64()) };
}

/// Says which space the software takes for the current one.
pub fn set_current(root: PhysFrame) {
    CURRENT.store(root.start_address().as_u64(), Ordering::Relaxed);
}

/// Returns what the software takes for the current space.
pub fn current() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(CURRENT.load(Ordering::Relaxed)))
}
