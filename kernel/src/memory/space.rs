//! Address spaces: the master, which replaces the boot page tables, and those of [processes](AddressSpace).
//!
//! The master's kernel half is the one that counts: it is changed here and by new
//! [areas](super::vmalloc), and every process has a copy of its top-level entries.
//! Every page has the rights that it needs and no more: text can't be written, data can't be executed.

#![expect(unsafe_code, reason = "reads linker symbols and loads page tables")]

mod process;

use core::sync::atomic::{AtomicU64, Ordering};

use nmiprof_boot::Screen;
use spin::Once;
use x86_64::PhysAddr;
use x86_64::structures::paging::{PageTableFlags, PhysFrame};

use crate::arch::apic;
use crate::arch::boot::{MemoryMap, MemoryRange};
#[cfg(feature = "selftest")]
use crate::arch::hpet;
use crate::arch::layout::{DIRECT_MAP, KERNEL_BASE, PAGE_BYTES};
use crate::arch::paging::{self, MapError, PageTables};
use crate::arch::percpu::OwnLines;
use crate::lock::{Mutex, MutexGuard};
pub use process::sync_all;
pub use process::{AddressSpace, USER_END, UserRights};

static MASTER: Once<Mutex<PageTables>> = Once::new();
/// Address of the master's top-level table, for those who can't wait for its lock. Written once, with the master.
static MASTER_ROOT: OwnLines<AtomicU64> = OwnLines(AtomicU64::new(0));

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

/// Builds the master from the memory map and the screen, and switches to it.
///
/// # Errors
/// [`MapError::OutOfFrames`] where there is too little memory even for the tables.
pub fn build(memory: &MemoryMap, screen: Option<Screen>) -> Result<(), MapError> {
    let mut tables = PageTables::new()?;
    map_image(&mut tables)?;
    map_memory(&mut tables, memory)?;
    screen.map_or(Ok(()), |screen| map_screen(&mut tables, screen.range()))?;
    tables.map(DIRECT_MAP + apic::MMIO_ADDRESS, apic::MMIO_ADDRESS, PAGE_BYTES, UNCACHED)?;
    #[cfg(feature = "selftest")]
    tables.map(DIRECT_MAP + hpet::MMIO_ADDRESS, hpet::MMIO_ADDRESS, PAGE_BYTES, UNCACHED)?;
    // Release: whoever walks the tables sees them complete.
    MASTER_ROOT.0.store(tables.root().start_address().as_u64(), Ordering::Release);
    MASTER.call_once(|| Mutex::new(tables));
    load_master();
    Ok(())
}

/// Locks the master for a change.
///
/// # Panics
/// If it was not built yet.
pub fn kernel() -> MutexGuard<'static, PageTables> {
    MASTER.get().expect("the master is built before it is changed").lock()
}

/// Maps a page of a device where the direct map would have it, and returns its address. It may be mapped already.
///
/// # Errors
/// [`MapError`].
pub fn map_device(physical: u64) -> Result<u64, MapError> {
    match kernel().map(DIRECT_MAP + physical, physical, PAGE_BYTES, UNCACHED) {
        // As a device before, or in a page of RAM's: there the memory type that firmware gave to devices wins.
        Ok(()) | Err(MapError::Occupied) => Ok(DIRECT_MAP + physical),
        Err(error) => Err(error),
    }
}

/// Tells whether somebody holds the address space.
#[cfg(feature = "selftest")]
pub fn is_locked() -> bool {
    MASTER.get().is_some_and(Mutex::is_locked)
}

/// Returns the master's top-level table.
///
/// # Context
/// Any, the NMI included, after [`build`]: no lock.
#[inline]
pub fn master_root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(MASTER_ROOT.0.load(Ordering::Acquire)))
}

/// Loads the master into this CPU: for the boot code, and for kernel threads without a space of their own.
pub fn load_master() {
    // SAFETY: (1) image, stacks and heap are mapped where they are, and RAM where the boot tables had it; (2) a
    // user half that was loaded before is used by user code only, which does not run now.
    unsafe { paging::load(master_root()) };
}

fn map_image(tables: &mut PageTables) -> Result<(), MapError> {
    let edges =
        [&raw const __text_start, &raw const __text_end, &raw const __rodata_end, &raw const __image_end];
    let rights = [PageTableFlags::PRESENT, READ_ONLY, READ_WRITE];
    for (edge, flags) in edges.windows(2).zip(rights) {
        let (start, end) = (edge[0] as u64, edge[1] as u64);
        tables.map(start, start - KERNEL_BASE, end - start, flags)?;
    }
    Ok(())
}

/// Maps whole 2 MiB pages around all RAM. Neighbouring runs may share one.
fn map_memory(tables: &mut PageTables, memory: &MemoryMap) -> Result<(), MapError> {
    let mut mapped_end = 0;
    for range in memory.runs() {
        let start = (range.start / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES).max(mapped_end);
        let end = range.end.next_multiple_of(HUGE_PAGE_BYTES);
        if start < end {
            tables.map_huge(DIRECT_MAP + start, start, end - start, READ_WRITE)?;
            mapped_end = end;
        }
    }
    Ok(())
}

/// Maps the screen page by page, but for pages that lie in a page of RAM's.
fn map_screen(tables: &mut PageTables, range: MemoryRange) -> Result<(), MapError> {
    let mut page = range.start / PAGE_BYTES * PAGE_BYTES;
    while page < range.end {
        match tables.map(DIRECT_MAP + page, page, PAGE_BYTES, UNCACHED) {
            Ok(()) | Err(MapError::Occupied) => page += PAGE_BYTES,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
