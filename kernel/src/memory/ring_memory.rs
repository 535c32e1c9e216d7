//! What a ring is made of: one of three choices.
//!
//! | choice | pages | page faults inside an NMI |
//! |---|---|---|
//! | `lazy` | mapped by the first touch, in an area | first touches; first accesses of an older address space |
//! | `sync` | mapped at once, in an area whose top-level entry is installed in every address space (`vmalloc_sync_all`) | none |
//! | `direct` | consecutive frames, in the direct map (the `kmalloc` choice) | none |
//!
//! All three are one run of addresses, so the ring's code is the same; `direct` pays for that with the need for
//! consecutive frames, which at boot there are.

#![expect(unsafe_code, reason = "turns indices of ring words into addresses")]

use core::slice;
use core::sync::atomic::AtomicU64;

use nmiprof_ring::{Memory, PageIndex, Pages, TouchError, WordIndex, WordRange};
use nmiprof_wire::RingMode;

use super::frames;
use super::vmalloc::LazyArea;
use crate::arch::fallible::{self, AccessError};
use crate::arch::layout::{PAGE_BYTES, direct};
use crate::arch::paging::MapError;
use crate::arch::paging::lazy::Census;
use crate::arch::percpu;
use crate::smp;

/// The memory of one ring. It lives for ever.
#[derive(Debug)]
pub struct RingMemory {
    start: u64,
    len_bytes: u64,
    /// The CPU that writes to it.
    producer: u16,
    /// Where the pages come from; `None` for the direct map.
    area: Option<LazyArea>,
}

impl RingMemory {
    /// Makes the memory of a ring that a CPU fills, of whole pages.
    ///
    /// # Errors
    /// [`MapError`] where memory or address space does not suffice.
    pub fn new(mode: RingMode, len_bytes: u64, producer: u16) -> Result<Self, MapError> {
        if mode == RingMode::Direct {
            let first = frames::allocate_zeroed_run(len_bytes / PAGE_BYTES).ok_or(MapError::OutOfFrames)?;
            let start = direct::<u8>(first.start_address().as_u64()) as u64;
            return Ok(Self { start, len_bytes, producer, area: None });
        }
        let area = LazyArea::new(len_bytes)?;
        if mode == RingMode::Sync {
            area.populate()?;
            area.sync_all();
        }
        Ok(Self { start: area.start(), len_bytes, producer, area: Some(area) })
    }

    /// Makes the producer's CPU forget the translations of pages that are absent now. This one has forgotten them.
    fn forget_translations(&self) {
        #[cfg(feature = "selftest")]
        if crate::selftest::gap::keeps_translations() {
            return;
        }
        if percpu::find().is_none_or(|cpu| cpu.index != self.producer)
            && let Some(producer) = percpu::of(self.producer)
        {
            smp::flush(producer);
        }
    }

    /// Returns the address of the first word.
    #[cfg(feature = "selftest")]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Counts the pages that have a frame, and the tables that are the ring's own.
    pub fn census(&self) -> Census {
        let direct = Census { pages: self.len_bytes / PAGE_BYTES, tables: 0 };
        self.area.as_ref().map_or(direct, LazyArea::census)
    }
}

impl Memory for RingMemory {
    fn pages(&self) -> usize {
        usize::try_from(self.len_bytes / PAGE_BYTES).unwrap_or_default()
    }

    #[inline]
    fn word(&self, index: WordIndex) -> &AtomicU64 {
        let address = self.start + index.get() as u64 * size_of::<u64>() as u64;
        // SAFETY: (1) the index lies in a page that was touched successfully (checked by the ring, which alone
        // makes indices); (2) a page keeps its frame while the ring may use it; (3) an address space that does
        // not have the area yet gets it from the fault handler, which needs nothing that may be missing; (4)
        // the words are accessed as atomics only.
        unsafe { &*(address as *const AtomicU64) }
    }

    #[inline]
    fn words(&self, range: WordRange) -> &[AtomicU64] {
        let range = range.get();
        let address = self.start + range.start as u64 * size_of::<u64>() as u64;
        // SAFETY: (1) to (4) as for `word`, for each word of the range; (5) the range ends with the memory at the
        // latest (checked by the ring).
        unsafe { slice::from_raw_parts(address as *const AtomicU64, range.len()) }
    }

    #[inline]
    fn touch(&self, page: PageIndex) -> Result<(), TouchError> {
        // SAFETY: the ring's one producer calls this, and only it writes to the memory.
        let touched = unsafe { fallible::touch_word(self.start + page.get() as u64 * PAGE_BYTES) };
        touched.map_err(|error| match error {
            AccessError::NoFrame => TouchError::NoFrame,
            AccessError::Fault => TouchError::Fault,
        })
    }

    fn release(&self, pages: Pages) {
        #[cfg(feature = "selftest")]
        crate::selftest::gap::before_release();
        let Some(area) = &self.area else { return };
        pages.clone().for_each(|page| area.hide(page.get() as u64));
        self.forget_translations();
        for frame in pages.filter_map(|page| area.take_hidden(page.get() as u64)) {
            // SAFETY: (1) the frame came from the reserve, which had it from `frames`; (2) the entry is cleared, no CPU
            // has it cached, and the ring does not use the page until it was touched again.
            unsafe { frames::free(frame) };
        }
    }
}
