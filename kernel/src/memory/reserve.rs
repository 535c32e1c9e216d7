//! Frames that an NMI may take: the per-CPU reserve.
//!
//! A page fault inside an NMI needs a zeroed frame and may take no lock. Each CPU has a ring of frames:
//! thread context puts them in, the NMI of that CPU takes them out. One producer, one consumer, so two
//! positions suffice (Lamport's queue); NMI-once makes the consumer single.

#![cfg_attr(feature = "selftest", expect(unsafe_code, reason = "gives a frame too many back"))]

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

use super::frames;
use crate::arch::paging::lazy::FrameSource;
use crate::arch::percpu::SHARED_BYTES;

/// Most frames that one CPU may hold in reserve: 64 MiB.
pub const FRAMES_MAX: u32 = 1 << 14;

/// The reserve of one CPU.
pub struct FrameReserve {
    /// Physical addresses. A slot is written by the thread before `filled` passes it.
    slots: Box<[SlotLines]>,
    /// How many of them are used.
    len: u64,
    /// Frames put in, ever. Written by the thread, read by the NMI.
    filled: AtomicU64,
    /// Frames taken out, ever. Written by the NMI, read by the thread. `filled - taken` is 0 to the length.
    taken: AtomicU64,
    /// Fewest frames ever held. Written by the NMI, read by the thread.
    min: AtomicU64,
    /// Frames that it held when it was made.
    first_filled: u64,
}

/// Slots on cache lines of their own: on the heap others' things are next to them.
#[repr(align(128))]
struct SlotLines([AtomicU64; SLOTS_IN_LINES]);

const SLOTS_IN_LINES: usize = SHARED_BYTES / size_of::<AtomicU64>();

const _: () = assert!(
    align_of::<SlotLines>() == SHARED_BYTES && size_of::<SlotLines>() == SHARED_BYTES,
    "no shared cache line: nothing else on the heap lies on the slots' lines"
);

/// What a reserve counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveCounts {
    /// Frames that it holds when it is full.
    pub frames: u32,
    /// Fewest frames ever held.
    pub frames_min: u32,
    /// Frames put in since it was first filled.
    pub refilled: u64,
}

impl FrameReserve {
    /// Creates a full reserve; memory that runs out leaves it smaller.
    pub fn new(frames: u32) -> Self {
        let len = frames.min(FRAMES_MAX);
        let lines = (len as usize).div_ceil(SLOTS_IN_LINES);
        let slots = (0..lines).map(|_| SlotLines([const { AtomicU64::new(0) }; SLOTS_IN_LINES])).collect();
        let [filled, taken, min] = [const { AtomicU64::new(0) }; 3];
        let mut reserve = Self { slots, len: len.into(), filled, taken, min, first_filled: 0 };
        reserve.refill();
        reserve.first_filled = reserve.held();
        reserve.min.store(reserve.first_filled, Ordering::Relaxed);
        reserve
    }

    /// Fills the reserve up, as far as memory goes.
    ///
    /// # Context
    /// Thread, one at a time.
    pub fn refill(&self) {
        while self.held() < self.len {
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
            self.filled.store(filled + 1, Ordering::Release);
        }
    }

    /// Puts a frame back that nobody uses any more and that holds zeros still; one too many is freed.
    ///
    /// # Safety
    /// As for [`frames::free`]; and the frame is all zeros.
    ///
    /// # Context
    /// As for [`FrameReserve::refill`].
    #[cfg(feature = "selftest")]
    pub unsafe fn put_back(&self, frame: PhysFrame) {
        if self.held() < self.len {
            self.put(frame);
        } else {
            // SAFETY: (caller).
            unsafe { frames::free(frame) };
        }
    }

    /// Reads the counts.
    pub fn counts(&self) -> ReserveCounts {
        let frames = u32::try_from(self.len).unwrap_or(FRAMES_MAX);
        let frames_min = u32::try_from(self.min.load(Ordering::Relaxed)).unwrap_or(FRAMES_MAX);
        let refilled = self.filled.load(Ordering::Relaxed).saturating_sub(self.first_filled);
        ReserveCounts { frames, frames_min, refilled }
    }

    fn held(&self) -> u64 {
        // Acquire: pairs with `FrameSource::take`.
        self.filled.load(Ordering::Relaxed) - self.taken.load(Ordering::Acquire)
    }

    /// Finds the slot of a position.
    #[inline]
    fn slot(&self, position: u64) -> Option<&AtomicU64> {
        let index = usize::try_from(position.checked_rem(self.len)?).ok()?;
        self.slots.get(index / SLOTS_IN_LINES)?.0.get(index % SLOTS_IN_LINES)
    }
}

/// # Context
/// The NMI of the CPU that owns the reserve.
impl FrameSource for FrameReserve {
    #[inline]
    fn peek(&self) -> Option<PhysFrame> {
        // Relaxed: only this context writes it.
        let taken = self.taken.load(Ordering::Relaxed);
        // Acquire: pairs with `put`, so that the slot and the zeros behind it are seen.
        if self.filled.load(Ordering::Acquire) == taken {
            return None;
        }
        let address = self.slot(taken)?.load(Ordering::Relaxed);
        PhysFrame::from_start_address(PhysAddr::new(address)).ok()
    }

    #[inline]
    fn take(&self) {
        let taken = self.taken.load(Ordering::Relaxed) + 1;
        let left = self.filled.load(Ordering::Relaxed).saturating_sub(taken);
        self.min.store(self.min.load(Ordering::Relaxed).min(left), Ordering::Relaxed);
        // Release: the slot was read before the thread may reuse it.
        self.taken.store(taken, Ordering::Release);
    }
}
