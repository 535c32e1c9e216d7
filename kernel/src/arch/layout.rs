//! The kernel half of every address space: the same in all of them, but for areas that one has not met yet.
//!
//! | from | slot | what |
//! |---|---|---|
//! | `ffff_8000_0000_0000` | 256 | [`DIRECT_MAP`]: all RAM, the local APIC and mapped devices, at physical address + offset |
//! | `ffff_9000_0000_0000` | 288 | [`STACKS`]: stacks, each above an unmapped guard page |
//! | `ffff_a000_0000_0000` | 320 | [`HEAP`] |
//! | `ffff_c000_0000_0000` | 384 to 447 | [`VMALLOC`]: areas, each in a slot of its own |
//! | `ffff_ffff_8000_0000` | 511 | [`KERNEL_BASE`]: the image |

/// Start of the direct map: physical address 0.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Start of the stack area: interrupt stacks.
pub const STACKS: u64 = 0xffff_9000_0000_0000;
/// Start of the threads' stacks, in the same slot.
pub const THREAD_STACKS: u64 = STACKS + (1 << 38);
/// Start of the heap.
pub const HEAP: u64 = 0xffff_a000_0000_0000;
/// Start of the areas.
pub const VMALLOC: u64 = 0xffff_c000_0000_0000;
/// Most areas.
pub const VMALLOC_SLOTS: usize = 64;
/// Virtual minus physical address of the kernel image.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;
/// First address that user code can't have.
///
/// The last page below the canonical boundary is left out: SYSCALL as its last instruction would make SYSRET
/// return to an address that is not canonical, which faults at CPL 0 with the user's stack pointer on Intel
/// CPUs (Xen advisory XSA-7, "64-bit PV guest privilege escalation").
pub const USER_END: u64 = 0x0000_8000_0000_0000 - PAGE_BYTES;
/// Bytes behind one entry of a top-level table.
pub const SLOT_BYTES: u64 = 1 << 39;

const _: () =
    assert!(VMALLOC + VMALLOC_SLOTS as u64 * SLOT_BYTES <= KERNEL_BASE, "the areas end below the image");

/// Tells whether `len` bytes at `start` all have user addresses.
#[inline]
pub const fn is_user(start: u64, len: u64) -> bool {
    start < USER_END && len <= USER_END - start
}

/// Returns where the direct map shows a physical address.
pub const fn direct<T>(physical: u64) -> *mut T {
    (DIRECT_MAP + physical) as *mut T
}
