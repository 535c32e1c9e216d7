//! An NMI in the shadow of `mov ss`, for the self-test image. The assembly file tells what that is.

#![expect(unsafe_code, reason = "calls assembly that changes its stack pointer")]

use core::arch::global_asm;

use super::apic::experiment::{INITIAL_COUNT, REGISTERS};
use super::frame::IretFrame;
use super::gdt::KERNEL_DATA;

/// Instructions between the arming of the timer and `mov ss`.
const SHADOW_LEAD: u32 = 8;
/// Instructions on the other stack.
const SHADOW_LINE: u32 = 64;
/// Ticks from which on the NMI would come after the line.
pub const TICKS_END: u32 = SHADOW_LEAD + SHADOW_LINE;
/// The one-byte no-operation.
const NOP: u8 = 0x90;

global_asm!(
    include_str!("shadow.S"),
    INITIAL_COUNT = const INITIAL_COUNT,
    SHADOW_LEAD = const SHADOW_LEAD,
    SHADOW_LINE = const SHADOW_LINE,
    NOP = const NOP,
);

unsafe extern "C" {
    safe static shadow_of_mov_ss: u8;
    safe static shadow_other_stack: u8;
    safe static shadow_end: u8;
    fn shadow_run(registers: u64, ticks: u32, other: u64, selector: u32) -> u64;
}

/// Where an NMI landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Between `mov ss` and `mov rsp`.
    InShadow,
    /// Elsewhere in the line.
    Beside,
}

/// Runs the line with a timer of so many ticks and another stack pointer, and returns RSP after it.
///
/// # Context
/// Thread. The APIC's timer raises NMIs; `other` may be any address: nothing is pushed there.
pub fn run(ticks: u32, other: u64) -> u64 {
    // SAFETY: (1) the assembly gives RSP back, and changes no register that the ABI wants kept; (2) NMIs have a
    // stack of their own and no other interrupt is on, so nothing is pushed at `other`; (3) the selector is SS's.
    unsafe { shadow_run(REGISTERS, ticks, other, u32::from(KERNEL_DATA)) }
}

/// Tells where an NMI landed from the frame that the CPU pushed; `None` where the frame is wrong.
pub fn landing(frame: &IretFrame, other: u64) -> Option<Landing> {
    let [shadow, switched, end] =
        [&raw const shadow_of_mov_ss, &raw const shadow_other_stack, &raw const shadow_end]
            .map(|at| at as u64);
    let is_on_other = frame.rsp == other;
    // The instruction before the last label gives RSP back.
    let should_be_on_other = (switched..end).contains(&frame.rip);
    if is_on_other != should_be_on_other || frame.ss != u64::from(KERNEL_DATA) {
        return None;
    }
    Some(if frame.rip == shadow { Landing::InShadow } else { Landing::Beside })
}
