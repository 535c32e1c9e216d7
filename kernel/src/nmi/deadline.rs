//! A deadline: the local APIC's timer as a source of its own, while no virtual PMU counts with it.
//!
//! Self-test image only: in the other one the timer always belongs to the PMU.

use core::sync::atomic::{AtomicBool, Ordering};

use nmiprof_pmu::CountdownTimer;

use crate::arch::apic::LocalApic;
use crate::arch::percpu;

/// Whether a deadline is set. Written by the thread before the timer is armed, and by the handler.
#[derive(Debug, Default)]
pub struct Deadline(AtomicBool);

impl Deadline {
    /// Sets the deadline so many timer ticks from now.
    ///
    /// # Context
    /// Any, on this CPU; sampling is off, and the timer raises NMIs.
    pub fn set(&self, apic: LocalApic, ticks: u32) {
        // Marked before it is armed: an NMI that comes at once is recognized.
        self.0.store(true, Ordering::Relaxed);
        apic.arm(ticks);
    }

    /// Claims a deadline that has passed: 1, else 0.
    ///
    /// # Context
    /// NMI.
    pub fn claim(&self) -> u32 {
        let passed = self.0.load(Ordering::Relaxed) && percpu::current().apic.remaining() == 0;
        if passed {
            self.0.store(false, Ordering::Relaxed);
        }
        u32::from(passed)
    }
}
