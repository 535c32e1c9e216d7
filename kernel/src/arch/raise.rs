//! Raising exceptions, for the self-test image.

#![expect(unsafe_code, reason = "raises exceptions")]

use core::arch::asm;

/// Raises #BP; continues after it.
pub fn breakpoint() {
    x86_64::instructions::interrupts::int3();
}

/// Enters the debug handler by software; continues after it. (TCG does not deliver what `int1` raises.)
pub fn debug_trap() {
    // SAFETY: the handler returns to the next instruction, and changes no register; there is no error code.
    unsafe { asm!("int 1", options(nomem)) };
}

/// Enters the machine-check handler by software; continues after it.
pub fn machine_check() {
    // SAFETY: as for `debug_trap`: `int 18` pushes no error code, and neither does #MC.
    unsafe { asm!("int 18", options(nomem)) };
}

/// Enters the NMI handler by software, without masking NMIs; continues after it. Returns the address of the next
/// instruction.
pub fn software_nmi() -> u64 {
    let next: u64;
    // SAFETY: as for `debug_trap`: an NMI pushes no error code.
    unsafe { asm!("lea {next}, [rip + 2f]", "int 2", "2:", next = out(reg) next, options(nomem)) };
    next
}
