//! What a page fault changes in page tables, and its opposite.
//!
//! An area's top-level entry is made in the master's table only; every other address space that was made
//! before lacks it until a fault copies it ([`install_top_level`]). The tables below are then shared by all, and
//! are made by the fault that needs them, as the leaf is ([`install_leaf`]). A walk starts **from CR3**:
//! in the middle of a switch between two address spaces nothing else says which one faulted.

#![expect(unsafe_code, reason = "gives frames of removed pages back")]

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::tlb;
use x86_64::structures::paging::{PageTableFlags, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

use super::{ADDRESS, ENTRIES, HUGE, MapError, PRESENT, TABLE, TOP_LEVEL, entry, entry_at, table_of};
use crate::arch::layout::PAGE_BYTES;
use crate::memory::frames;
use crate::selftest::turnstile::{self, Gate};

/// What [`install_top_level`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// The entry was missing, and the master has it: it is copied now.
    Copied,
    /// The entry was there.
    AlreadyPresent,
    /// The master has no such entry.
    NotInMaster,
}

/// Copies the top-level entry of an address from the master to another table, if it is missing there.
///
/// # Context
/// Any, the NMI included: no lock, no allocation.
pub fn install_top_level(root: PhysFrame, master: PhysFrame, address: u64) -> Synced {
    let own = entry(table_of(root), address, TOP_LEVEL);
    turnstile::pass(Gate::Tables);
    if own.load(Ordering::Acquire) & PRESENT != 0 {
        return Synced::AlreadyPresent;
    }
    // Acquire: the table that the entry names is seen as its maker left it.
    let value = entry(table_of(master), address, TOP_LEVEL).load(Ordering::Acquire);
    if value & PRESENT == 0 {
        return Synced::NotInMaster;
    }
    // Release: whoever walks through the copy sees the same. An entry that was not present is not cached, so
    // there is nothing to invalidate (SDM volume 3, "Invalidation of TLBs and Paging-Structure Caches").
    turnstile::pass(Gate::Tables);
    match own.compare_exchange(0, value, Ordering::Release, Ordering::Relaxed) {
        Ok(_) => Synced::Copied,
        // Another CPU runs the same address space and was first (case 21).
        Err(_) => {
            turnstile::lost(TOP_LEVEL);
            Synced::AlreadyPresent
        }
    }
}

/// Tells whether a table has the top-level entry of an address.
#[cfg(feature = "selftest")]
pub fn has_top_level(root: PhysFrame, address: u64) -> bool {
    entry(table_of(root), address, TOP_LEVEL).load(Ordering::Acquire) & PRESENT != 0
}

/// Makes the master's top-level entry of a new area, with an empty table behind it.
///
/// # Context
/// Thread.
///
/// # Errors
/// [`MapError`].
pub fn create_top_level(master: PhysFrame, address: u64) -> Result<(), MapError> {
    let table = frames::allocate_zeroed().ok_or(MapError::OutOfFrames)?;
    let entry = entry(table_of(master), address, TOP_LEVEL);
    turnstile::pass(Gate::Tables);
    // Release: the table's zeros come first.
    let made = entry.compare_exchange(0, table_of(table) | TABLE, Ordering::Release, Ordering::Relaxed);
    if made.is_err() {
        // SAFETY: it was just handed out, and no entry names it.
        unsafe { frames::free(table) };
        return Err(MapError::Occupied);
    }
    Ok(())
}

/// Frames to map pages and tables with.
pub trait FrameSource {
    /// Returns the next frame, all zeros, without taking it.
    fn peek(&self) -> Option<PhysFrame>;

    /// Takes the frame that [`FrameSource::peek`] returned.
    fn take(&self);
}

/// How many frames an installation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesTaken {
    /// For tables.
    pub tables: u32,
    /// For the page: 0 if it was there.
    pub pages: u32,
}

/// Why [`install_leaf`] did not map a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The source has no frame left.
    NoFrame {
        /// Frames taken for tables, which stay.
        tables: u32,
    },
    /// The top-level entry is missing, or a huge page is in the way.
    NoTable,
}

/// Maps one page of an area, writable and not executable, in the tables behind `root`, and makes the tables
/// above it that are missing.
///
/// # Context
/// Any, the NMI included: no lock, no allocation, four steps.
///
/// # Errors
/// [`InstallError`].
pub fn install_leaf(
    root: PhysFrame,
    address: u64,
    source: &impl FrameSource,
) -> Result<FramesTaken, InstallError> {
    const LEAF: u64 = TABLE | PageTableFlags::NO_EXECUTE.bits();
    let mut taken = FramesTaken::default();
    let mut table = entry(table_of(root), address, TOP_LEVEL).load(Ordering::Acquire);
    for level in (0..TOP_LEVEL).rev() {
        if table & PRESENT == 0 || table & HUGE != 0 {
            return Err(InstallError::NoTable);
        }
        let flags = if level == 0 { LEAF } else { TABLE };
        let filled = fill(entry(table & ADDRESS, address, level), level, flags, source);
        let (value, made) = filled.ok_or(InstallError::NoFrame { tables: taken.tables })?;
        *(if level == 0 { &mut taken.pages } else { &mut taken.tables }) += u32::from(made);
        table = value;
    }
    Ok(taken)
}

