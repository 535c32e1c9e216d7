//! Physical memory, frame by frame.
//!
//! Frames come from the loader's memory map in ascending order, and from a list of those that were given back.
//! Memory below 1 MiB is left alone (firmware and loader data), and so are the kernel image and the boot modules.
//! Whatever a frame held, it is all zeros when it is handed out.
//!
//! A frame is zeroed through the direct map, which shows only the first 4 GiB at first: what lies above is handed out
//! [later](reach_all).
//!
//! # Context
//! Thread only: there is a lock. The NMI path takes frames from its [reserve](super::reserve).

#![expect(unsafe_code, reason = "zeroes and links frames through the direct map")]

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

use crate::arch::boot::{MAPPED_END, MemoryMap, MemoryRange};
use crate::arch::layout::{PAGE_BYTES, direct};
use crate::lock::Mutex;

const LOW_MEMORY_END: u64 = 1 << 20;

static ALLOCATOR: Mutex<FrameAllocator> = Mutex::new(FrameAllocator::empty());

/// Takes over the RAM, but for what is `taken`.
pub fn init<'a>(memory: &MemoryMap, taken: impl IntoIterator<Item = &'a MemoryRange>) {
    let mut free = memory.clone();
    free.remove(MemoryRange { start: 0, end: LOW_MEMORY_END });
    taken.into_iter().for_each(|range| free.remove(*range));
    free.align(PAGE_BYTES);
    ALLOCATOR.lock().free = free;
}

/// Hands out all RAM from now on: the direct map shows all of it.
pub fn reach_all() {
    ALLOCATOR.lock().end = u64::MAX;
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
    unsafe { ALLOCATOR.lock().give_back(frame) };
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
    /// What was never handed out: whole pages.
    free: MemoryMap,
    /// Nothing is handed out from here on.
    end: u64,
    /// The frame that was given back last; its first word links to the one before.
    returned: Option<PhysFrame>,
    returned_len: u64,
}

impl FrameAllocator {
    const fn empty() -> Self {
        Self { free: MemoryMap::new(), end: MAPPED_END, returned: None, returned_len: 0 }
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
    unsafe fn give_back(&mut self, frame: PhysFrame) {
        let next = self.returned.map_or(0, |next| next.start_address().as_u64());
        // SAFETY: (caller) nobody else uses the frame; the direct map covers it.
        unsafe { link(frame).write(next) };
        self.returned = Some(frame);
        self.returned_len += 1;
    }

    /// Takes the start of the first run that is long enough.
    fn allocate_run(&mut self, frames: u64) -> Option<PhysFrame> {
        let start = self.free.take_first(frames.checked_mul(PAGE_BYTES)?, self.end)?;
        Some(PhysFrame::containing_address(PhysAddr::new(start)))
    }

    fn left(&self) -> u64 {
        self.returned_len + self.free.bytes() / PAGE_BYTES
    }
}

/// Returns where a frame in the list keeps the address of the next one.
fn link(frame: PhysFrame) -> *mut u64 {
    direct(frame.start_address().as_u64())
}
