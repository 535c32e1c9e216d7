//! Page tables: building them in thread context.
//!
//! Tables are reached through the direct map. Building uses the `x86_64` crate's mapper; what a page fault
//! changes, also inside an NMI, is a walk and a compare-exchange: see [`lazy`].

#![expect(unsafe_code, reason = "reads and writes page tables")]

pub mod lazy;

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::{MapToError, TranslateError};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::layout::{DIRECT_MAP, PAGE_BYTES, direct};
use crate::memory::frames;

const ENTRIES: u64 = 512;
/// First top-level entry of the kernel half.
const KERNEL_ENTRY: u64 = ENTRIES / 2;
const TOP_LEVEL: u32 = 3;
const PRESENT: u64 = PageTableFlags::PRESENT.bits();
const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Rights of an entry that names a table of the kernel half: the leaf decides.
const TABLE: u64 = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE).bits();

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No memory for a page or a table.
    OutOfFrames,
    /// Something is mapped there.
    Occupied,
    /// Nothing is mapped there.
    NotMapped,
    /// The address is no address of user code, or not the start of a page where one is needed.
    NotUser,
    /// The address space has no room for another area, or the area is longer than a top-level slot.
    NoSlot,
}

/// A tree of page tables under construction or in use.
pub struct PageTables {
    root: PhysFrame,
}

impl PageTables {
    /// Creates tables that map nothing.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`].
    pub fn new() -> Result<Self, MapError> {
        frames::allocate_zeroed().map(|root| Self { root }).ok_or(MapError::OutOfFrames)
    }

    /// Returns the frame of the top-level table, for CR3.
    pub const fn root(&self) -> PhysFrame {
        self.root
    }

    /// Maps `len` bytes at `start` to consecutive physical memory, in 4 KiB pages.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map(
        &mut self,
        start: u64,
        physical: u64,
        len: u64,
        flags: PageTableFlags,
    ) -> Result<(), MapError> {
        self.map_pages::<Size4KiB>(start, physical, len, flags)
    }

    /// Maps `len` bytes at `start` to consecutive physical memory, in 2 MiB pages.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_huge(
        &mut self,
        start: u64,
        physical: u64,
        len: u64,
        flags: PageTableFlags,
    ) -> Result<(), MapError> {
        self.map_pages::<Size2MiB>(start, physical, len, flags)
    }

    /// Maps `len` bytes at `start` to new, zeroed frames.
    ///
    /// # Errors
    /// [`MapError`]; the pages before the one that failed stay mapped.
    pub fn map_new(&mut self, start: u64, len: u64, flags: PageTableFlags) -> Result<(), MapError> {
        for offset in (0..len).step_by(4096) {
            let frame = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
            let mapped = self.map(start + offset, frame.start_address().as_u64(), PAGE_BYTES, flags);
            if mapped.is_err() {
                // SAFETY: it was just handed out, and not mapped.
                unsafe { frames::free(frame) };
            }
            mapped?;
        }
        Ok(())
    }

    /// Copies the kernel half's top-level entries as they are now.
    pub fn copy_kernel_half(&mut self, master: PhysFrame) {
        for index in KERNEL_ENTRY..ENTRIES {
            let value = entry_at(table_of(master), index).load(Ordering::Acquire);
            // Relaxed: nobody uses these tables yet; what CR3 is loaded with later comes after it.
            entry_at(table_of(self.root), index).store(value, Ordering::Relaxed);
        }
    }

    /// Returns the physical address behind a virtual one.
    ///
    /// # Errors
    /// [`MapError::NotMapped`].
    pub fn translate(&mut self, address: u64) -> Result<u64, MapError> {
        let address = VirtAddr::try_new(address).map_err(|_| MapError::NotMapped)?;
        let page = Page::<Size4KiB>::containing_address(address);
        let frame = self.mapper().translate_page(page)?;
        Ok((frame.start_address() + u64::from(address.page_offset())).as_u64())
    }

    /// Gives the user half's frames and tables back, and the top-level table itself.
    ///
    /// # Safety
    /// This is the last use of the object. No CPU has its tables loaded, and nobody holds a reference to what
    /// their user half maps, which is all from [`PageTables::map_new`].
    pub unsafe fn free_user_half(&mut self) {
        for index in 0..KERNEL_ENTRY {
            // SAFETY: (caller).
            unsafe { free_below(entry_at(table_of(self.root), index), TOP_LEVEL) };
        }
        // SAFETY: (caller) nobody uses the table, and it was allocated in `new`.
        unsafe { frames::free(self.root) };
    }

    fn map_pages<S: PageSize>(
        &mut self,
        start: u64,
        physical: u64,
        len: u64,
        flags: PageTableFlags,
    ) -> Result<(), MapError>
    where
        for<'a> OffsetPageTable<'a>: Mapper<S>,
    {
        let mut mapper = self.mapper();
        for offset in (0..len).step_by(usize::try_from(S::SIZE).unwrap_or(usize::MAX)) {
            let page = Page::<S>::containing_address(VirtAddr::new(start + offset));
            let frame = PhysFrame::<S>::containing_address(PhysAddr::new(physical + offset));
            // SAFETY: the callers map memory that they own, at addresses of `layout` or of user code, and
            // never a table.
            let mapped = unsafe { mapper.map_to(page, frame, flags, &mut TableFrames) };
            mapped.map_err(MapError::from)?.flush();
        }
        Ok(())
    }

    fn mapper(&mut self) -> OffsetPageTable<'_> {
        let root = direct::<PageTable>(table_of(self.root));
        // SAFETY: the frame is a page table that this object owns, in the direct map.
        let root = unsafe { &mut *root };
        // SAFETY: all physical memory is mapped at DIRECT_MAP.
        unsafe { OffsetPageTable::new(root, VirtAddr::new(DIRECT_MAP)) }
    }
}