/// Puts a new frame into an entry that is empty, and tells what is in it then and whether that is new; nothing where
/// it would have taken a frame and there is none.
fn fill(entry: &AtomicU64, level: u32, flags: u64, source: &impl FrameSource) -> Option<(u64, bool)> {
    turnstile::pass(Gate::Tables);
    // Acquire: what the entry names is seen as its maker left it.
    let found = entry.load(Ordering::Acquire);
    if found & PRESENT != 0 {
        return Some((found, false));
    }
    let frame = source.peek()?;
    let value = table_of(frame) | flags;
    // Release: whoever finds the entry finds a zeroed frame behind it. As in `install_top_level` there is
    // nothing to invalidate.
    turnstile::pass(Gate::Tables);
    match entry.compare_exchange(0, value, Ordering::Release, Ordering::Acquire) {
        Ok(_) => {
            source.take();
            Some((value, true))
        }
        // Another CPU was first (case 21); the frame stays in the source.
        Err(found) => {
            turnstile::lost(level);
            Some((found, false))
        }
    }
}

/// Makes a page of an area absent, but leaves its frame's address in the entry: [`take_hidden`] gets it. Until then its
/// translation may still be cached, on this CPU no more.
///
/// # Context
/// Thread; no CPU uses the page.
pub fn hide_leaf(root: PhysFrame, address: u64) {
    if let Some(leaf) = leaf_of(root, address) {
        turnstile::pass(Gate::Tables);
        leaf.fetch_and(!PRESENT, Ordering::AcqRel);
        tlb::flush(VirtAddr::new(address));
    }
}

/// Clears the entry of a hidden page and returns its frame: the next touch of the page is a first one again.
///
/// # Context
/// Thread; no CPU uses the page, and none has its translation cached.
pub fn take_hidden(root: PhysFrame, address: u64) -> Option<PhysFrame> {
    let leaf = leaf_of(root, address)?;
    turnstile::pass(Gate::Tables);
    let value = leaf.swap(0, Ordering::AcqRel);
    (value != 0).then(|| PhysFrame::containing_address(PhysAddr::new(value & ADDRESS)))
}

/// Tells whether a page is mapped.
///
/// # Context
/// Any, the NMI included.
pub fn is_mapped(root: PhysFrame, address: u64) -> bool {
    leaf_of(root, address).is_some_and(|leaf| leaf.load(Ordering::Acquire) & PRESENT != 0)
}

/// Takes the top-level entry of an area from a table that is not the master: it is older than the area again.
///
/// # Context
/// Thread; no CPU uses the area there, and each forgets its translations before it does.
#[cfg(feature = "selftest")]
pub fn forget_top_level(root: PhysFrame, address: u64) {
    entry(table_of(root), address, TOP_LEVEL).store(0, Ordering::Release);
}

/// Clears the entry of a level on the way to a page, if there is a way, and gives the frames of all behind it back.
///
/// # Safety
/// No CPU uses what is mapped behind it, and each forgets its translations before it does.
#[cfg(feature = "selftest")]
pub unsafe fn strip(root: PhysFrame, address: u64, level: u32) {
    let mut table = table_of(root);
    for level in (level + 1..=TOP_LEVEL).rev() {
        let value = entry(table, address, level).load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return;
        }
        table = value & ADDRESS;
    }
    // SAFETY: (caller).
    unsafe { super::free_below(entry(table, address, level), level) };
}

/// Finds the entry of a page, where there are tables down to it.
fn leaf_of(root: PhysFrame, address: u64) -> Option<&'static AtomicU64> {
    let mut table = table_of(root);
    for level in (1..=TOP_LEVEL).rev() {
        let value = entry(table, address, level).load(Ordering::Acquire);
        if value & PRESENT == 0 || value & HUGE != 0 {
            return None;
        }
        table = value & ADDRESS;
    }
    Some(entry(table, address, 0))
}

/// What is present of an area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Leaf pages.
    pub pages: u64,
    /// Tables, the one behind the top-level entry included.
    pub tables: u64,
}

/// Counts what is present of `len_bytes` at the start of a top-level slot, table by table.
pub fn census(root: PhysFrame, start: u64, len_bytes: u64) -> Census {
    let mut census = Census::default();
    let top = entry(table_of(root), start, TOP_LEVEL).load(Ordering::Acquire);
    if top & PRESENT != 0 {
        count_table(top & ADDRESS, TOP_LEVEL - 1, 0..len_bytes / PAGE_BYTES, &mut census);
    }
    census
}

/// Counts a table and what is below it, of which `pages` belong to the area, counted from the table's first one.
fn count_table(table: u64, level: u32, pages: Range<u64>, census: &mut Census) {
    let entry_pages = ENTRIES.pow(level);
    census.tables += 1;
    for index in 0..pages.end.div_ceil(entry_pages).min(ENTRIES) {
        let value = entry_at(table, index).load(Ordering::Acquire);
        if value & PRESENT == 0 {
            continue;
        }
        if level == 0 {
            census.pages += 1;
        } else {
            let left = pages.end - index * entry_pages;
            count_table(value & ADDRESS, level - 1, 0..left, census);
        }
    }
}
