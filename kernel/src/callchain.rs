//! Call chains by frame pointers.
//!
//! The kernel is built with frame pointers, so `[rbp]` is the caller's RBP and `[rbp + 8]` the return
//! address. The walk follows them upwards within the thread's stack, reads nothing outside of it, and
//! accepts only return addresses in the kernel's text; so a wrong pointer ends it and can do no harm. Where user
//! code entered the kernel, the walk goes on with its frames.
//! User code's frames lie anywhere and may be absent: there a read that faults ends the walk.
//!
//! A sample in the first or last instructions of a function, where RBP is still or again the caller's,
//! misses the function's direct caller: frame pointers can't tell.

use crate::arch::fallible;
use crate::arch::frame::IretFrame;
use crate::arch::layout::is_user;
use crate::memory::space;
use crate::memory::stack::StackRange;

/// Most return addresses in a chain.
pub const DEPTH_MAX: usize = 64;

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost function.
    Complete,
    /// Before that.
    Truncated(Cut),
}

/// Why a walk ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The chain is longer than a record.
    Depth,
    /// A frame pointer or return address that makes no sense.
    Pointer,
    /// A frame that is not mapped.
    Fault,
}

/// Hands the return addresses to `push`, innermost first: those of the kernel, and then those of the user code that
/// entered it, if any did.
///
/// # Context
/// Any, the NMI included. It never faults on a kernel stack; on a user's it may, and then the chain is truncated.
#[inline]
pub fn walk(interrupted: &IretFrame, frame_pointer: u64, mut push: impl FnMut(u64)) -> End {
    if interrupted.is_user() {
        return walk_user(interrupted.rsp, frame_pointer, DEPTH_MAX, push);
    }
    let Some(stack) = StackRange::of_thread(interrupted.rsp) else {
        return End::Truncated(Cut::Pointer);
    };
    let (mut lowest, mut frame) = (interrupted.rsp, frame_pointer);
    for depth in 0..DEPTH_MAX {
        let Some([caller, return_address]) = stack.read_pair(frame, lowest) else {
            return leave_stack(&stack, interrupted.rsp, frame, depth, push);
        };
        if !space::is_text(return_address) {
            // The outermost function of a thread was not called.
            return if return_address == 0 { End::Complete } else { End::Truncated(Cut::Pointer) };
        }
        push(return_address);
        // Frames lie ever higher on the stack: the walk can't go round in circles.
        (lowest, frame) = (frame + FRAME_BYTES, caller);
    }
    End::Truncated(Cut::Depth)
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
            walk_user(user.rsp, frame, DEPTH_MAX - depth - 1, push)
        }
        None if frame == 0 => End::Complete,
        None => End::Truncated(Cut::Pointer),
    }
}

/// Hands the return addresses of user code to `push`, innermost first, at most `depth_max`.
///
/// The frames are read in the address space in CR3, which is that of the interrupted code.
///
/// # Context
/// Any, the NMI included; may fault, see [`fallible::read_pair`].
pub fn walk_user(stack_pointer: u64, frame_pointer: u64, depth_max: usize, mut push: impl FnMut(u64)) -> End {
    let (mut lowest, mut frame) = (stack_pointer, frame_pointer);
    for _ in 0..depth_max.min(DEPTH_MAX) {
        if frame == 0 {
            return End::Complete;
        }
        let sensible = frame >= lowest && frame.is_multiple_of(WORD) && is_user(frame, FRAME_BYTES);
        if !sensible {
            return End::Truncated(Cut::Pointer);
        }
        let Ok([caller, return_address]) = fallible::read_user_pair(frame) else {
            return End::Truncated(Cut::Fault);
        };
        if return_address == 0 {
            return End::Complete;
        }
        if !is_user(return_address, 1) {
            return End::Truncated(Cut::Pointer);
        }
        push(return_address);
        (lowest, frame) = (frame + FRAME_BYTES, caller);
    }
    if frame == 0 { End::Complete } else { End::Truncated(Cut::Depth) }
}

const WORD: u64 = size_of::<u64>() as u64;
const FRAME_BYTES: u64 = size_of::<[u64; 2]>() as u64;
