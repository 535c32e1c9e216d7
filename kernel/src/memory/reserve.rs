//! Frames that an NMI may take: the per-CPU reserve.
//!
//! A page fault inside an NMI needs a zeroed frame and may take no lock. Each CPU has a ring of frames:
//! thread context puts them in, the NMI of that CPU takes them out. One producer, one consumer, so two
//! positions suffice (Lamport's queue); NMI-once makes the consumer single.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

use super::frames;

/// Most frames that one CPU may hold in reserve: 64 MiB.
pub const FRAMES_MAX: u32 = 1 << 14;

/// The reserve of one CPU.
pub struct FrameReserve {
    /// Physical addresses. A slot is written by the thread before `filled` passes it.
    slots: Box<[AtomicU64]>,
    /// Frames put in, ever. Written by the thread, read by the NMI. Wraps; only the difference counts.
    filled: AtomicU32,
    /// Frames taken out, ever. Written by the NMI, read by the thread. Wraps.
    taken: AtomicU32,
    /// Fewest frames ever held. Written by the NMI, read by the thread.
    min: AtomicU32,
}

impl FrameReserve {
    /// Creates a full reserve; memory that runs out leaves it smaller.
    pub fn new(frames: u32) -> Self {
        let slots = (0..frames.min(FRAMES_MAX)).map(|_| AtomicU64::new(0)).collect();
        let [filled, taken, min] = [const { AtomicU32::new(0) }; 3];
        let reserve = Self { slots, filled, taken, min };
        reserve.refill();
        reserve.min.store(reserve.held(), Ordering::Relaxed);
        reserve
    }

    /// Takes a zeroed frame.
    ///
    /// # Context
    /// The NMI of the CPU that owns the reserve.
    #[inline]
    pub fn take(&self) -> Option<PhysFrame> {
        // Relaxed: only this context writes it.
        let taken = self.taken.load(Ordering::Relaxed);
        // Acquire: pairs with `refill`, so that the slot and the zeros behind it are seen.
        let held = self.filled.load(Ordering::Acquire).wrapping_sub(taken);
        if held == 0 {
            return None;
        }
        let address = self.slot(taken)?.load(Ordering::Relaxed);
        // Release: the slot was read before the thread may reuse it.
        self.taken.store(taken.wrapping_add(1), Ordering::Release);
        self.min.store(self.min.load(Ordering::Relaxed).min(held - 1), Ordering::Relaxed);
        PhysFrame::from_start_address(PhysAddr::new(address)).ok()
    }

    /// Fills the reserve up, as far as memory goes.
    ///
    /// # Context
    /// Thread, one at a time.
    pub fn refill(&self) {
        let len = u32::try_from(self.slots.len()).unwrap_or(FRAMES_MAX);
        while self.held() < len {
            let Some(frame) = frames::allocate_zeroed() else {
                return;
            };
            self.put(frame);
        }
    }

    /// Puts a zeroed frame into the next slot, which is free.
    fn put(&self, frame: PhysFrame) {
        // Relaxed: only this context writes it.
        let filled = self.filled.load(Ordering::Relaxed);
        if let Some(slot) = self.slot(filled) {
            slot.store(frame.start_address().as_u64(), Ordering::Relaxed);
            // Release: publishes the slot and the frame's zeros.
            self.filled.store(filled.wrapping_add(1), Ordering::Release);
        }
    }

    /// Puts a frame back that nobody uses any more and that holds zeros still; one too many is lost.
    ///
    /// # Context
    /// As [`FrameReserve::refill`].
    #[cfg(feature = "selftest")]
    pub fn put_back(&self, frame: PhysFrame) {
        if (self.held() as usize) < self.slots.len() {
            self.put(frame);
        }
    }

    /// Returns the fewest frames ever held.
    pub fn min(&self) -> u32 {
        self.min.load(Ordering::Relaxed)
    }

    fn held(&self) -> u32 {
        // Acquire: pairs with `take`.
        self.filled.load(Ordering::Relaxed).wrapping_sub(self.taken.load(Ordering::Acquire))
    }

    /// Finds the slot of a position. (Positions would have to wrap at 2^32, 16 TiB of pages, for a length that is no
    /// power of two to matter.)
    #[inline]
    fn slot(&self, position: u32) -> Option<&AtomicU64> {
        let len = u32::try_from(self.slots.len()).ok()?;
        self.slots.get(position.checked_rem(len)? as usize)
    }
}
