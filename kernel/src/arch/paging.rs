//! Page tables: building them in thread context, and the two walks that the lazy areas need.
//!
//! Tables are reached through the direct map. Building uses the `x86_64` crate's mapper; installing one
//! leaf from inside an NMI is a walk and a compare-exchange, because no lock may be taken there.

#![expect(unsafe_code, reason = "reads and writes page tables")]

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "selftest")]
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::layout::{DIRECT_MAP, PAGE_BYTES, direct};
use crate::memory::frames;

const ENTRIES: u64 = 512;
const LEVELS: u32 = 4;
const LEAF_TABLE_BYTES: u64 = PAGE_BYTES * ENTRIES;
const PRESENT: u64 = PageTableFlags::PRESENT.bits();
const HUGE: u64 = PageTableFlags::HUGE_PAGE.bits();
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No memory for a page or a table.
    OutOfFrames,
    /// Something is mapped there.
    Occupied,
}

/// A tree of page tables under construction or in use.
pub struct AddressSpace {
    root: PhysFrame,
}

impl AddressSpace {
    /// Creates an address space that maps nothing.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`].
    pub fn new() -> Result<Self, MapError> {
        frames::allocate_zeroed().map(|root| Self { root }).ok_or(MapError::OutOfFrames)
    }

    /// Loads it into this CPU.
    ///
    /// # Safety
    /// It maps the running code, its stack and its data where they are.
    pub unsafe fn load(&self) {
        // SAFETY: (caller).
        unsafe { Cr3::write(self.root, Cr3Flags::empty()) };
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
    /// [`MapError`].
    pub fn map_new(&mut self, start: u64, len: u64, flags: PageTableFlags) -> Result<(), MapError> {
        for offset in (0..len).step_by(4096) {
            let frame = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
            self.map(start + offset, frame.start_address().as_u64(), PAGE_BYTES, flags)?;
        }
        Ok(())
    }

    /// Makes all tables for `len` bytes at `start`, but no leaf: nothing there is mapped until
    /// [`install_leaf`] does it.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn prepare(&mut self, start: u64, len: u64) -> Result<(), MapError> {
        let first = start - start % LEAF_TABLE_BYTES;
        let mut address = first;
        while address < start + len {
            self.prepare_leaf_table(address)?;
            address += LEAF_TABLE_BYTES;
        }
        Ok(())
    }

    fn prepare_leaf_table(&mut self, address: u64) -> Result<(), MapError> {
        let mut table = self.root.start_address().as_u64();
        for level in (1..LEVELS).rev() {
            let entry = entry(table, address, level);
            if entry.load(Ordering::Acquire) & PRESENT == 0 {
                let frame = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
                let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
                entry.store(frame.start_address().as_u64() | flags.bits(), Ordering::Release);
            }
            table = entry.load(Ordering::Acquire) & ADDRESS;
        }
        Ok(())
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
            // SAFETY: the callers map memory that they own, at addresses of `layout`, and never a table.
            let mapped = unsafe { mapper.map_to(page, frame, flags, &mut TableFrames) };
            mapped.map_err(MapError::from)?.flush();
        }
        Ok(())
    }

    fn mapper(&mut self) -> OffsetPageTable<'_> {
        let root = direct::<PageTable>(self.root.start_address().as_u64());
        // SAFETY: the frame is a page table that this object owns, in the direct map.
        let root = unsafe { &mut *root };
        // SAFETY: all physical memory is mapped at DIRECT_MAP.
        unsafe { OffsetPageTable::new(root, VirtAddr::new(DIRECT_MAP)) }
    }
}

impl<S: PageSize> From<MapToError<S>> for MapError {
    fn from(error: MapToError<S>) -> Self {
        match error {
            MapToError::FrameAllocationFailed => Self::OutOfFrames,
            _ => Self::Occupied,
        }
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

/// What [`install_leaf`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The entry was empty and now maps the frame.
    New,
    /// Another CPU was first; the frame is still the caller's.
    AlreadyPresent,
    /// There is no table for this address.
    NoTable,
}

/// Maps one page of a prepared range, writable and not executable, in the address space that this CPU runs.
///
/// # Context
/// Any, the NMI included: no lock, no allocation, four steps.
pub fn install_leaf(address: u64, frame: PhysFrame) -> Installed {
    let Some(entry) = leaf_entry(address) else {
        return Installed::NoTable;
    };
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    let value = frame.start_address().as_u64() | flags.bits();
    // Release: whoever finds the entry finds a zeroed frame behind it. A new entry needs no invalidation:
    // entries that are not present are not cached (SDM volume 3, "Invalidation of TLBs").
    match entry.compare_exchange(0, value, Ordering::Release, Ordering::Relaxed) {
        Ok(_) => Installed::New,
        Err(_) => Installed::AlreadyPresent,
    }
}

/// Takes one page of a prepared range out of the address space that this CPU runs, so that its next touch
/// is a first one again. Returns its frame.
///
/// # Context
/// Thread; no other CPU uses the page.
#[cfg(feature = "selftest")]
pub fn remove_leaf(address: u64) -> Option<PhysFrame> {
    let value = leaf_entry(address)?.swap(0, Ordering::AcqRel);
    tlb::flush(VirtAddr::new(address));
    (value & PRESENT != 0).then(|| PhysFrame::containing_address(PhysAddr::new(value & ADDRESS)))
}

/// Counts the present leaf pages among `len` bytes at `start`.
pub fn count_present(start: u64, len: u64) -> u64 {
    let pages = (start..start + len).step_by(4096);
    let present = |address: &u64| {
        leaf_entry(*address).is_some_and(|entry| entry.load(Ordering::Relaxed) & PRESENT != 0)
    };
    pages.filter(present).count() as u64
}

/// Walks to the last-level entry of an address, if all tables above it are there.
fn leaf_entry(address: u64) -> Option<&'static AtomicU64> {
    let mut table = Cr3::read().0.start_address().as_u64();
    for level in (1..LEVELS).rev() {
        let entry = entry(table, address, level).load(Ordering::Acquire);
        if entry & PRESENT == 0 || entry & HUGE != 0 {
            return None;
        }
        table = entry & ADDRESS;
    }
    Some(entry(table, address, 0))
}

fn entry(table: u64, address: u64, level: u32) -> &'static AtomicU64 {
    let index = (address >> (12 + 9 * level)) % ENTRIES;
    let entry = direct::<AtomicU64>(table + index * 8);
    // SAFETY: (1) `table` is a page table, in the direct map, and tables are never freed; (2) entries are
    // accessed as atomics here, and by the mapper only for ranges that no NMI touches yet.
    unsafe { &*entry }
}
