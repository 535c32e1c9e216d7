//! Stacks, each above an unmapped guard page.
//!
//! An overflow hits the guard page: on a thread stack the page fault can't push its frame, so it becomes
//! #DF, which has a stack of its own and reports it.

#![expect(unsafe_code, reason = "reads words of a stack while somebody else uses it")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;

use super::space;
use crate::arch::cpu;
use crate::arch::frame::IretFrame;
use crate::arch::layout::{PAGE_BYTES, STACKS, THREAD_STACKS};
use crate::arch::paging::MapError;

/// Start of the next stack's guard page. Written by thread context only.
static NEXT: AtomicU64 = AtomicU64::new(STACKS);

/// What the ABI asks of RSP at a call.
const STACK_ALIGN: u64 = 16;
/// Bytes of a thread's stack.
const THREAD_BYTES: u64 = 16 * PAGE_BYTES;
/// Address space of a thread's stack: the upper half is mapped, so an address tells whose stack it is in.
const THREAD_SLOT_BYTES: u64 = 2 * THREAD_BYTES;

const _: () = assert!(THREAD_SLOT_BYTES.is_power_of_two() && THREAD_STACKS.is_multiple_of(THREAD_SLOT_BYTES));

/// Start of the next thread's slot. Written by thread context, read by anyone.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(THREAD_STACKS);

/// Leaves the boot stack, which has no guard page, for a thread stack, which has one.
///
/// # Errors
/// [`MapError::OutOfFrames`].
pub fn continue_on_thread_stack(entry: extern "C" fn() -> !) -> Result<core::convert::Infallible, MapError> {
    let stack = StackRange::for_thread()?;
    // SAFETY: (1) the stack is new; (2) the boot stack stays mapped, and nothing returns to it.
    unsafe { cpu::continue_on(stack.start(), entry) }
}

/// Returns the stack of the thread that runs this.
///
/// # Panics
/// On any other stack.
pub fn current() -> StackRange {
    let local = 0_u8;
    let address = ptr::from_ref(&local).addr() as u64;
    StackRange::of_thread(address).expect("a thread runs on a thread's stack")
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

    /// Maps a new stack for a thread.
    ///
    /// # Errors
    /// [`MapError::OutOfFrames`].
    pub fn for_thread() -> Result<Self, MapError> {
        // Relaxed: the value is only a number; nobody runs on the stack before it is mapped.
        let slot = NEXT_THREAD.fetch_add(THREAD_SLOT_BYTES, Ordering::Relaxed);
        let top = slot + THREAD_SLOT_BYTES;
        let stack = Self { bottom: top - THREAD_BYTES, top };
        space::kernel().map_new(stack.bottom, THREAD_BYTES, space::DATA)?;
        Ok(stack)
    }

    /// Finds the thread's stack that a stack pointer is on: by its address alone, so it is right in the middle
    /// of a switch between two threads as well.
    ///
    /// # Context
    /// Any, the NMI included.
    #[inline]
    pub fn of_thread(stack_pointer: u64) -> Option<Self> {
        // The stack pointer of an empty stack is its top.
        let inside = stack_pointer.wrapping_sub(1);
        if !(THREAD_STACKS..NEXT_THREAD.load(Ordering::Relaxed)).contains(&inside) {
            return None;
        }
        let top = (inside | (THREAD_SLOT_BYTES - 1)) + 1;
        Some(Self { bottom: top - THREAD_BYTES, top })
    }

    /// Returns where the frame is that an interrupt or a system call of user code leaves at the very top.
    ///
    /// Threads of the kernel leave it free, so it is all zeros there.
    pub const fn first_frame(&self) -> u64 {
        self.top - size_of::<IretFrame>() as u64
    }

    /// Returns where a thread of the kernel starts: below that frame, aligned as the ABI wants it.
    pub const fn start(&self) -> u64 {
        self.first_frame() & !(STACK_ALIGN - 1)
    }

    /// Returns the user code that entered the kernel on this stack, for code that now runs there at
    /// `stack_pointer`; `None` for a thread of the kernel.
    ///
    /// # Context
    /// As for [`StackRange::read_pair`].
    #[inline]
    pub fn entered_from(&self, stack_pointer: u64) -> Option<IretFrame> {
        let frame = self.first_frame();
        if stack_pointer > frame {
            // The entry has not pushed all of it.
            return None;
        }
        // SAFETY: the words lie in the stack; volatile, as in `read_pair`.
        let frame = unsafe { ptr::read_volatile(frame as *const IretFrame) };
        frame.is_user().then_some(frame)
    }

    /// Returns the top as an address to start from.
    pub const fn top_address(&self) -> VirtAddr {
        VirtAddr::new(self.top)
    }

    /// Returns where the frame pointer of the stack's first function points: it was not called, and has no
    /// caller.
    #[inline]
    pub const fn outermost_frame(&self) -> u64 {
        self.start().saturating_sub(FRAME_BYTES)
    }

    /// Returns what reads the frames of called functions.
    #[inline]
    pub const fn frames(&self) -> Frames {
        Frames { below: self.bottom.wrapping_sub(1), outermost: self.outermost_frame() }
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
    /// Leaves out what is below a stack pointer.
    #[inline]
    pub fn above(self, stack_pointer: u64) -> Self {
        Self { below: self.below.max(stack_pointer.wrapping_sub(1)), ..self }
    }

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
