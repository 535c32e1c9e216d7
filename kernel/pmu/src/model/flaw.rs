//! PMUs that lie: what hypervisors and broken parts do though CPUID announces a PMU.
//!
//! A driver has to find these out when it starts, or at least survive them.

use super::Model;
use super::register::Register;
use crate::counter::{Counter, CounterSet};

/// A way in which a PMU is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// All writes are forgotten, all reads give 0, nothing faults: a hypervisor's idea of a harmless PMU.
    Dead,
    /// It counts and sets the status, and never interrupts.
    Silent,
    /// This counter never counts.
    Stuck(Counter),
    /// The LVT entry can't be unmasked.
    MaskSticks,
    /// Writes of counters in full width are forgotten, though announced (Intel).
    FullWidthForgotten,
    /// The global status reads as 0.
    StatusHidden,
    /// Bits of the global status can't be cleared.
    StatusSticks,
    /// The freeze bits of `IA32_DEBUGCTL` are forgotten.
    FreezeForgotten,
    /// `IA32_DEBUGCTL` raises #GP.
    NoDebugControl,
    /// The global registers raise #GP, though announced (early parts with version 2, which the SDM's note warns of).
    NoGlobal,
    /// An LVT entry that is unmasked while the status is set raises a PMI again. Linux acknowledges late because
    /// parts from Haswell on do so (arch/x86/events/intel/core.c, `late_ack`); the manuals don't say it.
    RaisesOnUnmask,
}

impl Model {
    /// Tells whether it has this flaw.
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.has(Flaw::Dead)
    }

    pub(super) fn hides_status(&self) -> bool {
        self.has(Flaw::StatusHidden)
    }

    /// Returns the counters that never count.
    pub(super) const fn broken(&self) -> CounterSet {
        match self.flaw {
            Some(Flaw::Stuck(counter)) => counter.set(),
            _ => CounterSet::EMPTY,
        }
    }

    /// Tells whether a register that is announced is not there.
    pub(super) fn is_withheld(&self, register: Register) -> bool {
        use Register::{DebugControl, GlobalControl, GlobalStatus, StatusReset, StatusSet};
        match self.flaw {
            Some(Flaw::NoDebugControl) => register == DebugControl,
            Some(Flaw::NoGlobal) => {
                matches!(register, GlobalStatus | GlobalControl | StatusReset | StatusSet)
            }
            _ => false,
        }
    }
}
