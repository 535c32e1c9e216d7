//! Code that uses RBP for something else than its frame, for the self-test image.
//!
//! The kernel's own code keeps its frame pointers, so nothing else leads a walk up the stack astray.

#![expect(unsafe_code, reason = "calls assembly that borrows RBP")]

use core::arch::global_asm;

// A one-instruction loop: RBP = RDI while RIP stays there for RSI turns.
global_asm!(
    ".global frameless_spin",
    "frameless_spin:",
    "push rbp",
    "mov rbp, rdi",
    "mov rcx, rsi",
    ".global frameless_loop",
    "frameless_loop:",
    "loop frameless_loop",
    "pop rbp",
    "ret",
);

unsafe extern "C" {
    fn frameless_spin(rbp: *const [u64; 2], turns: u64);
    safe static frameless_loop: u8;
}

/// Stays at [one address](loop_address) for so many turns, at least one, while RBP points to two words that are no
/// frame.
pub fn spin(words: &[u64; 2], turns: u64) {
    // SAFETY: the function changes nothing but RCX and RBP, and RBP comes back.
    unsafe { frameless_spin(words, turns.max(1)) };
}

/// Returns the address where the code stays.
pub fn loop_address() -> u64 {
    (&raw const frameless_loop).addr() as u64
}
