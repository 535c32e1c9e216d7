//! Waiting for an NMI: `sti; hlt`.

#![expect(unsafe_code, reason = "names labels of the assembly")]

use core::arch::global_asm;

global_asm!(
    ".global idle_wait",
    "idle_wait:",
    "sti",
    ".global idle_hlt",
    "idle_hlt:",
    "hlt",
    ".global idle_woken",
    "idle_woken:",
    "ret",
);

unsafe extern "C" {
    fn idle_wait();
    safe static idle_hlt: u8;
    safe static idle_woken: u8;
}

/// Waits for an NMI.
///
/// An NMI that comes before the `hlt` does not prevent it: the caller knows that another one will come.
pub fn wait() {
    // SAFETY: interrupts are enabled in thread context anyway, and every maskable source is masked.
    unsafe { idle_wait() };
}

/// Returns the address of the `hlt`.
pub fn hlt_address() -> u64 {
    (&raw const idle_hlt).addr() as u64
}

/// Returns the address at which an NMI finds the CPU that it wakes.
pub fn woken_address() -> u64 {
    (&raw const idle_woken).addr() as u64
}
