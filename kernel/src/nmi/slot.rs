//! Where the sampler of a CPU waits for the next NMI, and the marker of NMI-once.
//!
//! The two are one word, because a run of the handler looks at both: it takes the sampler out, and whoever
//! finds it taken has re-entered the handler.

#![expect(unsafe_code, reason = "takes back what it gave to the handler")]

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::sampler::Sampler;

/// The place of one CPU's sampler.
///
/// | value | meaning |
/// |---|---|
/// | null | sampling is off, and the handler is not running |
/// | [`IN_USE`] | the handler is running |
/// | else | sampling is on, and the handler is not running |
///
/// Written by the thread of its CPU and by the NMI, which is over before the thread goes on; read by the
/// exceptions of this CPU, too.
pub(super) struct SamplerSlot(AtomicPtr<Sampler>);

/// What is in the slot of a CPU while the handler runs: an address at which no sampler can be.
const IN_USE: *mut Sampler = ptr::dangling_mut();

impl SamplerSlot {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Turns sampling on.
    ///
    /// # Context
    /// Thread, while sampling is off.
    pub(super) fn put(&self, sampler: Box<Sampler>) {
        // Release: an NMI that finds the sampler finds all of it.
        self.0.store(Box::into_raw(sampler), Ordering::Release);
    }

    /// Turns sampling off and gives the sampler back.
    ///
    /// # Context
    /// Thread.
    pub(super) fn take(&self) -> Option<Box<Sampler>> {
        // Acquire: what the NMIs did to the sampler is seen. From here on none finds it.
        let sampler = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: (1) `put` made it from a box; (2) the swap took it out, and no NMI of this CPU is under
        // way, for this is its thread: the slot is not in use.
        (!sampler.is_null()).then(|| unsafe { Box::from_raw(sampler) })
    }

    /// Tells whether sampling is on.
    ///
    /// # Context
    /// Thread.
    pub(super) fn is_on(&self) -> bool {
        // Relaxed: as in `is_in_use`.
        !self.0.load(Ordering::Relaxed).is_null()
    }

    /// Tells whether the handler is running.
    #[inline]
    pub(super) fn is_in_use(&self) -> bool {
        // Relaxed: only this CPU writes the slot, and program order is enough for itself.
        self.0.load(Ordering::Relaxed) == IN_USE
    }

    /// Takes the sampler for a run of the handler; nothing where there is none, or the slot is in use.
    ///
    /// # Context
    /// NMI.
    ///
    /// # Safety
    /// This is the NMI of the slot's CPU, and hands what it took to [`SamplerSlot::end_run`] or keeps it.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the slot gives away what it holds, once")]
    pub(super) unsafe fn begin_run(&self) -> Option<&mut Sampler> {
        // Acquire: pairs with `put`, so that the sampler is complete.
        let sampler = self.0.load(Ordering::Acquire);
        // Nothing lies between null and the marker: one comparison for both.
        if sampler <= IN_USE {
            return None;
        }
        self.begin_empty_run();
        // SAFETY: (1) `put` has put a live sampler there and `take` has not taken it (checked above); (2) the
        // thread of this CPU does not run now, and whoever takes it leaves the marker, so this is the only
        // reference to it (invariant NMI-once).
        Some(unsafe { &mut *sampler })
    }

    /// Marks a run of the handler that found the slot empty.
    ///
    /// # Context
    /// NMI.
    #[inline]
    pub(super) fn begin_empty_run(&self) {
        // Relaxed: as in `is_in_use`.
        self.0.store(IN_USE, Ordering::Relaxed);
    }

    /// Ends a run: what it has taken is back.
    ///
    /// # Context
    /// NMI.
    #[inline]
    pub(super) fn end_run(&self, sampler: Option<&mut Sampler>) {
        // Release: pairs with `take`.
        self.0.store(sampler.map_or(ptr::null_mut(), ptr::from_mut), Ordering::Release);
    }
}
