//! Lazily mapped areas: address space now, frames at the first touch.
//!
//! Linux's `vmalloc` maps its pages at once but used to install their top-level entries in other address
//! spaces lazily, by page fault, also inside an NMI; since 5.8 it does so in advance. This kernel keeps
//! faulting on purpose: what happens then is what it is built to show. Here the tables of an area are
//! made at once and its *leaf* pages are the lazy part.

#![expect(unsafe_code, reason = "turns indices of ring words into addresses")]

use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use nmiprof_ring::{Memory, PageIndex, TouchError, WordIndex, WordRange};

#[cfg(feature = "selftest")]
use x86_64::structures::paging::PhysFrame;

use super::space;
use crate::arch::fallible::{self, AccessError};
use crate::arch::layout::{PAGE_BYTES, VMALLOC, VMALLOC_LEN_BYTES};
use crate::arch::paging::{self, MapError};

/// End of the areas made so far. Written by the thread when an area is complete, read by the fault path.
static END: AtomicU64 = AtomicU64::new(VMALLOC);

/// An area whose pages have no frame until they are touched.
#[derive(Clone, Copy, Debug)]
pub struct LazyArea {
    start: u64,
    len_bytes: u64,
}

impl LazyArea {
    /// Makes an area of whole pages.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`] where the tables or the address space do not suffice.
    pub fn new(len_bytes: u64) -> Result<Self, MapError> {
        let start = END.load(Ordering::Relaxed);
        if len_bytes > VMALLOC + VMALLOC_LEN_BYTES - start {
            return Err(MapError::OutOfFrames);
        }
        space::kernel().prepare(start, len_bytes)?;
        // Release: whoever sees the area sees its tables.
        END.store(start + len_bytes, Ordering::Release);
        Ok(Self { start, len_bytes })
    }

    /// Returns the address of the first word.
    #[cfg(feature = "selftest")]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Takes the frames of all pages back: the next touch of each is a first one again.
    ///
    /// # Context
    /// Thread. Nobody holds a reference to a word of the area: it is no ring's.
    #[cfg(feature = "selftest")]
    pub fn decommit(&self, mut take: impl FnMut(PhysFrame)) {
        for page in 0..self.len_bytes / PAGE_BYTES {
            if let Some(frame) = paging::remove_leaf(self.start + page * PAGE_BYTES) {
                take(frame);
            }
        }
    }

    /// Counts the pages that have a frame.
    pub fn present_pages(&self) -> u64 {
        paging::count_present(self.start, self.len_bytes)
    }
}

impl Memory for LazyArea {
    fn pages(&self) -> usize {
        usize::try_from(self.len_bytes / PAGE_BYTES).unwrap_or_default()
    }

    #[inline]
    fn word(&self, index: WordIndex) -> &AtomicU64 {
        let address = self.start + index.get() as u64 * size_of::<u64>() as u64;
        // SAFETY: (1) the index lies in a page of the area that was touched successfully (checked by the
        // ring, which alone makes indices); (2) frames of the area are never taken back; (3) the area's
        // words are accessed as atomics only.
        unsafe { &*(address as *const AtomicU64) }
    }

    #[inline]
    fn words(&self, range: WordRange) -> &[AtomicU64] {
        let range = range.get();
        let address = self.start + range.start as u64 * size_of::<u64>() as u64;
        // SAFETY: (1) to (3) as for `word`, for each word of the range; (4) the range ends with the area at the
        // latest (checked by the ring).
        unsafe { slice::from_raw_parts(address as *const AtomicU64, range.len()) }
    }

    #[inline]
    fn touch(&self, page: PageIndex) -> Result<(), TouchError> {
        // SAFETY: the ring's one producer calls this, and only it writes to the area.
        let touched = unsafe { fallible::touch_word(self.start + page.get() as u64 * PAGE_BYTES) };
        touched.map_err(|error| match error {
            AccessError::NoFrame => TouchError::NoFrame,
            AccessError::Fault => TouchError::Fault,
        })
    }
}

/// Tells whether an address belongs to the areas.
///
/// # Context
/// Any, the NMI included.
#[inline]
pub fn contains(address: u64) -> bool {
    (VMALLOC..END.load(Ordering::Acquire)).contains(&address)
}
