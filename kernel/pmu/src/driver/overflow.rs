//! Loading counters, and finding those that have overflowed since.

use super::registers::Global;
use super::{Defect, Driver};
use crate::bus::MsrBus;
use crate::counter::{Counter, CounterSet};

impl<B: MsrBus, D: Defect> Driver<B, D> {
    /// Takes overflows from the status register.
    pub(super) fn take_by_status(&mut self, global: Global) -> CounterSet {
        let known = self.known_status(global);
        let pending = self.access.read(global.status).unwrap_or(0) & known;
        if pending != 0 && !D::FORGETS_ACKNOWLEDGE {
            let bits = if D::ACKNOWLEDGES_UNREAD { known } else { pending };
            let thawing = if D::STAYS_FROZEN { bits & !global.frozen } else { bits };
            self.access.write(global.acknowledge, thawing);
        }
        let reported = if D::RETURNS_DISABLED { self.capabilities.counters() } else { self.enabled };
        CounterSet(pending).intersection(reported)
    }

    /// Finds the counters whose top bit has become 0: their load set it.
    ///
    /// There is nothing to acknowledge. The bit stays 0 until the next load, so a counter that was reported is not
    /// asked before that.
    pub(super) fn take_by_top_bit(&mut self) -> CounterSet {
        let mut found = CounterSet::EMPTY;
        for counter in self.enabled.intersection(self.armed).iter() {
            let count = self.access.read(self.count_msr(counter));
            if count.is_some_and(|count| count & self.top_bit(counter) == 0) {
                found = found.union(counter.set());
            }
        }
        if !D::REPORTS_TWICE {
            self.armed = self.armed.without(found);
        }
        found
    }

    const fn top_bit(&self, counter: Counter) -> u64 {
        if D::TOP_BIT_IS_31 { 1 << 31 } else { 1 << (self.capabilities.width_bits(counter) - 1) }
    }

    /// Returns the status bits that mean something to us; others may be set by hardware that knows more.
    const fn known_status(&self, global: Global) -> u64 {
        self.capabilities.counters().0 | global.frozen
    }

    /// Returns how many bits of a counter a load decides, the last of them for those above.
    pub(super) fn load_bits(&self, counter: Counter) -> u8 {
        let width = self.capabilities.width_bits(counter);
        if counter.is_fixed() { width } else { width.min(self.registers.write_bits) }
    }

    /// Returns what to write for so many events.
    pub(super) fn load_value(&self, counter: Counter, events: u64) -> u64 {
        let events = if D::RELOADS_ONE_TOO_MANY { events.wrapping_add(1) } else { events };
        let bits = self.load_bits(counter);
        let bits = if D::DOES_NOT_EXTEND_THE_SIGN { bits.min(32) } else { bits };
        events.wrapping_neg() & low_bits(bits)
    }

    /// Acknowledges whatever may be pending.
    pub(super) fn acknowledge_all(&mut self) {
        if let Some(global) = self.registers.global {
            self.access.write(global.acknowledge, self.known_status(global));
        }
    }
}

/// Returns a mask of this many bits, 1 to 64.
pub(super) const fn low_bits(bits: u8) -> u64 {
    u64::MAX >> (64 - bits)
}
