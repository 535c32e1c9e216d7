//! NMIs while another CPU starts: case 41.
//!
//! From the moment at which its area can be found, anybody may send it an NMI: whoever has last words does. So after each
//! step of its setup from then on the CPU waits until it has taken one that CPU 0 has sent, and then sends one to itself.
//! And another one races with everything: CPU 0 sends it the moment that it sees the area.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nmiprof_wire::{CaseReport, Failure, Frame};

use crate::arch::percpu::{self, PerCpu};
use crate::nmi::mailbox::Message;
use crate::{info, stream};

/// Name of the self-test.
pub const NAME: &str = "starting";

/// Steps of a start, from the area on.
const STEPS: u64 = 5;

/// Written by the trigger.
static ACTIVE: AtomicBool = AtomicBool::new(false);
/// CPUs that have waited at a step, and steps at which CPU 0 has sent. Written by the CPU that starts, and by CPU 0.
static WAITING: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
/// NMIs that a CPU took at a step, from CPU 0 and from itself.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Areas that were seen at once.
static GREETED: AtomicU64 = AtomicU64::new(0);

/// Begins to send NMIs to CPUs that start.
pub fn prepare() {
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Waits at a step of this CPU's start for an NMI of CPU 0's, and takes one of its own.
///
/// # Context
/// A CPU that starts, after its area was installed.
pub fn step() {
    let Some(cpu) = percpu::find() else { return };
    if !ACTIVE.load(Ordering::Relaxed) || cpu.index == 0 {
        return;
    }
    let taken = |nmi_sent: &dyn Fn()| {
        let before = cpu.nmi.counters.runs.read();
        nmi_sent();
        while cpu.nmi.counters.runs.read() == before {
            spin_loop();
        }
        TAKEN.fetch_add(1, Ordering::Relaxed);
    };
    taken(&|| {
        WAITING.fetch_add(1, Ordering::Release);
    });
    taken(&|| cpu.nmi.send_self_nmi(cpu.apic));
}

/// Sends an NMI to a CPU that starts, if it waits for one, or if its area has just appeared.
///
/// # Context
/// CPU 0, while it waits for that CPU.
pub fn disturb(index: u16) {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    let Some(cpu) = percpu::of(index) else { return };
    if GREETED.load(Ordering::Relaxed) < u64::from(index) {
        GREETED.store(index.into(), Ordering::Relaxed);
        cpu.send_nmi(Message::Nudge);
    }
    if WAITING.load(Ordering::Acquire) > SENT.load(Ordering::Relaxed) {
        SENT.fetch_add(1, Ordering::Relaxed);
        cpu.send_nmi(Message::Nudge);
    }
}

/// Tells what came of it.
pub fn run() {
    let cpus = percpu::others().count() as u64;
    let taken = TAKEN.load(Ordering::Relaxed);
    let counts = |cpu: &'static PerCpu| cpu.nmi.snapshot();
    let unknown: u64 = percpu::others().map(|cpu| counts(cpu).unknown).sum();
    let holds = cpus > 0 && taken == 2 * STEPS * cpus && unknown == 0;
    info!("starting: {cpus} CPUs took {taken} NMIs at {STEPS} steps of each start; {unknown} unknown");
    let failures = if holds { 0 } else { Failure::Live.bit() };
    stream::send(&Frame::Case(CaseReport { case: 41, hits: taken, failures, ..CaseReport::default() }));
}
