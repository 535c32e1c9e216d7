//! Areas: address space now, frames and tables at the first touch.
//!
//! Each area has a top-level slot of its own. Its top-level entry is made in the master; address spaces that
//! are older miss it, and get it from the [fault handler](super::fault) at their first access, also inside an
//! NMI. Linux's `vmalloc` was like that (for the entries; it maps leaves at once) until 5.8, and the flaw of
//! `iret` was found through it. This kernel keeps faulting on purpose: what happens then is what it is built to
//! show. Areas live for ever.

#![expect(unsafe_code, reason = "gives a frame back")]

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::structures::paging::PhysFrame;

use super::{frames, space};
use crate::arch::layout::{PAGE_BYTES, SLOT_BYTES, VMALLOC, VMALLOC_SLOTS};
use crate::arch::paging::MapError;
use crate::arch::paging::lazy::{self, Census};
use crate::arch::percpu::OwnLines;
use crate::selftest::turnstile::{self, Gate};

/// Slots given out. Written by thread context. A slot whose area could not be made is lost.
static SLOTS_USED: AtomicU64 = AtomicU64::new(0);

/// Length of each slot's area in bytes; 0 where there is none. Written by the thread when the area's
/// top-level entry is in the master and its first tables are made, read by the fault path.
static LENS: OwnLines<[AtomicU64; VMALLOC_SLOTS]> = OwnLines([const { AtomicU64::new(0) }; VMALLOC_SLOTS]);

/// An area whose pages have no frame until they are touched.
#[derive(Clone, Copy, Debug)]
pub struct LazyArea {
    start: u64,
    len_bytes: u64,
}

impl LazyArea {
    /// Makes an area of whole pages in a slot of its own, and the tables above its first page: so a small reserve
    /// is enough to begin with.
    ///
    /// # Errors
    /// [`MapError`] where a table, or the address space, does not suffice.
    pub fn new(len_bytes: u64) -> Result<Self, MapError> {
        // Relaxed: only the number counts.
        let slot = SLOTS_USED.fetch_add(1, Ordering::Relaxed);
        let len = usize::try_from(slot).ok().and_then(|slot| LENS.0.get(slot)).ok_or(MapError::NoSlot)?;
        if len_bytes > SLOT_BYTES {
            return Err(MapError::NoSlot);
        }
        let start = VMALLOC + slot * SLOT_BYTES;
        lazy::create_top_level(space::master_root(), start)?;
        let area = Self { start, len_bytes };
        area.make_first_tables()?;
        turnstile::pass(Gate::Tables);
        // Release: whoever sees the area sees its entry and its first tables. Not before: an access to the address
        // by another CPU's NMI would be resolved between the mapper's looks and its stores.
        len.store(len_bytes, Ordering::Release);
        Ok(area)
    }

    fn make_first_tables(&self) -> Result<(), MapError> {
        space::kernel().map_new(self.start, PAGE_BYTES, space::DATA)?;
        if let Some(page) = self.remove(0) {
            // SAFETY: it was just mapped, nobody knows of the area yet, and its entry is cleared.
            unsafe { frames::free(page) };
        }
        Ok(())
    }

    /// Returns the address of the first word.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Maps every page now.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`]; the pages before stay mapped.
    pub fn populate(&self) -> Result<(), MapError> {
        space::kernel().map_new(self.start, self.len_bytes, space::DATA)
    }

    /// Installs the top-level entry in every address space.
    pub fn sync_all(&self) {
        space::sync_all(self.start);
    }

    /// Takes the frame of one page away: its next touch is a first one again.
    ///
    /// # Context
    /// Thread. Nobody uses the page on any CPU, and no other CPU has ever done.
    pub fn remove(&self, page: u64) -> Option<PhysFrame> {
        self.hide(page);
        self.take_hidden(page)
    }

    /// Makes a page absent and keeps its frame, until [`LazyArea::take_hidden`].
    ///
    /// # Context
    /// Thread. Nobody uses the page on any CPU.
    pub fn hide(&self, page: u64) {
        lazy::hide_leaf(space::master_root(), self.start + page * PAGE_BYTES);
    }

    /// Takes the frame of a hidden page: its next touch is a first one again.
    ///
    /// # Context
    /// As for [`LazyArea::hide`], and no CPU has the page's translation cached.
    pub fn take_hidden(&self, page: u64) -> Option<PhysFrame> {
        lazy::take_hidden(space::master_root(), self.start + page * PAGE_BYTES)
    }

    /// Takes the frames of all pages back.
    ///
    /// # Context
    /// As for [`LazyArea::remove`].
    #[cfg(feature = "selftest")]
    pub fn remove_all(&self, take: impl FnMut(PhysFrame)) {
        (0..self.len_bytes / PAGE_BYTES).filter_map(|page| self.remove(page)).for_each(take);
    }

    /// Takes the table at a level away that one page needs, or at level 0 the page, and all behind it.
    ///
    /// # Safety
    /// As for [`lazy::strip`].
    #[cfg(feature = "selftest")]
    pub unsafe fn strip(&self, page: u64, level: u32) {
        // SAFETY: (caller).
        unsafe { lazy::strip(space::master_root(), self.start + page * PAGE_BYTES, level) };
    }

    /// Returns where the next area will start.
    #[cfg(feature = "selftest")]
    pub fn next_start() -> u64 {
        VMALLOC + SLOTS_USED.load(Ordering::Relaxed) * SLOT_BYTES
    }

    /// Counts the pages that have a frame, and the tables.
    pub fn census(&self) -> Census {
        lazy::census(space::master_root(), self.start, self.len_bytes)
    }
}

/// Tells whether an address belongs to an area.
///
/// # Context
/// Any, the NMI included.
#[inline]
pub fn contains(address: u64) -> bool {
    let Some(offset) = address.checked_sub(VMALLOC) else { return false };
    let len = usize::try_from(offset / SLOT_BYTES).ok().and_then(|slot| LENS.0.get(slot));
    turnstile::pass(Gate::Tables);
    // Acquire: pairs with `new`.
    len.is_some_and(|len| offset % SLOT_BYTES < len.load(Ordering::Acquire))
}
