//! Work for another CPU: one piece at a time, which it does in thread context.
//!
//! A CPU without work halts, and an NMI IPI wakes it. An NMI that comes between its last look and its `hlt` wakes
//! nobody, so whoever has work for it sends another one until it has begun.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::cpu;
use crate::arch::percpu::{CPUS_MAX, PerCpu};
use crate::arch::startup::wait_until;
use crate::lock::Mutex;
use crate::nmi::mailbox::Message;
use crate::report;

/// A piece of work.
pub type Work = Box<dyn FnOnce(&'static PerCpu) + Send>;

/// What the CPUs are assigned to, by number.
static ASSIGNMENTS: [Assignment; CPUS_MAX as usize] = [const { Assignment::new() }; CPUS_MAX as usize];

/// What one CPU is assigned to.
#[repr(align(128))]
struct Assignment {
    /// [`ABSENT`] to [`BUSY`]. Written by CPU 0 from parked to assigned, and by its own CPU for all else.
    state: AtomicU32,
    work: Mutex<Option<Work>>,
}

/// The CPU has not started.
const ABSENT: u32 = 0;
/// It has nothing to do.
const PARKED: u32 = 1;
/// There is work that it has not noticed.
const ASSIGNED: u32 = 2;
/// It works.
const BUSY: u32 = 3;

impl Assignment {
    const fn new() -> Self {
        Self { state: AtomicU32::new(ABSENT), work: Mutex::new(None) }
    }
}

/// Gives a parked CPU something to do and returns when it has begun.
///
/// # Context
/// CPU 0, thread; the CPU [is parked](is_parked).
pub fn assign(cpu: &PerCpu, tsc_hz: u64, work: Work) {
    const WAKES_MAX: u32 = 1000;
    let Assignment { state, work: slot } = &ASSIGNMENTS[usize::from(cpu.index)];
    *slot.lock() = Some(work);
    // Release: the work is there.
    state.store(ASSIGNED, Ordering::Release);
    let has_begun = || state.load(Ordering::Acquire) != ASSIGNED;
    for _ in 0..WAKES_MAX {
        cpu.send_nmi(Message::Nudge);
        if wait_until(tsc_hz / 1000, has_begun) {
            return;
        }
    }
    report::broken_setup(format_args!("CPU {} is parked and does not wake up", cpu.index));
}

/// Tells whether a CPU runs and has nothing to do.
pub fn is_parked(index: u16) -> bool {
    // Acquire: what its last work has left is seen.
    ASSIGNMENTS[usize::from(index)].state.load(Ordering::Acquire) == PARKED
}

/// Does what there is to do, for ever.
pub(super) fn work_for_ever(cpu: &'static PerCpu) -> ! {
    let Assignment { state, work } = &ASSIGNMENTS[usize::from(cpu.index)];
    loop {
        // Release: what the work has left comes first.
        state.store(PARKED, Ordering::Release);
        while state.load(Ordering::Acquire) != ASSIGNED {
            cpu.nmi.note_halt();
            cpu::wait_for_nmi();
        }
        state.store(BUSY, Ordering::Release);
        if let Some(work) = work.lock().take() {
            work(cpu);
        }
    }
}
