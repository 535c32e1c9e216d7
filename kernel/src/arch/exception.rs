//! CPU exceptions: one path for all of them.
//!
//! What user code raises ends its process. In the kernel, a page fault is offered to [`memory::fault`](crate::memory::fault) first. A fault at an instruction
//! that is listed as fallible then continues at its fixup with an error code in RAX. Whatever is left
//! is fatal: it is reported with its registers and ends the machine.

#![expect(unsafe_code, reason = "declares the stub table that the assembly defines")]

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;

use super::fallible::{self, AccessError};
use super::frame::{CallerSaved, IretFrame, WORD};
use super::percpu;
use crate::memory::fault::{self, PageFault, Resolution};
use crate::{process, report};

const DEBUG: u64 = 1;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

global_asm!(
    include_str!("frame.S"),
    include_str!("exception.S"),
    handle_exception = sym handle_exception,
    WORD = const WORD,
    VECTOR_TO_INTERRUPTED = const offset_of!(TrapFrame, interrupted) - offset_of!(TrapFrame, vector),
    FRAME_TO_VECTOR = const offset_of!(TrapFrame, vector),
    FRAME_TO_RIP = const offset_of!(TrapFrame, interrupted.rip),
    FRAME_TO_RFLAGS = const offset_of!(TrapFrame, interrupted.rflags),
    FRAME_TO_RSP = const offset_of!(TrapFrame, interrupted.rsp),
);

/// What the exception entry leaves on the stack, lowest address first.
#[repr(C)]
pub struct TrapFrame {
    saved: CallerSaved,
    vector: u64,
    /// The error code, 0 for vectors without one.
    pub error: u64,
    /// The interrupted code.
    pub interrupted: IretFrame,
}

const _: () = assert!(offset_of!(TrapFrame, error) == offset_of!(TrapFrame, vector) + WORD);
const _: () =
    assert!(size_of::<TrapFrame>().is_multiple_of(16), "the handler is called with an aligned stack");

unsafe extern "C" {
    safe static exception_stubs: [u64; 32];
}

/// Returns the entry of an exception vector below 32, other than 2.
pub fn stub(vector: usize) -> VirtAddr {
    VirtAddr::new(exception_stubs[vector])
}

/// Handles every exception but the NMI, and tells whether to return without `iret`.
///
/// # Context
/// Any, the NMI included; called by the stubs only.
extern "C" fn handle_exception(frame: &mut TrapFrame) -> bool {
    resolve(frame);
    // Vectors with a stack of their own always return by `iret`: their frame tells nothing of the
    // interrupted stack's slack.
    let on_own_stack = matches!(frame.vector, DEBUG | DOUBLE_FAULT | MACHINE_CHECK);
    !on_own_stack && percpu::find().is_some_and(|cpu| cpu.nmi.returns_masked())
}

fn resolve(frame: &mut TrapFrame) {
    // Nothing before this may fault. An NMI may come first, but gives CR2 back (case 19).
    let address = if frame.vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    #[cfg(feature = "selftest")]
    if crate::selftest::exceptions::take(frame.vector) {
        return;
    }
    #[cfg(feature = "selftest")]
    crate::selftest::exit_window::take(frame.vector);
    #[cfg(feature = "selftest")]
    if frame.vector == DOUBLE_FAULT {
        crate::selftest::acts::interrupt_double_fault();
    }
    if frame.interrupted.is_user() && !matches!(frame.vector, DOUBLE_FAULT | MACHINE_CHECK) {
        process::raised(frame.vector, frame.error, address, &frame.interrupted);
    }
    let error = match frame.vector {
        PAGE_FAULT => {
            let fault = PageFault { address, error: frame.error, rip: frame.interrupted.rip };
            match fault::resolve(&fault) {
                Resolution::Synced | Resolution::FirstTouch { .. } | Resolution::Raced { .. } => return,
                Resolution::NoFrame { .. } => AccessError::NoFrame,
                Resolution::BadAddress => AccessError::Fault,
            }
        }
        _ => AccessError::Fault,
    };
    match fallible::fixup(frame.interrupted.rip) {
        Some(continuation) => {
            frame.interrupted.rip = continuation;
            frame.saved.rax = error.code();
        }
        None => report::exception(frame.vector, frame.error, Cr2::read_raw(), &frame.interrupted),
    }
}
