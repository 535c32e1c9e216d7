//! The heap: thread context only.
//!
//! A linked list under a lock. The NMI path can't reach it: an NMI that interrupted the holder of the lock
//! would wait for ever.

#![expect(unsafe_code, reason = "implements the global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use super::space;
use crate::arch::layout::HEAP;
use crate::arch::paging::MapError;
use crate::lock::Mutex;
use linked_list_allocator::Heap;

const HEAP_BYTES: usize = 16 << 20;

#[global_allocator]
static ALLOCATOR: LockedHeap = LockedHeap(Mutex::new(Heap::empty()));

/// Maps the heap and makes it usable.
///
/// # Errors
/// [`MapError::OutOfFrames`] where there is too little memory.
pub fn init() -> Result<(), MapError> {
    space::kernel().map_new(HEAP, HEAP_BYTES as u64, space::DATA)?;
    // SAFETY: the range was just mapped and belongs to the heap alone.
    unsafe { ALLOCATOR.0.lock().init(HEAP as *mut u8, HEAP_BYTES) };
    Ok(())
}

/// Calls `code`, which must not allocate, with the heap locked.
#[cfg(feature = "selftest")]
pub fn while_locked<T>(code: impl FnOnce() -> T) -> T {
    let _heap = ALLOCATOR.0.lock();
    code()
}

struct LockedHeap(Mutex<Heap>);

// SAFETY: the heap hands out disjoint, aligned blocks, and the lock serializes its changes.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: (caller) the block came from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