/// Loads a top-level table into this CPU.
///
/// # Safety
/// It maps the running code, its stack and its data where they are.
pub unsafe fn load(root: PhysFrame) {
    // SAFETY: (caller).
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// Returns the top-level table that this CPU has loaded.
pub fn loaded() -> PhysFrame {
    Cr3::read().0
}

/// Frees what an entry names: a page at level 0, else a table and everything below it.
///
/// # Safety
/// As for [`PageTables::free_user_half`].
unsafe fn free_below(entry: &AtomicU64, level: u32) {
    let value = entry.swap(0, Ordering::Relaxed);
    if value & PRESENT == 0 {
        return;
    }
    if level > 0 {
        for index in 0..ENTRIES {
            // SAFETY: (caller); at most four levels deep.
            unsafe { free_below(entry_at(value & ADDRESS, index), level - 1) };
        }
    }
    // SAFETY: (1) (caller); (2) the entry that named it is cleared, and was the only one.
    unsafe { frames::free(PhysFrame::containing_address(PhysAddr::new(value & ADDRESS))) };
}

impl<S: PageSize> From<MapToError<S>> for MapError {
    fn from(error: MapToError<S>) -> Self {
        match error {
            MapToError::FrameAllocationFailed => Self::OutOfFrames,
            _ => Self::Occupied,
        }
    }
}

impl From<TranslateError> for MapError {
    fn from(_: TranslateError) -> Self {
        Self::NotMapped
    }
}

/// Frames for tables.
struct TableFrames;

// SAFETY: `frames` hands every frame out once.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        frames::allocate_zeroed()
    }
}

fn table_of(frame: PhysFrame) -> u64 {
    frame.start_address().as_u64()
}

/// Returns the entry that an address has in a table of a level, 0 for leaves.
fn entry(table: u64, address: u64, level: u32) -> &'static AtomicU64 {
    entry_at(table, (address >> (12 + 9 * level)) % ENTRIES)
}

fn entry_at(table: u64, index: u64) -> &'static AtomicU64 {
    debug_assert!(index < ENTRIES, "a table has 512 entries");
    let entry = direct::<AtomicU64>(table + index * 8);
    // SAFETY: (1) `table` is a page table, in the direct map: tables of the kernel half are never freed, and
    // those of a user half while it is loaded nowhere and its owner is gone; (2) entries are accessed as
    // atomics here, and by the mapper only for ranges that no NMI touches.
    unsafe { &*entry }
}
