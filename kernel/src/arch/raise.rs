//! Raising exceptions and watching an address, for the self-test image.

#![expect(unsafe_code, reason = "raises exceptions and writes debug registers")]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

use x86_64::registers::debug::{Dr7, Dr7Flags, Dr7Value};

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

/// Raises #DB at every write to a word, on this CPU; `None` stops that. Returns DR7 as it is from then on.
pub fn watch_writes(word: Option<&'static AtomicU64>) -> u64 {
    const ENABLE_0: u64 = 1 << 1;
    const WRITES_OF_8_BYTES: u64 = 0b1001 << 16;
    let address = word.map_or(0, |word| core::ptr::from_ref(word).addr());
    // SAFETY: names an address; nothing happens before DR7 enables it.
    unsafe { asm!("mov dr0, {}", in(reg) address, options(nomem, nostack)) };
    let flags = if word.is_some() { ENABLE_0 | WRITES_OF_8_BYTES } else { 0 };
    if let Some(value) = Dr7Value::from_bits(flags | Dr7Flags::empty().bits()) {
        Dr7::write(value);
    }
    Dr7::read_raw()
}

/// Reads DR7.
pub fn debug_control() -> u64 {
    Dr7::read_raw()
}
