//! The registers that a PMU can have, whatever their numbers and vendor: what they are after a reset, what reading gives,
//! and what a write of a counter or of an event select does once it is let through.

use super::intel::{SELECT_ENABLE, SELECT_INTERRUPT, SELECT_KERNEL, SELECT_USER};
use super::slot::{Slot, Written};
use super::violations::count;
use super::{Flaw, Model, signal};
use crate::counter::Counter;
use crate::profiles::Registers;

/// A register of a PMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// A counter, and how much of a write reaches it.
    Counter(Counter, Written),
    /// The event select of a general counter.
    Select(Counter),
    /// `IA32_FIXED_CTR_CTRL`.
    FixedControl,
    /// `IA32_PERF_GLOBAL_STATUS`, `PerfCntrGlobalStatus`.
    GlobalStatus,
    /// `IA32_PERF_GLOBAL_CTRL`, `PerfCntrGlobalCtl`.
    GlobalControl,
    /// `IA32_PERF_GLOBAL_OVF_CTRL` or `IA32_PERF_GLOBAL_STATUS_RESET`, `PerfCntrGlobalStatusClr`.
    StatusReset,
    /// `IA32_PERF_GLOBAL_STATUS_SET`, `PerfCntrGlobalStatusSet`.
    StatusSet,
    /// `IA32_PERF_GLOBAL_INUSE`.
    InUse,
    /// `IA32_PERF_CAPABILITIES`, with its value.
    Capabilities(u64),
    /// `IA32_DEBUGCTL`, `DebugCtl`.
    DebugControl,
    /// `IA32_MISC_ENABLE`.
    MiscEnable,
    /// `IA32_PEBS_ENABLE`: kept, without effect.
    PebsEnable,
    /// One that answers 0 and forgets.
    Nothing,
}

impl Model {
    /// Returns what reading a register gives.
    ///
    /// The registers that only clear or set bits of another one read as 0: the manuals don't say, KVM does so
    /// (Linux 6.16, arch/x86/kvm/pmu.c).
    pub(super) fn read_register(&self, register: Register) -> u64 {
        if self.is_dead() && !matches!(register, Register::Capabilities(_) | Register::MiscEnable) {
            return 0;
        }
        match register {
            Register::Counter(counter, _) => self.slot(counter).value,
            Register::Select(counter) => self.slot(counter).select,
            Register::FixedControl => self.fixed_control,
            Register::GlobalStatus if self.hides_status() => 0,
            Register::GlobalStatus => self.global_status,
            Register::GlobalControl => self.global_control,
            Register::InUse => self.in_use(),
            Register::Capabilities(value) => value,
            Register::DebugControl => self.debug_control,
            Register::MiscEnable => self.misc_enable,
            Register::PebsEnable => self.pebs_enable,
            Register::StatusReset | Register::StatusSet | Register::Nothing => 0,
        }
    }

    /// Puts the registers into the state that they have after a reset.
    ///
    /// The global control register then enables all general counters (SDM volume 3, "Processor States Following
    /// Power-up, Reset, or INIT"; KVM says that AMD's does so too, Linux 6.16, arch/x86/kvm/pmu.c), so that software
    /// for version 1 works.
    pub(super) fn reset(&mut self) {
        let (general_bits, fixed_bits) = match &self.profile.registers {
            Registers::Intel(facts) => (facts.general_width_bits, facts.fixed_width_bits),
            Registers::Amd(_) => (super::amd::WIDTH_BITS, 0),
            Registers::Forgotten => (0, 0),
        };
        let counters = self.counters();
        for counter in counters.iter() {
            let bits = if counter.is_fixed() { fixed_bits } else { general_bits };
            let signal = signal::intel_fixed(counter);
            let width_mask = (1 << bits) - 1;
            self.with_slot(counter, |slot| *slot = Slot { width_mask, signal, ..Slot::STOPPED });
        }
        self.global_control = if self.has_global() { counters.0 & 0xffff_ffff } else { 0 };
        self.refresh();
    }

    /// Clears bits of the status.
    pub(super) fn clear_status(&mut self, bits: u64) {
        if !self.has(Flaw::StatusSticks) {
            self.global_status &= !bits;
        }
    }

    /// Writes a counter; `None` is #GP.
    pub(super) fn write_counter(&mut self, counter: Counter, written: Written, value: u64) -> Option<()> {
        let mask = self.slot(counter).width_mask;
        let value = match written {
            Written::Legacy => sign_extended(value) & mask,
            Written::Full => within(value, mask)?,
            Written::Truncated => value & mask,
        };
        if self.running.contains(counter) {
            count(&mut self.violations.written_while_counting);
        }
        let is_forgotten =
            written == Written::Full && !counter.is_fixed() && self.has(Flaw::FullWidthForgotten);
        if !is_forgotten {
            self.with_slot(counter, |slot| slot.value = value);
        }
        Some(())
    }

    /// Lets a general counter count what its select says.
    pub(super) fn set_select(&mut self, counter: Counter, select: u64, signal: signal::Signal) {
        let before = self.slot(counter).select;
        let how = SELECT_ENABLE | SELECT_INTERRUPT;
        let counts_on = self.running.contains(counter) && select & SELECT_ENABLE != 0;
        if counts_on && (before ^ select) & !how != 0 {
            count(&mut self.violations.changed_while_counting);
        }
        self.with_slot(counter, |slot| {
            slot.select = select;
            slot.signal = signal;
            slot.user = select & SELECT_USER != 0;
            slot.kernel = select & SELECT_KERNEL != 0;
            slot.interrupts = select & SELECT_INTERRUPT != 0;
        });
        self.set_enabled(counter, select & SELECT_ENABLE != 0);
    }

    /// Notes whether a counter's own register enables it. One that counts at no privilege level does not count.
    pub(super) fn set_enabled(&mut self, counter: Counter, enabled: bool) {
        let counts = enabled && self.slot(counter).counts_somewhere();
        let others = self.enabled.without(counter.set());
        self.enabled = if counts { others.union(counter.set()) } else { others };
    }
}

/// Returns which of `count` consecutive registers from `first` on has this number.
pub(super) fn nth(msr: u32, first: u32, count: u8) -> Option<u8> {
    u8::try_from(msr.checked_sub(first)?).ok().filter(|index| *index < count)
}

/// Returns the value if it has no other bits than these.
pub(super) const fn within(value: u64, bits: u64) -> Option<u64> {
    if value & !bits == 0 { Some(value) } else { None }
}

/// Returns the low 32 bits with their sign extended.
const fn sign_extended(value: u64) -> u64 {
    let low = value & 0xffff_ffff;
    if low & 0x8000_0000 == 0 { low } else { low | 0xffff_ffff_0000_0000 }
}
