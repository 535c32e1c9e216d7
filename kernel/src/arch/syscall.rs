//! SYSCALL and SYSRET.
//!
//! The calls themselves are [`process::calls`](crate::process::calls).

#![expect(unsafe_code, reason = "sets the registers of SYSCALL")]

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::VirtAddr;
use x86_64::registers::control::{Efer, EferFlags};
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::gdt::SegmentSelector;

use super::frame::{CallerSaved, IretFrame};
use super::gdt::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use super::percpu::{SYSCALL_STACK, SyscallStack};
use crate::memory::space::USER_END;
use crate::process::calls::handle_syscall;

/// What the entry leaves at the top of the thread's kernel stack, lowest address first.
#[repr(C)]
pub struct SyscallFrame {
    /// The registers that a call may change; RAX becomes the result.
    pub saved: CallerSaved,
    /// The caller, as an interrupt would have left it.
    pub interrupted: IretFrame,
}

const _: () =
    assert!(size_of::<SyscallFrame>().is_multiple_of(16), "the handler is called with an aligned stack");
const _: () =
    assert!(USER_END < 1 << 47, "no SYSCALL ends right below the first address that is not canonical");

global_asm!(
    include_str!("frame.S"),
    include_str!("syscall.S"),
    handle_syscall = sym handle_syscall,
    USER_RSP = const SYSCALL_STACK + offset_of!(SyscallStack, user_rsp),
    STACK_TOP = const SYSCALL_STACK + offset_of!(SyscallStack, top),
    USER_DATA = const USER_DATA,
    USER_CODE = const USER_CODE,
    FRAME_TO_RIP = const offset_of!(IretFrame, rip),
    FRAME_TO_RFLAGS = const offset_of!(IretFrame, rflags),
    FRAME_TO_RSP = const offset_of!(IretFrame, rsp),
);

unsafe extern "C" {
    safe static syscall_entry: u8;
}

#[cfg(feature = "selftest")]
unsafe extern "C" {
    safe static syscall_end: u8;
}

/// Returns where entry and exit begin and end.
#[cfg(feature = "selftest")]
pub fn window() -> (u64, u64) {
    ((&raw const syscall_entry) as u64, (&raw const syscall_end) as u64)
}

/// Opens the entry on this CPU.
///
/// # Panics
/// If the segments are not in the order that SYSRET wants.
pub fn open() {
    let [user_code, user_data, code, data] =
        [USER_CODE, USER_DATA, KERNEL_CODE, KERNEL_DATA].map(SegmentSelector);
    Star::write(user_code, user_data, code, data).expect("the table has the order of SYSRET");
    LStar::write(VirtAddr::from_ptr(&raw const syscall_entry));
    // What must not reach the kernel: interrupts on a user's RSP, steps, a direction, a nested task, alignment checks.
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::NESTED_TASK
            | RFlags::ALIGNMENT_CHECK
            | RFlags::RESUME_FLAG,
    );
    // SAFETY: the registers above are set, so SYSCALL has somewhere to go.
    unsafe { Efer::update(|flags| flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS)) };
}
