//! The registers that a PMU can have, whatever their numbers, and what reading them gives.

use super::Model;
use super::slot::Written;
use crate::counter::Counter;

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
}

/// Returns which of `count` consecutive registers from `first` on has this number.
pub(super) fn nth(msr: u32, first: u32, count: u8) -> Option<u8> {
    u8::try_from(msr.checked_sub(first)?).ok().filter(|index| *index < count)
}
