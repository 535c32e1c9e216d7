//! What an interruption leaves on a stack, as types that the assembly takes its offsets from.

use super::gdt::RING_3;

/// The frame that the CPU pushes in 64-bit mode, lowest address first.
///
/// Source: SDM volume 3, "64-Bit Mode Stack Frame".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IretFrame {
    /// Address of the interrupted instruction.
    pub rip: u64,
    /// Code segment selector.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment selector.
    pub ss: u64,
}

impl IretFrame {
    /// Tells whether user code was interrupted.
    pub const fn is_user(&self) -> bool {
        self.cs & RING_3 as u64 == RING_3 as u64
    }
}

/// The registers that a call may change (System V ABI), in the order in which the entries push them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CallerSaved {
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    /// First argument.
    pub rdi: u64,
    /// Second argument.
    pub rsi: u64,
    /// Third argument.
    pub rdx: u64,
    rcx: u64,
    /// The accumulator: a fixed-up access finds its error code here, a system call its number.
    pub rax: u64,
}

/// Bytes of one stack word.
pub const WORD: usize = size_of::<u64>();

const _: () = assert!(size_of::<IretFrame>() == 5 * WORD, "the CPU pushes five words");
const _: () = assert!(size_of::<CallerSaved>() == 9 * WORD, "nine registers are caller-saved");
