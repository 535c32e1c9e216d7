//! The kernel's own address space, which replaces the boot page tables.
//!
//! Every page has the rights that it needs and no more: text can't be written, data can't be executed.

#![expect(unsafe_code, reason = "reads linker symbols and loads page tables")]

use spin::{Mutex, MutexGuard, Once};
use x86_64::structures::paging::PageTableFlags;

use crate::arch::apic;
use crate::arch::boot::MemoryRange;
#[cfg(feature = "selftest")]
use crate::arch::hpet;
use crate::arch::layout::{DIRECT_MAP, KERNEL_BASE, PAGE_BYTES};
use crate::arch::paging::{AddressSpace, MapError};

static KERNEL_SPACE: Once<Mutex<AddressSpace>> = Once::new();

const HUGE_PAGE_BYTES: u64 = 2 << 20;
const READ_ONLY: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const READ_WRITE: PageTableFlags = READ_ONLY.union(PageTableFlags::WRITABLE);
const UNCACHED: PageTableFlags =
    READ_WRITE.union(PageTableFlags::NO_CACHE).union(PageTableFlags::WRITE_THROUGH);

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// Rights of kernel data: readable, writable, not executable.
pub const DATA: PageTableFlags = READ_WRITE;

/// Returns where the kernel image is in physical memory.
pub fn image() -> MemoryRange {
    let (start, end) = (&raw const __image_start, &raw const __image_end);
    MemoryRange { start: start as u64 - KERNEL_BASE, end: end as u64 - KERNEL_BASE }
}

/// Tells whether an address lies in the kernel's text.
///
/// # Context
/// Any, the NMI included.
#[inline]
pub fn is_text(address: u64) -> bool {
    let (start, end) = (&raw const __text_start, &raw const __text_end);
    // One comparison serves both ends: this is asked for every frame of a call chain.
    address.wrapping_sub(start as u64) < (end as u64).wrapping_sub(start as u64)
}

/// Builds the address space from the memory map and switches to it.
///
/// # Errors
/// [`MapError::OutOfFrames`] where there is too little memory even for the tables.
pub fn build(memory: &[MemoryRange]) -> Result<(), MapError> {
    let mut space = AddressSpace::new()?;
    map_image(&mut space)?;
    map_memory(&mut space, memory)?;
    space.map(DIRECT_MAP + apic::MMIO_ADDRESS, apic::MMIO_ADDRESS, PAGE_BYTES, UNCACHED)?;
    #[cfg(feature = "selftest")]
    space.map(DIRECT_MAP + hpet::MMIO_ADDRESS, hpet::MMIO_ADDRESS, PAGE_BYTES, UNCACHED)?;
    // SAFETY: image, stack (inside the image's .bss) and RAM are mapped where the boot tables had them.
    unsafe { space.load() };
    KERNEL_SPACE.call_once(|| Mutex::new(space));
    Ok(())
}

/// Locks the kernel's address space for a change.
///
/// # Panics
/// If it was not built yet.
pub fn kernel() -> MutexGuard<'static, AddressSpace> {
    KERNEL_SPACE.get().expect("the address space is built before it is changed").lock()
}

/// Maps a page of a device where the direct map would have it, and returns its address.
///
/// # Errors
/// [`MapError`].
#[cfg(feature = "selftest")]
pub fn map_device(physical: u64) -> Result<u64, MapError> {
    kernel().map(DIRECT_MAP + physical, physical, PAGE_BYTES, UNCACHED)?;
    Ok(DIRECT_MAP + physical)
}

/// Tells whether somebody holds the address space.
#[cfg(feature = "selftest")]
pub fn is_locked() -> bool {
    KERNEL_SPACE.get().is_some_and(Mutex::is_locked)
}

fn map_image(space: &mut AddressSpace) -> Result<(), MapError> {
    let edges =
        [&raw const __text_start, &raw const __text_end, &raw const __rodata_end, &raw const __image_end];
    let rights = [PageTableFlags::PRESENT, READ_ONLY, READ_WRITE];
    for (edge, flags) in edges.windows(2).zip(rights) {
        let (start, end) = (edge[0] as u64, edge[1] as u64);
        space.map(start, start - KERNEL_BASE, end - start, flags)?;
    }
    Ok(())
}

/// Maps whole 2 MiB pages around all RAM. Neighbouring runs may share one.
fn map_memory(space: &mut AddressSpace, memory: &[MemoryRange]) -> Result<(), MapError> {
    let mut mapped_end = 0;
    for range in memory {
        let start = (range.start / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES).max(mapped_end);
        let end = range.end.next_multiple_of(HUGE_PAGE_BYTES);
        if start < end {
            space.map_huge(DIRECT_MAP + start, start, end - start, READ_WRITE)?;
            mapped_end = end;
        }
    }
    Ok(())
}
