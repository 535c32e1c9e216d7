//! The watchdog of an experiment: an NMI long after everything else.
//!
//! A broken entry may go round in circles without ever returning. As long as NMIs get in and reach the
//! handler, the watchdog's ends that.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nmiprof_pmu::CountdownTimer;

use crate::arch::percpu;

/// Ticks from the last claim to the watchdog's NMI: more than everything that is still to come.
const TICKS: u32 = 1 << 18;

/// The timer, when no event is expected from it any more.
///
/// Reset by the thread while no NMI can arrive; else written by runs of the handler, one at a time; so every
/// access is `Relaxed`.
#[derive(Default)]
pub(super) struct Watchdog {
    armed: AtomicBool,
    ended: AtomicBool,
    /// Interrupted address of the last arrival when the watchdog was armed.
    rip: AtomicU64,
}

impl Watchdog {
    /// Forgets the experiment before.
    pub(super) fn reset(&self) {
        self.armed.store(false, Ordering::Relaxed);
        self.ended.store(false, Ordering::Relaxed);
    }

    /// Arms it, once.
    ///
    /// # Context
    /// NMI; nothing else uses the timer.
    pub(super) fn arm(&self) {
        if self.armed.load(Ordering::Relaxed) {
            return;
        }
        let cpu = percpu::current();
        self.rip.store(cpu.nmi.stack().last_arrival().rip, Ordering::Relaxed);
        self.armed.store(true, Ordering::Relaxed);
        cpu.apic.arm(TICKS);
    }

    /// Tells whether it has run out, and remembers that.
    ///
    /// # Context
    /// NMI.
    pub(super) fn bites(&self) -> bool {
        let ended = self.armed.load(Ordering::Relaxed) && percpu::current().apic.remaining() == 0;
        self.ended.store(ended, Ordering::Relaxed);
        ended
    }

    /// Returns the address that the last arrival before the watchdog's interrupted, if that came.
    pub(super) fn last_rip(&self) -> Option<u64> {
        self.ended.load(Ordering::Relaxed).then(|| self.rip.load(Ordering::Relaxed))
    }
}
