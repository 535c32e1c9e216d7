//! From the boot loader to Rust: two entries, and what the loader hands over.
//!
//! PVH is how QEMU's `-kernel` enters, Multiboot2 how GRUB does, under BIOS and UEFI alike. Both end in one
//! [`BootInfo`], which is a bounded copy: the loader's structures lie in RAM that the frame allocator may hand out, so
//! nothing may point into them once memory is in use. Modules stay where they are, and that RAM is handed to nobody.
//!
//! Sources: the PVH boot protocol (Xen, "x86/HVM direct boot ABI"); "Multiboot2 Specification version 2.0".

#![expect(unsafe_code, reason = "reads the loader's structures at physical addresses")]

pub mod acpi;
mod pvh;

use core::arch::global_asm;
use core::{ptr, slice};

pub use nmiprof_boot::{BootInfo, MemoryMap, MemoryRange};
use nmiprof_boot::{Screen, multiboot2};

use super::layout::{DIRECT_MAP, KERNEL_BASE, direct};

/// Without a guard page, so there is plenty: the tables of ACPI are some kilobytes, and are moved a few times.
const BOOT_STACK_LEN: usize = 128 << 10;
/// The boot page tables map physical memory up to here.
pub const MAPPED_END: u64 = 4 << 30;

global_asm!(
    include_str!("boot.S"),
    XEN_ELFNOTE_PHYS32_ENTRY = const pvh::XEN_ELFNOTE_PHYS32_ENTRY,
    PROTOCOL_PVH = const pvh::START_MAGIC,
    MULTIBOOT2_HEADER_MAGIC = const multiboot2::HEADER_MAGIC,
    MULTIBOOT2_I386 = const multiboot2::header::I386,
    MULTIBOOT2_OPTIONAL = const multiboot2::header::OPTIONAL,
    MULTIBOOT2_TAG_END = const multiboot2::header::END,
    MULTIBOOT2_TAG_REQUEST = const multiboot2::header::REQUEST,
    MULTIBOOT2_TAG_ENTRY = const multiboot2::header::ENTRY,
    MULTIBOOT2_TAG_FRAMEBUFFER = const multiboot2::header::FRAMEBUFFER,
    MULTIBOOT2_TAG_ALIGN_MODULES = const multiboot2::header::ALIGN_MODULES,
    MULTIBOOT2_MEMORY_MAP = const multiboot2::tag::MEMORY_MAP,
    KERNEL_BASE = const KERNEL_BASE,
    DIRECT_MAP_SLOT = const (DIRECT_MAP >> 39) & 511,
    KERNEL_SLOT = const (KERNEL_BASE >> 39) & 511,
    CR4_PAE = const 1 << 5,
    IA32_EFER = const 0xc000_0080_u32,
    EFER_LME_NXE = const (1 << 8) | (1 << 11),
    CR0_PG_WP = const (1_u32 << 31) | (1 << 16),
    BOOT_CODE_SELECTOR = const 8,
    // Present, code, readable, long mode: the only bits that 64-bit mode looks at.
    BOOT_CODE_DESCRIPTOR = const 0x00af_9a00_0000_ffff_u64,
    TABLE = const 0b11,
    HUGE_PAGE = const 0b1000_0011,
    BOOT_STACK_LEN = const BOOT_STACK_LEN,
    boot_entry = sym boot_entry,
);

/// Returns the first boot module. It lies in RAM that nobody else gets.
///
/// # Context
/// After the kernel's address space was built.
pub fn module(boot: &BootInfo) -> &'static [u8] {
    let Some(range) = boot.modules().first() else { return &[] };
    let len = usize::try_from(range.len()).unwrap_or_default();
    // SAFETY: (1) the loader put the module there, in RAM (checked when it was added), which the direct map
    // covers; (2) the frame allocator leaves that range out, so nobody writes it.
    unsafe { slice::from_raw_parts(direct::<u8>(range.start), len) }
}

/// Continues from the assembly: copies the loader's information and enters `main`.
///
/// # Safety
/// `information` is the physical address of what the loader of this protocol left, and the boot page tables are
/// loaded.
unsafe extern "C" fn boot_entry(protocol: u32, information: u32) -> ! {
    let address = u64::from(information);
    let info = match protocol {
        // SAFETY: (caller).
        pvh::START_MAGIC => unsafe { pvh::copy(address) },
        // SAFETY: (caller).
        multiboot2::ENTRY_MAGIC => unsafe { copy_multiboot2(address) },
        // A loader of neither protocol: there is no memory to start with, and the screen says so.
        _ => with_text_screen(BootInfo::new()),
    };
    crate::kernel_main(info)
}

/// # Safety
/// The address is what a Multiboot2 loader put into EBX; the boot page tables are loaded.
unsafe fn copy_multiboot2(address: u64) -> BootInfo {
    // SAFETY: (caller) the information starts with its length.
    let Some(first_word) = (unsafe { read::<u32>(address) }) else { return BootInfo::new() };
    // SAFETY: (caller) so many bytes are there, and nothing writes them: memory is not in use yet.
    let bytes = unsafe { bytes(address, multiboot2::info_len(first_word)) };
    multiboot2::parse(bytes)
}

/// Supposes the text screen that a PC starts with, where the protocol has no word for it.
fn with_text_screen(mut info: BootInfo) -> BootInfo {
    info.set_screen(Screen::VGA_TEXT);
    info
}

/// Reads a structure of the loader's; `None` where the boot page tables don't reach.
///
/// # Safety
/// There is a `T` at the physical address, of any alignment, or the address is out of reach.
unsafe fn read<T: Copy>(address: u64) -> Option<T> {
    let end = address.checked_add(size_of::<T>() as u64)?;
    // SAFETY: (1) (caller) it is there; (2) the boot page tables map it (checked here).
    (end <= MAPPED_END).then(|| unsafe { ptr::read_unaligned(direct::<T>(address)) })
}

/// Returns bytes of the loader's, cut where the boot page tables end.
///
/// # Safety
/// The bytes at the physical address are there and are not written while they are used.
unsafe fn bytes(address: u64, len: usize) -> &'static [u8] {
    let reachable = usize::try_from(MAPPED_END.saturating_sub(address)).unwrap_or_default();
    if reachable == 0 {
        return &[];
    }
    // SAFETY: (1) (caller); (2) the boot page tables map them (cut here).
    unsafe { slice::from_raw_parts(direct::<u8>(address), len.min(reachable)) }
}
