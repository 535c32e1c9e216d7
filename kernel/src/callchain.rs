//! Call chains by frame pointers.
//!
//! The kernel is built with frame pointers, so `[rbp]` is the caller's RBP and `[rbp + 8]` the return
//! address. The walk follows them upwards within the thread's stack, reads nothing outside of it, and
//! accepts only return addresses in the kernel's text; so a wrong pointer ends it and can do no harm.
//!
//! A sample in the first or last instructions of a function, where RBP is still or again the caller's,
//! misses the function's direct caller: frame pointers can't tell.

use crate::memory::space;
use crate::memory::stack::StackRange;

/// Most return addresses in a chain.
pub const DEPTH_MAX: usize = 64;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost function.
    Complete,
    /// At the depth limit, or at a pointer that makes no sense.
    Truncated,
}

/// Hands the return addresses to `push`, innermost first.
///
/// # Context
/// Any, the NMI included; never faults.
#[inline]
pub fn walk(stack: &StackRange, stack_pointer: u64, frame_pointer: u64, mut push: impl FnMut(u64)) -> End {
    let (mut lowest, mut frame) = (stack_pointer, frame_pointer);
    for _ in 0..DEPTH_MAX {
        if frame == 0 {
            return End::Complete;
        }
        // Frames lie ever higher on the stack: the walk can't go round in circles.
        let Some((caller, return_address)) = read_frame(stack, frame).filter(|_| frame >= lowest) else {
            return End::Truncated;
        };
        push(return_address);
        (lowest, frame) = (frame + FRAME_BYTES, caller);
    }
    End::Truncated
}

const WORD_BYTES: u64 = size_of::<u64>() as u64;
const FRAME_BYTES: u64 = 2 * WORD_BYTES;

#[inline]
fn read_frame(stack: &StackRange, frame: u64) -> Option<(u64, u64)> {
    let return_address = stack.read_word(frame.wrapping_add(WORD_BYTES))?;
    let caller = stack.read_word(frame)?;
    space::is_text(return_address).then_some((caller, return_address))
}
