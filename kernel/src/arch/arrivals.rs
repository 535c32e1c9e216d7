//! What each arrival of an NMI interrupted, written down before the entry sees it.
//!
//! The frame that the CPU pushed for an arrival is overwritten by the next one, and an entry may serve two
//! arrivals by one run. So a stub at vector 2 takes a copy of each frame's RIP, and of the number of runs that
//! had begun by then, and jumps to the entry that stood there. The entry's own instructions stay the same, and so
//! do the windows in which NMIs reach it: they are masked in all of the stub, which only delays it by
//! [`INSTRUCTIONS`].
//!
//! One log for the whole machine: the self-test that uses it has one CPU.

#![expect(unsafe_code, reason = "installs a stub at vector 2")]

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use x86_64::VirtAddr;

use super::frame::{IretFrame, WORD};
use super::idt;

/// Instructions from an arrival to the first one of its entry.
pub const INSTRUCTIONS: u32 = 18;
/// Arrivals that have a place of their own.
pub const ARRIVALS_MAX: usize = 4;

global_asm!(
    include_str!("arrivals.S"),
    WORD = const WORD,
    INSTRUCTIONS = const INSTRUCTIONS,
    LOG = sym LOG,
    ENTRY = const offset_of!(Log, entry),
    RUNS = const offset_of!(Log, runs),
    COUNT = const offset_of!(Log, count),
    ARRIVALS = const offset_of!(Log, arrivals),
    LAST = const ARRIVALS_MAX - 1,
    ARRIVAL_SHIFT = const size_of::<Arrival>().trailing_zeros(),
    ARRIVAL_RIP = const offset_of!(Arrival, rip),
    ARRIVAL_RUNS = const offset_of!(Arrival, runs),
    FRAME_RIP = const offset_of!(IretFrame, rip),
);

unsafe extern "C" {
    safe static arrival_recorder: u8;
}

/// Written by the stub, but for the first two, which the thread writes while no NMI can arrive; read by the
/// thread. All on one CPU, so every access is `Relaxed`.
#[repr(C)]
struct Log {
    /// The entry behind the stub.
    entry: AtomicU64,
    /// The number of runs that have begun.
    runs: AtomicPtr<AtomicU32>,
    /// Arrivals since the log was cleared.
    count: AtomicU64,
    arrivals: [Arrival; ARRIVALS_MAX],
}

#[repr(C)]
struct Arrival {
    rip: AtomicU64,
    runs: AtomicU64,
}

const _: () = assert!(size_of::<Arrival>().is_power_of_two(), "the assembly shifts");

static LOG: Log = Log {
    entry: AtomicU64::new(0),
    runs: AtomicPtr::new(core::ptr::null_mut()),
    count: AtomicU64::new(0),
    arrivals: [const { Arrival { rip: AtomicU64::new(0), runs: AtomicU64::new(0) } }; ARRIVALS_MAX],
};

/// Puts the stub before the entry that is installed. `runs` counts the runs of the handler.
///
/// # Context
/// Thread, once, while no NMI can arrive.
pub fn install(runs: &'static AtomicU32) {
    LOG.runs.store(core::ptr::from_ref(runs).cast_mut(), Ordering::Relaxed);
    LOG.entry.store(idt::nmi_entry().as_u64(), Ordering::Relaxed);
    // SAFETY: the stub leaves everything to the entry that was there as the CPU left it; (caller) no NMI.
    unsafe { idt::install_nmi(VirtAddr::from_ptr(&raw const arrival_recorder)) };
}

/// Forgets all arrivals.
pub fn clear() {
    LOG.count.store(0, Ordering::Relaxed);
}

/// Returns what the arrival with this number, from 0, interrupted, and the runs that had begun; none if there
/// was no such arrival. Of those beyond [`ARRIVALS_MAX`] only the last one is known, as the last number.
pub fn get(number: usize) -> Option<(u64, u64)> {
    let arrival = LOG.arrivals.get(number)?;
    let has_come = LOG.count.load(Ordering::Relaxed) > number as u64;
    has_come.then(|| (arrival.rip.load(Ordering::Relaxed), arrival.runs.load(Ordering::Relaxed)))
}
