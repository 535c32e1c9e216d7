//! Physical memory, frame by frame.
//!
//! Frames come from the loader's memory map in ascending order, and from a list of those that were given back.
//! Memory below 1 MiB is left alone (firmware and loader data), and so is the kernel image. Whatever a
//! frame held, it is all zeros when it is handed out.
//!
//! # Context
//! Thread only: there is a lock. The NMI path takes frames from its [reserve](super::reserve).

#![expect(unsafe_code, reason = "zeroes and links frames through the direct map")]

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

use crate::arch::boot::MemoryRange;
use crate::arch::layout::{PAGE_BYTES, direct};
use crate::lock::Mutex;

const RANGES_MAX: usize = 64;
const LOW_MEMORY_END: u64 = 1 << 20;
/// The boot page tables map this much, and the frames handed out first are used before they are replaced.
const ADDRESS_END: u64 = 4 << 30;

static ALLOCATOR: Mutex<FrameAllocator> = Mutex::new(FrameAllocator::empty());

/// Takes over the usable RAM, but for what is `taken`.
pub fn init(memory: &[MemoryRange], taken: &[MemoryRange]) {
    let mut allocator = ALLOCATOR.lock();
    for range in memory {
        allocator.add_around(*range, taken);
    }
}

/// Takes one frame, all zeros. Returns `None` where memory is used up.
pub fn allocate_zeroed() -> Option<PhysFrame> {
    let frame = ALLOCATOR.lock().allocate()?;
    zero(frame);
    Some(frame)
}

/// Takes `frames` consecutive frames, all zeros, and returns the first one. Returns `None` where memory has no
/// such run that was never used: what was given back is not joined again.
pub fn allocate_zeroed_run(frames: u64) -> Option<PhysFrame> {
    let first = ALLOCATOR.lock().allocate_run(frames)?;
    PhysFrame::range(first, first + frames).for_each(zero);
    Some(first)
}

/// Gives a frame back.
///
/// # Safety
/// [`allocate_zeroed`] handed the frame out, and nobody reads, writes or maps it any more.
pub unsafe fn free(frame: PhysFrame) {
    // SAFETY: (caller).
    unsafe { ALLOCATOR.lock().free(frame) };
}

/// Counts the frames that are left.
pub fn left() -> u64 {
    ALLOCATOR.lock().left()
}

/// Runs `code` while the allocator is locked: what it interrupts by NMI must not need the lock.
#[cfg(feature = "selftest")]
pub fn while_locked<T>(code: impl FnOnce() -> T) -> T {
    let _held = ALLOCATOR.lock();
    code()
}

fn zero(frame: PhysFrame) {
    let bytes = direct::<u8>(frame.start_address().as_u64());
    // SAFETY: (1) the frame is RAM that was just taken, so nobody else has it; (2) the direct map covers it.
    unsafe { bytes.write_bytes(0, 4096) };
}

struct FrameAllocator {
    ranges: [MemoryRange; RANGES_MAX],
    len: usize,
    /// The frame that was given back last; its first word links to the one before.
    returned: Option<PhysFrame>,
    returned_len: u64,
}

impl FrameAllocator {
    const fn empty() -> Self {
        Self {
            ranges: [MemoryRange { start: 0, end: 0 }; RANGES_MAX],
            len: 0,
            returned: None,
            returned_len: 0,
        }
    }

    /// Adds what is left of a range around all that is taken.
    fn add_around(&mut self, range: MemoryRange, taken: &[MemoryRange]) {
        match taken.split_first() {
            None => self.add(range),
            Some((first, rest)) => {
                self.add_around(MemoryRange { end: range.end.min(first.start), ..range }, rest);
                self.add_around(MemoryRange { start: range.start.max(first.end), ..range }, rest);
            }
        }
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
        self.take_returned().or_else(|| self.allocate_run(1))
    }

    fn take_returned(&mut self) -> Option<PhysFrame> {
        let frame = self.returned?;
        // SAFETY: the frame is in the list, so nobody else has it, and `free` wrote this word.
        let next = unsafe { link(frame).read() };
        // Address 0 ends the list: low memory is never handed out.
        self.returned = (next != 0).then(|| PhysFrame::containing_address(PhysAddr::new(next)));
        self.returned_len -= 1;
        Some(frame)
    }

    /// # Safety
    /// As for [`free`].
    unsafe fn free(&mut self, frame: PhysFrame) {
        let next = self.returned.map_or(0, |next| next.start_address().as_u64());
        // SAFETY: (caller) nobody else uses the frame; the direct map covers it.
        unsafe { link(frame).write(next) };
        self.returned = Some(frame);
        self.returned_len += 1;
    }

    /// Takes the start of the first range that is long enough.
    fn allocate_run(&mut self, frames: u64) -> Option<PhysFrame> {
        let bytes = frames.checked_mul(PAGE_BYTES)?;
        let range = self.ranges[..self.len].iter_mut().find(|range| range.end - range.start >= bytes)?;
        let frame = PhysFrame::containing_address(PhysAddr::new(range.start));
        range.start += bytes;
        Some(frame)
    }

    fn left(&self) -> u64 {
        let unused: u64 = self.ranges[..self.len].iter().map(|range| range.end - range.start).sum();
        self.returned_len + unused / PAGE_BYTES
    }
}

/// Returns where a frame in the list keeps the address of the next one.
fn link(frame: PhysFrame) -> *mut u64 {
    direct(frame.start_address().as_u64())
}
