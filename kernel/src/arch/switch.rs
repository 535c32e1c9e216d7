//! Switching between threads, and what a thread is made of while it does not run.
//!
//! A switch is one assembly routine that changes the stack, the address space and "current", in this order.
//! The data segment registers are the user's business and are kept beside it: no kernel code looks at them.

#![expect(unsafe_code, reason = "changes stacks and segment registers")]

use core::arch::global_asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use x86_64::instructions::segmentation::{DS, ES, FS, GS, Segment};
use x86_64::structures::gdt::SegmentSelector;

use super::frame::{IretFrame, WORD};
use super::gdt::{USER_CODE, USER_DATA};
use crate::memory::stack::StackRange;

global_asm!(include_str!("switch.S"));

unsafe extern "C" {
    safe static thread_start_user: u8;
    fn switch_to(save_rsp: *mut u64, rsp: u64, root: u64, current: *const AtomicU32, id: u32);
}

#[cfg(feature = "selftest")]
unsafe extern "C" {
    safe static switch_to_end: u8;
}

/// Returns where the switch begins and ends.
#[cfg(feature = "selftest")]
pub fn window() -> (u64, u64) {
    (switch_to as *const () as u64, (&raw const switch_to_end) as u64)
}

/// The number of the thread that runs, as the switch leaves it; thread context only.
static CURRENT: AtomicU32 = AtomicU32::new(0);

/// Returns the number of the thread that runs this.
///
/// # Context
/// Thread. In the middle of a switch this is still the old one: the NMI path may not ask.
pub fn current() -> u32 {
    CURRENT.load(Ordering::Relaxed)
}

/// What [`switch_to`] leaves on the stack of a thread that does not run, lowest address first.
#[repr(C)]
struct Suspended {
    r15_to_r12: [u64; 4],
    rbp: u64,
    rbx: u64,
    return_address: u64,
}

const _: () =
    assert!(size_of::<Suspended>() == 7 * WORD, "the switch pushes six words above its return address");

/// The first stack of a user thread, lowest address first.
#[repr(C)]
struct NewThread {
    suspended: Suspended,
    user: IretFrame,
}

/// Where to go, for [`switch`].
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Number of the thread.
    pub id: u32,
    /// RSP with which it was suspended.
    pub rsp: u64,
    /// Its address space, as CR3 has it.
    pub root: u64,
}

/// Prepares the stack of a thread that will start in user mode, at `rip` and on `rsp`. Returns its RSP.
///
/// The frame has the only two selectors that a process ever starts with, so that no `iret` to it can fault.
///
/// # Safety
/// Nobody uses the stack.
pub unsafe fn prepare_user(stack: &StackRange, rip: u64, rsp: u64) -> u64 {
    const INTERRUPTS_ENABLED: u64 = 1 << 9;
    const RFLAGS_RESERVED: u64 = 1 << 1;

    let user = IretFrame {
        rip,
        cs: u64::from(USER_CODE),
        rflags: INTERRUPTS_ENABLED | RFLAGS_RESERVED,
        rsp,
        ss: u64::from(USER_DATA),
    };
    let return_address = (&raw const thread_start_user) as u64;
    let suspended = Suspended { r15_to_r12: [0; 4], rbp: 0, rbx: 0, return_address };
    let place = stack.top - size_of::<NewThread>() as u64;
    // SAFETY: (1) the words lie at the top of the mapped stack; (2) (caller) nobody uses it.
    unsafe { ptr::write(place as *mut NewThread, NewThread { suspended, user }) };
    place
}

/// Spoils the frame by which a process starts: its CS, its SS, or its RIP, as the stack's address decides.
#[cfg(feature = "selftest")]
pub fn spoil_user(stack: &StackRange) {
    /// A system segment.
    const BAD: u64 = 0x33;
    const NOT_CANONICAL: u64 = 1 << 63;
    let frame = stack.first_frame() as *mut IretFrame;
    // SAFETY: the thread has not started, so nobody uses the frame.
    let frame = unsafe { &mut *frame };
    match stack.top / 0x2_0000 % 3 {
        0 => frame.cs = BAD,
        1 => frame.ss = BAD,
        _ => frame.rip = NOT_CANONICAL,
    }
}

/// Continues with another thread; returns when somebody switches back.
///
/// # Safety
/// Interrupts are disabled. `target` is a thread that is suspended, whose stack and address space live as long as it does,
/// and `save_rsp` belongs to the thread that runs now.
pub unsafe fn switch(save_rsp: *mut u64, target: &Target) {
    let selectors = Selectors::read();
    // SAFETY: (caller); the assembly gives back every register that a call keeps.
    unsafe { switch_to(save_rsp, target.rsp, target.root, &raw const CURRENT, target.id) };
    selectors.write();
}

/// The data segment selectors, which a user may load with what the table offers to ring 3.
struct Selectors {
    ds: SegmentSelector,
    es: SegmentSelector,
    fs: SegmentSelector,
    gs: SegmentSelector,
}

impl Selectors {
    fn read() -> Self {
        Self { ds: DS::get_reg(), es: ES::get_reg(), fs: FS::get_reg(), gs: GS::get_reg() }
    }

    /// Loads the selectors. They were loaded before, and the table never changes, so none can fault.
    fn write(&self) {
        // SAFETY: no code of the kernel uses a segment's base; GS is loaded as the user's, and the base that
        // SWAPGS brings is another register.
        unsafe { DS::set_reg(self.ds) };
        // SAFETY: as for DS.
        unsafe { ES::set_reg(self.es) };
        // SAFETY: as for DS.
        unsafe { FS::set_reg(self.fs) };
        // SAFETY: as for DS.
        unsafe { GS::set_reg(self.gs) };
    }
}
