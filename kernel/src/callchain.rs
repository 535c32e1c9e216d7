//! Call chains by frame pointers.
//!
//! The kernel is built with frame pointers, so `[rbp]` is the caller's RBP and `[rbp + 8]` the return
//! address. The walk in the NMI follows them upwards within the thread's stack and reads nothing outside of
//! it, so a wrong pointer ends it and can do no harm. Whether what it read are return addresses at all is
//! asked [later](genuine), in the drain: that would be a quarter of the walk. Where user code entered the
//! kernel, the walk goes on with its frames.
//! User code's frames lie anywhere and may be absent: there a read that faults ends the walk.
//!
//! A sample in the first or last instructions of a function, where RBP is still or again the caller's,
//! misses the function's direct caller: frame pointers can't tell.

use crate::arch::fallible;
use crate::arch::frame::IretFrame;
use crate::arch::layout::is_user;
use crate::memory::space;
use crate::memory::stack::{Frames, StackRange};

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
    /// Starts from the registers of interrupted code that should be on the stack of `frames`.
    #[inline]
    pub fn new(frames: Frames, stack_pointer: u64, frame_pointer: u64) -> Self {
        Self { frames: frames.above(stack_pointer), frame: frame_pointer }
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

/// Returns how many of the words that a walk has read are return addresses, innermost first; with `user`, those of
/// user code as well.
pub fn genuine(words: impl Iterator<Item = u64>, user: bool) -> usize {
    words.take_while(|word| space::is_text(*word) || (user && is_user(*word, 1))).count()
}

/// What a walk over the kernel's frames and those of user code found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// How it ended.
    pub end: End,
    /// Whether it came to user code, or began there.
    pub user: bool,
}

impl Walked {
    const fn in_kernel(end: End) -> Self {
        Self { end, user: false }
    }

    const fn in_user(end: End) -> Self {
        Self { end, user: true }
    }
}

/// Hands the return addresses of interrupted code to `push`, innermost first, at most `depth_max`: those of the
/// kernel, and then the user code that entered it, if any did.
///
/// # Context
/// Any, the NMI included; may fault, as [`walk_user`].
pub fn walk(
    interrupted: &IretFrame,
    frame_pointer: u64,
    depth_max: usize,
    mut push: impl FnMut(u64),
) -> Walked {
    if interrupted.is_user() {
        return Walked::in_user(walk_user(interrupted.rsp, frame_pointer, depth_max, push));
    }
    let Some(stack) = StackRange::of_thread(interrupted.rsp) else {
        return Walked::in_kernel(End::Truncated(Cut::Pointer));
    };
    let mut walk = Walk::new(stack.frames(), interrupted.rsp, frame_pointer);
    let mut depth = 0;
    while depth < depth_max {
        let Some(address) = walk.next() else { break };
        push(address);
        depth += 1;
    }
    if walk.is_complete() {
        return Walked::in_kernel(End::Complete);
    }
    let Some(depth_left) = (depth_max - depth).checked_sub(1) else {
        return Walked::in_kernel(End::Truncated(Cut::Depth));
    };
    match stack.entered_from(interrupted.rsp) {
        Some(user) => {
            push(user.rip);
            Walked::in_user(walk_user(user.rsp, walk.frame, depth_left, push))
        }
        None => Walked::in_kernel(End::Truncated(Cut::Pointer)),
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
