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

    /// Reads the two words at an address, if they lie in the stack, not below `lowest`, and are aligned.
    ///
    /// # Context
    /// Any, the NMI included; never faults.
    #[inline]
    pub fn read_pair(&self, address: u64, lowest: u64) -> Option<[u64; 2]> {
        let lowest = lowest.max(self.bottom);
        let highest = self.top.saturating_sub(size_of::<[u64; 2]>() as u64);
        if address < lowest || address > highest || !address.is_multiple_of(align_of::<u64>() as u64) {
            return None;
        }
        // SAFETY: (1) the words lie in the stack (checked above), and stacks are never unmapped; (2)
        // volatile: the owner may write them, and any value is accepted.
        Some(unsafe { ptr::read_volatile(address as *const [u64; 2]) })
    }
}
