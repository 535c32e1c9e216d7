//! A heap that only grows: programs here are short.

#![expect(unsafe_code, reason = "implements the global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::call;

/// Memory is taken from the kernel in pieces of at least this.
const PIECE_BYTES: usize = 256 << 10;

#[global_allocator]
static HEAP: Heap = Heap { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };

/// What is left of the last piece. A program has one thread, so the two change together.
struct Heap {
    next: AtomicUsize,
    end: AtomicUsize,
}

impl Heap {
    fn take(&self, layout: Layout) -> Option<usize> {
        let start = self.next.load(Ordering::Relaxed).checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size())?;
        if end > self.end.load(Ordering::Relaxed) {
            return None;
        }
        self.next.store(end, Ordering::Relaxed);
        Some(start)
    }

    fn grow(&self, layout: Layout) -> Option<()> {
        let len = layout.size().checked_add(layout.align())?.max(PIECE_BYTES);
        let start = usize::try_from(call::map(len as u64).ok()?).ok()?;
        // The next piece follows the one before, unless something failed in between.
        if start != self.end.load(Ordering::Relaxed) {
            self.next.store(start, Ordering::Relaxed);
        }
        self.end.store(start + len, Ordering::Relaxed);
        Some(())
    }
}

// SAFETY: blocks are disjoint, since `next` only grows within pieces that the kernel hands out once.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.take(layout).or_else(|| self.grow(layout).and_then(|()| self.take(layout)));
        block.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
