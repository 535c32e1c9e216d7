//! NMIs for CPUs that are parked. Case 53.
//!
//! A parked CPU samples nothing and halts. Two kinds of NMIs are sent to each, one at a time, while CPU 0 samples:
//! some with a message, which it has to claim, and some without, which nobody can explain, and which it has to count.
//! After each of them it has to halt again; so in the end each gets a piece of work, and must do it.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::percpu::{self, PerCpu};
use crate::arch::startup::wait_until;
use crate::nmi::mailbox::Message;
use crate::session::Session;
use crate::{info, report, smp};

/// Name of the experiment.
pub const NAME: &str = "parked";

/// NMIs of each kind.
const NMIS: u32 = 200;
/// Longest time for one, in ticks of the clock.
const TICKS_MAX: u64 = 1 << 34;

/// CPUs that have done their work. Written by each of them, read by CPU 0.
static WORKED: AtomicU32 = AtomicU32::new(0);

/// Sends the NMIs, and says what came of them.
pub(super) fn run(session: &mut Session) {
    session.start();
    for cpu in percpu::others() {
        for _ in 0..NMIS {
            wait_for_verdict(cpu, || cpu.send_nmi(Message::Nudge));
            wait_for_verdict(cpu, || cpu.apic.send_nmi(cpu.apic_id));
        }
        let work = |_: &'static PerCpu| {
            // Relaxed: read when the CPU is parked again.
            WORKED.fetch_add(1, Ordering::Relaxed);
        };
        smp::assign(cpu, TICKS_MAX, Box::new(work));
        wait_until(TICKS_MAX, || smp::is_parked(cpu.index));
    }
    session.stop();
    let (parked, worked) = (percpu::others().count(), WORKED.load(Ordering::Relaxed));
    info!(
        "parked: {NMIS} NMIs with a message and {NMIS} without to each of {parked} CPUs; {worked} still work"
    );
}

/// Sends one NMI and waits until it was judged: one that was only entered could find the next one's message.
fn wait_for_verdict(cpu: &PerCpu, send: impl FnOnce()) {
    let counters = &cpu.nmi.counters;
    let judged = || counters.handled.read().wrapping_add(counters.unknown.read());
    let before = judged();
    send();
    if !wait_until(TICKS_MAX, || judged() != before) {
        report::broken_setup(format_args!("CPU {} is parked and takes no NMI", cpu.index));
    }
}
