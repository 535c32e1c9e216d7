//! From an overflow to an NMI: the time in between, and the LVT entry for performance counters.
//!
//! A PMI is on its way for some steps, and it meets the LVT entry as it is *then*. If the entry is masked, the PMI is
//! lost: the status bit stays, and nothing is remembered for the time when the entry is unmasked. The manuals say
//! only that a masked entry inhibits the interrupt; that nothing is kept follows from the entry having no place to
//! keep it (its delivery status is for interrupts that were accepted). A part that raises again is a flaw of its own
//! ([`super::Flaw::RaisesOnUnmask`]).
//!
//! Intel sets the mask bit when it delivers (SDM volume 3, "Local Vector Table"), so overflows of several counters
//! within one latency make one NMI. AMD does not (Linux 6.12, arch/x86/events/amd/core.c, says so too), so each makes
//! an NMI message; that a CPU keeps one NMI pending at most is a matter of the CPU and not of this model.
//!
//! What was on its way when its counter was stopped is delivered all the same: that is the late NMI.

use super::Model;
use super::flaw::Flaw;
use super::violations::count;
use crate::profiles::Registers;

/// The mask bit.
pub(super) const LVT_MASKED: u32 = 1 << 16;
/// Vector, delivery mode and mask bit: what can be written.
const LVT_WRITABLE: u32 = LVT_MASKED | LVT_MODE | LVT_VECTOR;
/// The delivery status bit: read-only, and never set here, because delivery takes no time.
const LVT_STATUS: u32 = 1 << 12;
const LVT_MODE: u32 = 7 << 8;
const LVT_VECTOR: u32 = 0xff;
const MODE_FIXED: u32 = 0;
const MODE_NMI: u32 = 4 << 8;

/// PMIs that can be on their way at once; one more joins the last one. More than there are counters.
pub const IN_FLIGHT_MAX: usize = 32;

/// Interrupts that an LVT entry with a vector has delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupts {
    /// How many.
    pub count: u32,
    /// Vector of the last one.
    pub vector: u8,
}

impl Interrupts {
    /// None.
    pub const NONE: Self = Self { count: 0, vector: 0 };
}

impl Model {
    /// Returns how many NMIs were delivered since the last call: 0 or 1, on AMD also more.
    pub const fn take_nmis(&mut self) -> u32 {
        core::mem::replace(&mut self.nmis, 0)
    }

    /// Returns the interrupts that were delivered with a vector since the last call.
    pub const fn take_interrupts(&mut self) -> Interrupts {
        core::mem::replace(&mut self.interrupts, Interrupts::NONE)
    }

    /// Returns the steps until a PMI that is on its way meets the LVT entry; `u64::MAX` if there is none.
    #[must_use]
    pub fn steps_to_delivery(&self) -> u64 {
        self.in_flight.first().map_or(u64::MAX, |due| due.saturating_sub(self.now_steps).max(1))
    }

    /// Sends a PMI on its way.
    pub(super) fn request(&mut self) {
        if !self.has(Flaw::Silent) {
            self.in_flight.push(self.now_steps.saturating_add(self.latency_steps));
        }
    }

    /// Lets what is due meet the LVT entry; tells whether an interrupt came of it.
    pub(super) fn deliver(&mut self) -> bool {
        let mut delivered = false;
        for _ in 0..IN_FLIGHT_MAX {
            if self.in_flight.first().is_none_or(|due| due > self.now_steps) {
                break;
            }
            self.in_flight.pop();
            delivered |= self.meet_lvt_entry();
        }
        delivered
    }

    /// Tells whether a PMI that is delivered now is an NMI.
    pub(super) fn raises_nmis(&self) -> bool {
        self.lvt_entry() & (LVT_MASKED | LVT_MODE) == MODE_NMI && !self.has(Flaw::Silent)
    }

    pub(super) fn lvt_entry(&self) -> u32 {
        if self.has(Flaw::MaskSticks) { self.lvtpc | LVT_MASKED } else { self.lvtpc }
    }

    /// Writes the LVT entry.
    ///
    /// Reserved bits are dropped; in x2APIC mode they would fault, so they count as a violation.
    pub(super) fn set_lvt_entry(&mut self, value: u32) {
        if value & !(LVT_WRITABLE | LVT_STATUS) != 0 {
            count(&mut self.violations.reserved_bits);
        }
        let was_masked = self.lvt_entry() & LVT_MASKED != 0;
        self.lvtpc = value & LVT_WRITABLE;
        if was_masked && self.lvt_entry() & LVT_MASKED == 0 && self.is_overflow_pending() {
            self.unmasked_early();
        }
    }

    /// Handles an LVT entry that was unmasked while a counter's status bit is set.
    fn unmasked_early(&mut self) {
        if self.masks_itself() {
            count(&mut self.violations.unmasked_with_overflow);
        }
        if self.has(Flaw::RaisesOnUnmask) {
            self.request();
            self.deliver();
        }
    }

    fn is_overflow_pending(&self) -> bool {
        self.global_status & self.counters().0 != 0
    }

    fn meet_lvt_entry(&mut self) -> bool {
        let entry = self.lvt_entry();
        if entry & LVT_MASKED != 0 {
            return false;
        }
        match entry & LVT_MODE {
            MODE_NMI => self.nmis = self.nmis.saturating_add(1),
            MODE_FIXED => {
                let vector = (entry & LVT_VECTOR).to_le_bytes()[0];
                self.interrupts = Interrupts { count: self.interrupts.count.saturating_add(1), vector };
            }
            _ => return false,
        }
        if self.masks_itself() {
            self.lvtpc |= LVT_MASKED;
        }
        true
    }

    const fn masks_itself(&self) -> bool {
        matches!(self.profile.registers, Registers::Intel(_))
    }
}

/// PMIs on their way, in the order in which they are due: latency is the same for all that are on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    due_steps: [u64; IN_FLIGHT_MAX],
    first: usize,
    len: usize,
}

impl InFlight {
    /// None.
    pub(super) const EMPTY: Self = Self { due_steps: [0; IN_FLIGHT_MAX], first: 0, len: 0 };

    /// Returns when the first one is due.
    pub(super) fn first(&self) -> Option<u64> {
        if self.len == 0 { None } else { self.due_steps.get(self.first).copied() }
    }

    /// Adds one; a full list keeps the ones that it has.
    fn push(&mut self, due_steps: u64) {
        let place = (self.first + self.len) % IN_FLIGHT_MAX;
        if self.len < IN_FLIGHT_MAX
            && let Some(free) = self.due_steps.get_mut(place)
        {
            *free = due_steps;
            self.len += 1;
        }
    }

    const fn pop(&mut self) {
        self.first = (self.first + 1) % IN_FLIGHT_MAX;
        self.len = self.len.saturating_sub(1);
    }
}
