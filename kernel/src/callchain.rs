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
pub fn walk(stack_pointer: u64, frame_pointer: u64, mut push: impl FnMut(u64)) -> End {
    let Some(stack) = StackRange::of_thread(stack_pointer) else {
        return End::Truncated;
    };
    let (mut lowest, mut frame) = (stack_pointer, frame_pointer);
    for _ in 0..DEPTH_MAX {
        if frame == 0 {
            return End::Complete;
        }
        let Some([caller, return_address]) = stack.read_pair(frame, lowest) else {
            return End::Truncated;
        };
        if !space::is_text(return_address) {
            // The outermost function of a thread was not called.
            return if return_address == 0 { End::Complete } else { End::Truncated };
        }
        push(return_address);
        // Frames lie ever higher on the stack: the walk can't go round in circles.
        (lowest, frame) = (frame + FRAME_BYTES, caller);
    }
    End::Truncated
}

const FRAME_BYTES: u64 = size_of::<[u64; 2]>() as u64;
