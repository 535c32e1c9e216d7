//! Call chains by frame pointers.
//!
//! The kernel is built with frame pointers, so `[rbp]` is the caller's RBP and `[rbp + 8]` the return
//! address. The walk in the NMI follows them upwards within the thread's stack and reads nothing outside of
//! it, so a wrong pointer ends it and can do no harm. Whether what it read are return addresses at all is
//! asked [later](genuine), in the drain: that would be a quarter of the walk.
//!
//! A sample in the first or last instructions of a function, where RBP is still or again the caller's,
//! misses the function's direct caller: frame pointers can't tell.

use crate::memory::space;
use crate::memory::stack::{Frames, StackRange};

/// Most return addresses in a chain.
pub const DEPTH_MAX: usize = 64;

/// A walk up a stack: an iterator over return addresses, innermost first.
///
/// # Context
/// Any, the NMI included; never faults.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    frames: Frames,
    /// Frame of the function whose return address is next.
    frame: u64,
}

impl Walk {
    /// Starts from the registers of interrupted code that should be on `stack`.
    #[inline]
    pub fn new(stack: &StackRange, stack_pointer: u64, frame_pointer: u64) -> Self {
        Self { frames: stack.frames_above(stack_pointer), frame: frame_pointer }
    }

    /// Tells whether a walk that goes no further has come to the outermost function.
    #[inline]
    pub const fn is_complete(&self) -> bool {
        // Before a thread's first function has a frame, there is none.
        self.frames.is_outermost(self.frame) || self.frame == 0
    }
}

impl Iterator for Walk {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let [caller, return_address] = self.frames.read(self.frame)?;
        self.frame = caller;
        Some(return_address)
    }
}

/// Returns how many of the words that a walk has read are return addresses, innermost first.
pub fn genuine(words: impl Iterator<Item = u64>) -> usize {
    words.take_while(|word| space::is_text(*word)).count()
}
