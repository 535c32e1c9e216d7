//! AMD's registers: the four counters of the K7, the core extension, PerfMonV2.
//!
//! | registers | |
//! |---|---|
//! | C001_0000H to 3H, 4H to 7H | selects and counters; with the core extension, other names of its first four |
//! | C001_0200H + 2n, + 1 | select and counter n of the core extension |
//! | C000_0300H to 303H | PerfMonV2: status, control, clear status, set status |
//! | 1D9H | `DebugCtl`; its freeze bits with CPUID 8000_0022H:EAX bit 2 |
//!
//! Choices, where the manuals leave one:
//! - Reserved bits of selects, counters and global registers are dropped without #GP. The APM only calls them
//!   reserved; that hardware ignores them is what KVM does after AMD's word (Linux 6.16, arch/x86/kvm/svm/pmu.c) and
//!   what Linux relies on when it clears the status with all ones. They count as a violation, though not in the
//!   register that clears the status, where all ones are usual.
//! - A write of the read-only status is ignored (PPR; KVM as well).
//! - The bits for guest and host are kept and have no effect: there is no guest.
//! - A select that is neither for user nor for kernel counts nothing (APM volume 2, the OS_USER field).

use super::Model;
use super::counting::{
    DEBUG_FREEZE_BRANCHES, DEBUG_FREEZE_COUNTERS, STATUS_BRANCHES_FROZEN, STATUS_COUNTERS_FROZEN,
};
use super::intel::{SELECT_ANY_THREAD, SELECT_PIN_CONTROL};
use super::register::{Register, nth};
use super::signal;
use super::slot::Written;
use super::violations::count;
use crate::counter::{Counter, CounterSet};
use crate::profiles::AmdRegisters;

/// Width of all counters.
pub(super) const WIDTH_BITS: u8 = 48;

/// Count in a guest only, in the host only.
pub(super) const SELECT_GUEST_HOST: u64 = 0b11 << 40;
/// High bits of the event code.
const SELECT_EVENT_HIGH: u64 = 0xf << 32;
/// Last branches, single-stepping on branches, and the four pins.
const DEBUG_LEGACY: u64 = 0b11_1111;

impl AmdRegisters {
    /// Finds the register of this number.
    pub(super) fn decode(&self, msr: u32) -> Option<Register> {
        const LEGACY_COUNTERS: u8 = 4;
        if let Some(counter) = nth(msr, 0xc001_0000, LEGACY_COUNTERS).and_then(Counter::general) {
            return Some(Register::Select(counter));
        }
        if let Some(counter) = nth(msr, 0xc001_0004, LEGACY_COUNTERS).and_then(Counter::general) {
            return Some(Register::Counter(counter, Written::Truncated));
        }
        match msr {
            0x1d9 => Some(Register::DebugControl),
            0xc000_0300..=0xc000_0303 if self.global => global_register(msr),
            _ if self.core_extension => self.decode_extension(msr),
            _ => None,
        }
    }

    fn decode_extension(&self, msr: u32) -> Option<Register> {
        let position = nth(msr, 0xc001_0200, 2 * self.counters)?;
        let counter = Counter::general(position / 2)?;
        Some(if position % 2 == 0 {
            Register::Select(counter)
        } else {
            Register::Counter(counter, Written::Truncated)
        })
    }

    const fn select_bits(&self) -> u64 {
        let low = 0xffff_ffff & !(SELECT_PIN_CONTROL | SELECT_ANY_THREAD);
        if self.wide_select { low | SELECT_EVENT_HIGH | SELECT_GUEST_HOST } else { low }
    }

    const fn debug_bits(&self) -> u64 {
        let freeze = if self.freeze { DEBUG_FREEZE_BRANCHES | DEBUG_FREEZE_COUNTERS } else { 0 };
        DEBUG_LEGACY | freeze
    }

    const fn status_bits(&self) -> u64 {
        let freeze = if self.freeze { STATUS_BRANCHES_FROZEN | STATUS_COUNTERS_FROZEN } else { 0 };
        CounterSet::first_general(self.counters).0 | freeze
    }
}

const fn global_register(msr: u32) -> Option<Register> {
    Some(match msr & 3 {
        0 => Register::GlobalStatus,
        1 => Register::GlobalControl,
        2 => Register::StatusReset,
        _ => Register::StatusSet,
    })
}

impl Model {
    /// Writes a register; `None` is #GP.
    pub(super) fn write_amd(&mut self, facts: &AmdRegisters, register: Register, value: u64) -> Option<()> {
        match register {
            Register::Counter(counter, written) => {
                self.kept(value, (1 << WIDTH_BITS) - 1);
                return self.write_counter(counter, written, value);
            }
            Register::Select(counter) => {
                let select = self.kept(value, facts.select_bits());
                self.set_select(counter, select, signal::amd(select, facts.events));
            }
            Register::GlobalControl => {
                self.global_control = self.kept(value, CounterSet::first_general(facts.counters).0);
            }
            Register::StatusReset => self.clear_status(value),
            Register::StatusSet => self.global_status |= self.kept(value, facts.status_bits()),
            Register::GlobalStatus => count(&mut self.violations.read_only),
            Register::DebugControl if value & !facts.debug_bits() == 0 => {
                let forgotten = if self.has(super::Flaw::FreezeForgotten) { 3 << 11 } else { 0 };
                self.debug_control = value & !forgotten;
            }
            _ => return None,
        }
        self.refresh();
        Some(())
    }

    /// Returns the bits of a value that a register keeps.
    const fn kept(&mut self, value: u64, bits: u64) -> u64 {
        if value & !bits != 0 {
            count(&mut self.violations.reserved_bits);
        }
        value & bits
    }
}
