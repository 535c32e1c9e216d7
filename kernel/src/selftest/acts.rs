//! What one run of the handler does on request, besides its work: faults that end well, and faults that don't.

#![expect(unsafe_code, reason = "faults on purpose")]

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::arch::fallible::{self, AccessError};
use crate::arch::{fpu, layout, percpu, raise};
use crate::info;

/// Mapped by nothing.
const UNMAPPED: u64 = layout::HEAP - layout::PAGE_BYTES;
/// AMD's VM_HSAVE_PA: it is absent elsewhere, and where it is there its lower bits are reserved; either way the
/// write raises #GP (APM volume 2, "VM_HSAVE_PA MSR").
const ABSENT_MSR: u32 = 0xc001_0117;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// Raise a breakpoint, and then one whose handler sends a self-NMI.
    Break = 1,
    /// Touch an address that is mapped by nothing, at a place with a fixup.
    TouchUnmapped,
    /// Write an MSR that is not there, at a place with a fixup.
    WriteAbsentMsr,
    /// Raise a page fault and an NMI by one instruction, after a breakpoint has unmasked NMIs.
    FaultWithNmi,
    /// Read an address that is mapped by nothing: fatal.
    ReadUnmapped,
    /// Use up the stack: fatal.
    OverflowStack,
}

/// The act to do next, 0 for none. Written by the thread, cleared by the NMI.
static NEXT: AtomicU8 = AtomicU8::new(0);
/// Where [`Act::FaultWithNmi`] stores. Written by the thread.
static STORE_AT: AtomicU64 = AtomicU64::new(0);
/// Accesses that returned an error.
static ERRORS: AtomicU32 = AtomicU32::new(0);
/// In #DF: send a self-NMI. Written by the trigger.
static NMI_IN_DOUBLE_FAULT: AtomicBool = AtomicBool::new(false);

/// Lets the next run of the handler do it.
pub fn prepare(act: Act) {
    NEXT.store(act as u8, Ordering::Relaxed);
}

/// Lets the handler do it at once. A double fault that comes of it is interrupted by an NMI.
pub fn order(act: Act) {
    NMI_IN_DOUBLE_FAULT.store(true, Ordering::Relaxed);
    prepare(act);
    let cpu = percpu::current();
    cpu.nmi.send_self_nmi(cpu.apic);
}

/// Does what was asked for, once.
///
/// # Context
/// NMI.
pub fn perform() {
    let experiment = &percpu::current().nmi.experiment;
    match NEXT.swap(0, Ordering::Relaxed) {
        act if act == Act::Break as u8 => {
            raise::breakpoint();
            experiment.break_and_send();
        }
        // SAFETY: nothing is mapped there.
        act if act == Act::TouchUnmapped as u8 => note(unsafe { fallible::touch_word(UNMAPPED) }),
        act if act == Act::WriteAbsentMsr as u8 => {
            // SAFETY: the value is one that the register can't take.
            note(unsafe { fallible::write_msr(ABSENT_MSR, 1) });
        }
        act if act == Act::FaultWithNmi as u8 => {
            raise::breakpoint();
            experiment.expect_self_nmi();
            fault_with_nmi(STORE_AT.load(Ordering::Relaxed));
        }
        act if act == Act::ReadUnmapped as u8 => read_unmapped(),
        act if act == Act::OverflowStack as u8 => overflow_stack(),
        _ => {}
    }
}

/// Stores a state whose MXCSR is an NMI's message, half on the device at `address` and half on nothing.
pub fn fault_with_nmi(address: u64) {
    STORE_AT.store(address, Ordering::Relaxed);
    // SAFETY: the device takes the message and ignores words of other sizes.
    note(unsafe { fpu::save_at(address) });
}

/// Takes the count of accesses that returned an error.
pub fn take_errors() -> u32 {
    ERRORS.swap(0, Ordering::Relaxed)
}

/// Reads from an address that nothing maps: a page fault that nobody resolves.
pub fn read_unmapped() {
    // SAFETY: the read faults, and the fault is fatal.
    unsafe { ptr::read_volatile(UNMAPPED as *const u64) };
}

/// Calls itself until the stack is used up and its guard page is hit.
pub fn overflow_stack() {
    core::hint::black_box(recurse(0));
}

/// Uses up the stack of this thread; the double fault is interrupted by an NMI.
pub fn overflow_interrupted() {
    NMI_IN_DOUBLE_FAULT.store(true, Ordering::Relaxed);
    overflow_stack();
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    recurse(core::hint::black_box(depth) + 1) + 1
}

/// Sends an NMI into a double fault, and says whether it arrived.
///
/// # Context
/// The exception path, before the double fault is reported. Not inlined: it would widen the frame of every exception.
#[cold]
#[inline(never)]
pub fn interrupt_double_fault() {
    if !NMI_IN_DOUBLE_FAULT.swap(false, Ordering::Relaxed) {
        return;
    }
    let cpu = percpu::current();
    let before = cpu.nmi.snapshot();
    cpu.nmi.send_self_nmi(cpu.apic);
    let after = cpu.nmi.snapshot();
    info!(
        "NMIs in #DF: {} arrived, {} nested, {} runs",
        after.entries - before.entries,
        after.nested - before.nested,
        after.runs - before.runs
    );
}

fn note(result: Result<(), AccessError>) {
    if result.is_err() {
        ERRORS.fetch_add(1, Ordering::Relaxed);
    }
}
