//! Interrupts that are no NMIs: the tick, the serial line, and those that were raised and withdrawn.

#![expect(unsafe_code, reason = "names symbols of the assembly")]

use core::arch::global_asm;

use x86_64::VirtAddr;

use super::percpu::{self, PerCpu};
use super::{pic, serial, tick};
use crate::{process, stream, thread};

/// Vectors of the tick: of the interval timer, and of the real-time clock.
pub const TICK_VECTORS: [u8; 2] = [0x20, 0x28];
/// Vector of the serial line.
pub const SERIAL_VECTOR: u8 = 0x20 + serial::LINE;
/// Vectors of interrupts that turned out to be none: of the legacy controllers and of the local APIC.
pub const SPURIOUS_VECTORS: [u8; 3] = [0x27, 0x2f, 0xff];

/// What the ABI asks of RSP at a call.
const STACK_ALIGN: usize = 16;

global_asm!(
    include_str!("frame.S"),
    include_str!("interrupt.S"),
    handle_tick = sym handle_tick,
    handle_serial = sym handle_serial,
    return_failed = sym return_failed,
    STACK_ALIGN = const STACK_ALIGN,
);

unsafe extern "C" {
    safe static interrupt_tick: u8;
    safe static interrupt_serial: u8;
    safe static interrupt_spurious: u8;
}

#[cfg(feature = "selftest")]
unsafe extern "C" {
    safe static interrupt_iretq_end: u8;
}

/// Returns where entry and exit of the tick begin and end.
#[cfg(feature = "selftest")]
pub fn window() -> (u64, u64) {
    ((&raw const interrupt_tick) as u64, (&raw const interrupt_iretq_end) as u64)
}

/// Returns the entry of the tick.
pub fn tick_entry() -> VirtAddr {
    VirtAddr::from_ptr(&raw const interrupt_tick)
}

/// Returns the entry of the serial line.
pub fn serial_entry() -> VirtAddr {
    VirtAddr::from_ptr(&raw const interrupt_serial)
}

/// Returns the entry of spurious interrupts.
pub fn spurious_entry() -> VirtAddr {
    VirtAddr::from_ptr(&raw const interrupt_spurious)
}

/// Handles a tick: maybe another thread runs then, and this returns when it is this one's turn again.
///
/// # Context
/// Interrupts disabled, on the kernel stack of the interrupted thread; called by the assembly only.
extern "C" fn handle_tick() {
    tick::acknowledge();
    if let Some(cpu) = percpu::find() {
        cpu.nmi.tick(cpu.apic);
    }
    percpu::others().for_each(PerCpu::tick_from_afar);
    thread::tick();
}

/// Handles an interrupt of the serial line: the interrupted thread goes on after it.
///
/// # Context
/// Interrupts disabled, on the kernel stack of the interrupted thread; called by the assembly only.
extern "C" fn handle_serial() {
    // First: the next edge may come while bytes are handed out.
    pic::end_of_interrupt(serial::LINE);
    stream::interrupt();
}

/// Ends a process that can't be returned to (case 31).
///
/// # Context
/// Interrupts disabled, on the kernel stack of the process; called by the assembly only.
extern "C" fn return_failed() -> ! {
    process::return_failed()
}
