//! Physical memory, frame by frame.
//!
//! Frames are handed out in ascending order from the loader's memory map and never come back: nothing in
//! this kernel frees one yet. Memory below 1 MiB is left alone (firmware and loader data), and so is the
//! kernel image.
//!
//! # Context
//! Thread only: there is a lock. The NMI path takes frames from its [reserve](super::reserve).

#![expect(unsafe_code, reason = "zeroes frames through the direct map")]

use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

use crate::arch::boot::MemoryRange;
use crate::arch::layout::{PAGE_BYTES, direct};

const RANGES_MAX: usize = 64;
const LOW_MEMORY_END: u64 = 1 << 20;
/// The boot page tables map this much, and the frames handed out first are used before they are replaced.
const ADDRESS_END: u64 = 4 << 30;

static ALLOCATOR: Mutex<FrameAllocator> = Mutex::new(FrameAllocator::empty());

/// Takes over the usable RAM, but for `image`.
pub fn init(memory: &[MemoryRange], image: MemoryRange) {
    let mut allocator = ALLOCATOR.lock();
    for range in memory {
        let below = MemoryRange { end: range.end.min(image.start), ..*range };
        let above = MemoryRange { start: range.start.max(image.end), ..*range };
        allocator.add(below);
        allocator.add(above);
    }
}

/// Takes one frame, all zeros. Returns `None` where memory is used up.
pub fn allocate_zeroed() -> Option<PhysFrame> {
    let frame = ALLOCATOR.lock().allocate()?;
    let bytes = direct::<u8>(frame.start_address().as_u64());
    // SAFETY: (1) the frame is RAM that nobody else has; (2) the direct map covers it.
    unsafe { bytes.write_bytes(0, 4096) };
    Some(frame)
}

/// Calls `code` with the allocator locked.
#[cfg(feature = "selftest")]
pub fn while_locked<T>(code: impl FnOnce() -> T) -> T {
    let _allocator = ALLOCATOR.lock();
    code()
}

struct FrameAllocator {
    ranges: [MemoryRange; RANGES_MAX],
    len: usize,
    current: usize,
}

impl FrameAllocator {
    const fn empty() -> Self {
        Self { ranges: [MemoryRange { start: 0, end: 0 }; RANGES_MAX], len: 0, current: 0 }
    }

    /// Adds the whole pages of a range; a range too many is memory left unused.
    fn add(&mut self, range: MemoryRange) {
        let start = range.start.max(LOW_MEMORY_END).next_multiple_of(PAGE_BYTES);
        let end = range.end.min(ADDRESS_END) / PAGE_BYTES * PAGE_BYTES;
        if start < end && self.len < RANGES_MAX {
            self.ranges[self.len] = MemoryRange { start, end };
            self.len += 1;
        }
    }

    fn allocate(&mut self) -> Option<PhysFrame> {
        while self.current < self.len {
            let range = &mut self.ranges[self.current];
            if range.start < range.end {
                let frame = PhysFrame::containing_address(PhysAddr::new(range.start));
                range.start += PAGE_BYTES;
                return Some(frame);
            }
            self.current += 1;
        }
        None
    }
}
