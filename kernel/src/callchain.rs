//! Call chains by frame pointers.
//!
//! The kernel is built with frame pointers, so `[rbp]` is the caller's RBP and `[rbp + 8]` the return
//! address. The walk follows them upwards within the thread's stack, reads nothing outside of it, and
//! accepts only return addresses in the kernel's text; so a wrong pointer ends it and can do no harm. Where user
//! code entered the kernel, the walk goes on with its frames, which it reads in a way that may fail.
//!
//! A sample in the first or last instructions of a function, where RBP is still or again the caller's,
//! misses the function's direct caller: frame pointers can't tell.

use crate::arch::fallible;
use crate::arch::frame::IretFrame;
use crate::memory::space::{self, USER_END};
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

/// Hands the return addresses to `push`, innermost first: those of the kernel, and then those of the user code that
/// entered it, if any did.
///
/// # Context
/// Any, the NMI included. It never faults on a kernel stack; on a user's it may, and then the chain is truncated.
#[inline]
pub fn walk(interrupted: &IretFrame, frame_pointer: u64, mut push: impl FnMut(u64)) -> End {
    if interrupted.is_user() {
        return walk_user(interrupted.rsp, frame_pointer, 0, push);
    }
    let Some(stack) = StackRange::of_thread(interrupted.rsp) else {
        return End::Truncated;
    };
    let (mut lowest, mut frame) = (interrupted.rsp, frame_pointer);
    for depth in 0..DEPTH_MAX {
        let Some([caller, return_address]) = stack.read_pair(frame, lowest) else {
            return leave_stack(&stack, interrupted.rsp, frame, depth, push);
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

/// Goes on from a frame pointer that is not of the kernel's stack: it is that of the user code that entered the
/// kernel, or the end.
#[cold]
fn leave_stack(
    stack: &StackRange,
    stack_pointer: u64,
    frame: u64,
    depth: usize,
    mut push: impl FnMut(u64),
) -> End {
    match stack.entered_from(stack_pointer) {
        Some(user) => {
            push(user.rip);
            walk_user(user.rsp, frame, depth + 1, push)
        }
        None if frame == 0 => End::Complete,
        None => End::Truncated,
    }
}

/// Walks a user's stack: nothing about it can be relied upon, so each frame is read by an access that may fail.
fn walk_user(mut lowest: u64, mut frame: u64, depth: usize, mut push: impl FnMut(u64)) -> End {
    for _ in depth..DEPTH_MAX {
        if frame == 0 {
            return End::Complete;
        }
        if frame < lowest || frame >= USER_END || !frame.is_multiple_of(align_of::<u64>() as u64) {
            return End::Truncated;
        }
        match fallible::read_pair(frame) {
            Ok([_, 0]) => return End::Complete,
            Ok([caller, return_address]) if return_address < USER_END => {
                push(return_address);
                (lowest, frame) = (frame + FRAME_BYTES, caller);
            }
            _ => return End::Truncated,
        }
    }
    End::Truncated
}

const FRAME_BYTES: u64 = size_of::<[u64; 2]>() as u64;
