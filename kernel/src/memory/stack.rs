//! Stacks, each above an unmapped guard page.
//!
//! An overflow hits the guard page: on a thread stack the page fault can't push its frame, so it becomes
//! #DF, which has a stack of its own and reports it.

#![expect(unsafe_code, reason = "reads words of a stack while somebody else uses it")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use x86_64::VirtAddr;

use super::space;
use crate::arch::cpu;
use crate::arch::layout::{PAGE_BYTES, STACKS};
use crate::arch::paging::MapError;

/// Start of the next stack's guard page. Written by thread context only.
static NEXT: AtomicU64 = AtomicU64::new(STACKS);

/// Pages of the thread stack.
const THREAD_PAGES: u64 = 16;

static THREAD: Once<StackRange> = Once::new();

/// Leaves the boot stack, which has no guard page, for a thread stack, which has one.
///
/// # Errors
/// [`MapError::OutOfFrames`].
pub fn continue_on_thread_stack(entry: extern "C" fn() -> !) -> Result<core::convert::Infallible, MapError> {
    let stack = StackRange::allocate(THREAD_PAGES)?;
    THREAD.call_once(|| stack);
    // SAFETY: (1) the stack is new; (2) the boot stack stays mapped, and nothing returns to it.
    unsafe { cpu::continue_on(stack.top, entry) }
}

/// Returns the thread stack; before there is one, an empty range.
pub fn thread_stack() -> StackRange {
    THREAD.get().copied().unwrap_or(StackRange { bottom: 0, top: 0 })
}

/// Where a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRange {
    /// Lowest usable address.
    pub bottom: u64,
    /// One past the highest usable address.
    pub top: u64,
}

impl StackRange {
    /// Maps a new stack of `pages` pages above a new guard page.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`].
    pub fn allocate(pages: u64) -> Result<Self, MapError> {
        // Relaxed: the value is only a number; the mapping is published by the page tables.
        let guard = NEXT.fetch_add((pages + 1) * PAGE_BYTES, Ordering::Relaxed);
        let bottom = guard + PAGE_BYTES;
        space::kernel().map_new(bottom, pages * PAGE_BYTES, space::DATA)?;
        Ok(Self { bottom, top: bottom + pages * PAGE_BYTES })
    }

    /// Returns the top as an address to start from.
    pub const fn top_address(&self) -> VirtAddr {
        VirtAddr::new(self.top)
    }

    /// Returns where the frame pointer of the stack's first function points: it was not called, and has no
    /// caller.
    #[inline]
    pub const fn outermost_frame(&self) -> u64 {
        self.top.saturating_sub(FRAME_BYTES)
    }

    /// Returns what reads the frames of called functions above a stack pointer.
    #[inline]
    pub fn frames_above(&self, stack_pointer: u64) -> Frames {
        let below = stack_pointer.max(self.bottom).wrapping_sub(1);
        Frames { below, outermost: self.outermost_frame() }
    }
}

/// What a frame pointer points to: the caller's frame pointer, and the return address.
const FRAME_BYTES: u64 = size_of::<[u64; 2]>() as u64;

/// Reads frames, upwards only.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The next frame is above this: never less than the stack's bottom, less one.
    below: u64,
    /// The next frame is below this, and a frame fits above.
    outermost: u64,
}

impl Frames {
    /// Reads the frame at an address, if it lies in the stack and above those read before.
    ///
    /// # Context
    /// Any, the NMI included; never faults.
    #[inline]
    pub fn read(&mut self, frame: u64) -> Option<[u64; 2]> {
        if frame <= self.below || frame >= self.outermost {
            return None;
        }
        self.below = frame;
        // SAFETY: (1) the words lie in the stack (checked above), and stacks are never unmapped; (2) whoever
        // writes them is interrupted, and any value is accepted; (3) a wrong pointer need not be aligned.
        Some(unsafe { ptr::read_unaligned(frame as *const [u64; 2]) })
    }

    /// Tells whether this is the frame of the stack's first function.
    #[inline]
    pub const fn is_outermost(&self, frame: u64) -> bool {
        frame == self.outermost
    }
}
