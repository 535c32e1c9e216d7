//! The descriptor tables as the CPU has them, for the self-test image.

#![expect(unsafe_code, reason = "reads the descriptor tables")]

use core::arch::asm;
use core::ptr;

use x86_64::instructions::tables::sgdt;

/// Bits of a descriptor (SDM volume 3, "Segment Descriptors").
const PRESENT: u64 = 1 << 47;
const CODE_OR_DATA: u64 = 1 << 44;
const CODE: u64 = 1 << 43;
/// In a data segment: the stack pointer has 32 bits, not 16.
const BIG: u64 = 1 << 54;

/// Returns the selector of the local descriptor table: 0 where there is none.
pub fn local_table() -> u16 {
    let selector: u16;
    // SAFETY: SLDT only reads.
    unsafe { asm!("sldt {:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector
}

/// Counts present data segments, and those among them that make a stack of 16 bits.
pub fn data_segments() -> (u64, u64) {
    let is_data = |entry: &u64| entry & PRESENT != 0 && entry & CODE_OR_DATA != 0 && entry & CODE == 0;
    let data = || global_table().filter(is_data);
    (data().count() as u64, data().filter(|entry| entry & BIG == 0).count() as u64)
}

/// Returns the words of the global descriptor table. The second word of a system descriptor, which has two, is
/// the upper half of an address and never looks like a present segment here.
fn global_table() -> impl Iterator<Item = u64> {
    let table = sgdt();
    let words = (u64::from(table.limit) + 1) / 8;
    let start = table.base.as_ptr::<u64>();
    (0..words).map(move |index| {
        let word = start.wrapping_add(usize::try_from(index).unwrap_or_default());
        // SAFETY: the word lies within the limit of the table that this CPU uses.
        unsafe { ptr::read_volatile(word) }
    })
}
