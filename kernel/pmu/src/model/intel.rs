//! Intel's registers: which there are in which version of architectural performance monitoring, and what a write does.
//!
//! | registers | from version | |
//! |---|---|---|
//! | `IA32_PMCx`, `IA32_PERFEVTSELx` | 1 | a counter's own EN bit is all that enables it in version 1 |
//! | `IA32_FIXED_CTRx`, `IA32_FIXED_CTR_CTRL` | 2 | |
//! | `IA32_PERF_GLOBAL_STATUS`, `_CTRL`, `_OVF_CTRL` | 2 | |
//! | the freeze bits of `IA32_DEBUGCTL` | 2 | only with `IA32_PERF_CAPABILITIES` |
//! | bit 21 of a select (any thread) | 3 | reserved again where CPUID.0AH:EDX bit 15 deprecates it |
//! | `_STATUS_RESET` (in place of `_OVF_CTRL`), `_STATUS_SET`, `_INUSE` | 4 | |
//! | `IA32_A_PMCx` | | with `IA32_PERF_CAPABILITIES` bit 13 |
//!
//! Choices, where the SDM leaves one:
//! - A reserved bit raises #GP in every register, also "AnyThread" where it is deprecated or not yet there.
//! - Bit 19 of a select (pin control) is "not writeable" from Sandy Bridge on: a write of it is dropped.
//! - SDM volume 4 gives the global registers to every version above 0; volume 3 introduces them with version 2, and
//!   version 1 parts have none. Volume 3 is followed.
//! - In version 4 and up, the status bits that need another feature (PT, SGX, PEBS) can be cleared and set whether or
//!   not the part has the feature.

use super::Model;
use super::counting::{DEBUG_FREEZE_BRANCHES, DEBUG_FREEZE_COUNTERS};
use super::register::{Register, nth, within};
use super::signal;
use super::slot::Written;
use crate::counter::{Counter, CounterSet};
use crate::profiles::IntelRegisters;

/// Count at CPL above 0.
pub(super) const SELECT_USER: u64 = 1 << 16;
/// Count at CPL 0.
pub(super) const SELECT_KERNEL: u64 = 1 << 17;
/// Toggle pins.
pub(super) const SELECT_PIN_CONTROL: u64 = 1 << 19;
/// Ask for a PMI at overflow.
pub(super) const SELECT_INTERRUPT: u64 = 1 << 20;
/// Count for all threads of the core.
pub(super) const SELECT_ANY_THREAD: u64 = 1 << 21;
/// Count.
pub(super) const SELECT_ENABLE: u64 = 1 << 22;
/// `IN_TX`.
const SELECT_IN_TRANSACTION: u64 = 1 << 32;
/// `IN_TXCP`: counter 2 only.
const SELECT_CHECKPOINTED: u64 = 1 << 33;
/// Adaptive PEBS records.
const SELECT_ADAPTIVE: u64 = 1 << 34;

/// `IA32_PERF_CAPABILITIES`: PEBS record format.
const CAPABILITY_PEBS_FORMAT: u64 = 0xf << 8;
/// `IA32_PERF_CAPABILITIES`: counters can be frozen in SMM.
const CAPABILITY_FREEZE_IN_SMM: u64 = 1 << 12;
/// `IA32_PERF_CAPABILITIES`: counters can be written in full width.
const CAPABILITY_FULL_WIDTH: u64 = 1 << 13;
/// `IA32_PERF_CAPABILITIES`: adaptive PEBS, on all counters.
const CAPABILITY_PEBS_BASELINE: u64 = 1 << 14;
/// `IA32_PERF_CAPABILITIES`: performance metrics.
const CAPABILITY_METRICS: u64 = 1 << 15;

/// Enables the performance metrics in the global control register, and their overflow in the status.
const GLOBAL_METRICS: u64 = 1 << 48;
/// The last of the state bits in the global status: whether anything changed.
const STATUS_CHANGED: u64 = 1 << 63;
/// Overflow of the debug store's buffer.
const STATUS_BUFFER: u64 = 1 << 62;
/// Overflow of an uncore counter.
const STATUS_UNCORE: u64 = 1 << 61;
/// Uncore, SGX, both freeze bits, and PT: bits 61 to 58 and 55.
const STATUS_VERSION_4: u64 = STATUS_UNCORE | 1 << 60 | 1 << 59 | 1 << 58 | 1 << 55;

/// `IA32_MISC_ENABLE` after a reset: fast strings, performance monitoring available, branch trace store and PEBS
/// not unavailable.
pub(super) const MISC_ENABLE_RESET: u64 = 1 << 0 | MISC_PERFMON;
/// Performance monitoring is available: read-only.
const MISC_PERFMON: u64 = 1 << 7;
/// Branch trace store and PEBS unavailable: read-only.
const MISC_UNAVAILABLE: u64 = 1 << 11 | 1 << 12;

impl IntelRegisters {
    /// Finds the register of this number.
    pub(super) fn decode(&self, msr: u32) -> Option<Register> {
        self.decode_counter(msr).or_else(|| self.decode_global(msr)).or_else(|| self.decode_other(msr))
    }

    /// Returns the counters.
    pub(super) const fn counters(&self) -> CounterSet {
        let fixed = CounterSet::first_general(self.fixed).0 << 32;
        CounterSet(CounterSet::first_general(self.general).0 | fixed)
    }

    fn decode_counter(&self, msr: u32) -> Option<Register> {
        let general = |first| nth(msr, first, self.general).and_then(Counter::general);
        if let Some(counter) = general(0xc1) {
            return Some(Register::Counter(counter, Written::Legacy));
        }
        if let Some(counter) = general(0x186) {
            return Some(Register::Select(counter));
        }
        if let Some(counter) = nth(msr, 0x309, self.fixed).and_then(Counter::fixed) {
            return Some(Register::Counter(counter, Written::Full));
        }
        let full = general(0x4c1).filter(|_| self.has(CAPABILITY_FULL_WIDTH))?;
        Some(Register::Counter(full, Written::Full))
    }

    fn decode_global(&self, msr: u32) -> Option<Register> {
        let (register, since) = match msr {
            0x38d => (Register::FixedControl, 2),
            0x38e => (Register::GlobalStatus, 2),
            0x38f => (Register::GlobalControl, 2),
            0x390 => (Register::StatusReset, 2),
            0x391 => (Register::StatusSet, 4),
            0x392 => (Register::InUse, 4),
            _ => return None,
        };
        (self.version >= since).then_some(register)
    }

    fn decode_other(&self, msr: u32) -> Option<Register> {
        match msr {
            0x1a0 => Some(Register::MiscEnable),
            0x1d9 => Some(Register::DebugControl),
            0x345 => self.capabilities.map(Register::Capabilities),
            0x3f1 if self.capabilities.is_some() && self.version >= 2 => Some(Register::PebsEnable),
            _ => None,
        }
    }

    const fn has(&self, capability: u64) -> bool {
        matches!(self.capabilities, Some(bits) if bits & capability != 0)
    }

    /// Returns the bits that an event select may have.
    const fn select_bits(&self, counter: Counter) -> u64 {
        let mut bits = 0xffff_ffff & !SELECT_ANY_THREAD;
        if self.any_thread {
            bits |= SELECT_ANY_THREAD;
        }
        if self.transactional {
            bits |= SELECT_IN_TRANSACTION;
        }
        if self.transactional && counter.index() == 2 {
            bits |= SELECT_CHECKPOINTED;
        }
        if self.has(CAPABILITY_PEBS_BASELINE) {
            bits |= SELECT_ADAPTIVE;
        }
        bits
    }

    /// Returns the bits that the control register of the fixed counters may have: four for each, and one more for
    /// adaptive PEBS.
    fn fixed_bits(&self) -> u64 {
        let each = if self.any_thread { 0b1111 } else { 0b1011 };
        let adaptive = if self.has(CAPABILITY_PEBS_BASELINE) { 1 << 32 } else { 0 };
        (0..self.fixed).fold(0, |bits, index| bits | (each | adaptive) << (4 * index))
    }

    /// Returns the bits that `IA32_DEBUGCTL` may have: those of branches and traces, and the freeze bits.
    const fn debug_bits(&self) -> u64 {
        let mut bits = 0x7c3;
        if self.capabilities.is_some() && self.version >= 2 {
            bits |= DEBUG_FREEZE_BRANCHES | DEBUG_FREEZE_COUNTERS;
        }
        if self.version >= 3 {
            bits |= 1 << 13;
        }
        if self.has(CAPABILITY_FREEZE_IN_SMM) {
            bits |= 1 << 14;
        }
        if self.transactional {
            bits |= 1 << 15;
        }
        bits
    }

    const fn control_bits(&self) -> u64 {
        let metrics = if self.has(CAPABILITY_METRICS) { GLOBAL_METRICS } else { 0 };
        self.counters().0 | metrics
    }

    /// Returns the status bits that can be cleared.
    const fn reset_bits(&self) -> u64 {
        let newer = match self.version {
            0..=2 => 0,
            3 => STATUS_UNCORE,
            _ => STATUS_VERSION_4,
        };
        self.control_bits() | STATUS_CHANGED | STATUS_BUFFER | newer
    }

    const fn pebs_bits(&self) -> u64 {
        let general = CounterSet::first_general(self.general).0;
        let latency = if self.has(CAPABILITY_PEBS_FORMAT) { general << 32 } else { 0 };
        self.counters().0 | latency
    }
}

impl Model {
    /// Writes a register; `None` is #GP.
    pub(super) fn write_intel(
        &mut self,
        facts: &IntelRegisters,
        register: Register,
        value: u64,
    ) -> Option<()> {
        match register {
            Register::Counter(counter, written) => return self.write_counter(counter, written, value),
            Register::Select(counter) => self.write_select(facts, counter, value)?,
            Register::FixedControl => self.set_fixed_control(facts, within(value, facts.fixed_bits())?),
            Register::GlobalControl => self.global_control = within(value, facts.control_bits())?,
            Register::StatusReset => self.clear_status(within(value, facts.reset_bits())?),
            Register::StatusSet => self.global_status |= within(value, facts.reset_bits() & !STATUS_CHANGED)?,
            Register::DebugControl => {
                let forgotten = if self.has(super::Flaw::FreezeForgotten) { 3 << 11 } else { 0 };
                self.debug_control = within(value, facts.debug_bits())? & !forgotten;
            }
            Register::MiscEnable => {
                let read_only = MISC_PERFMON | MISC_UNAVAILABLE;
                self.misc_enable = value & !read_only | self.misc_enable & read_only;
            }
            Register::PebsEnable => self.pebs_enable = within(value, facts.pebs_bits())?,
            Register::GlobalStatus | Register::InUse | Register::Capabilities(_) => return None,
            Register::Nothing => {}
        }
        self.refresh();
        Some(())
    }

    fn write_select(&mut self, facts: &IntelRegisters, counter: Counter, value: u64) -> Option<()> {
        let dropped = if facts.pin_control { 0 } else { SELECT_PIN_CONTROL };
        let select = within(value, facts.select_bits(counter))? & !dropped;
        self.set_select(counter, select, signal::intel(select, facts.missing_events));
        Some(())
    }

    fn set_fixed_control(&mut self, facts: &IntelRegisters, value: u64) {
        self.fixed_control = value;
        for counter in (0..facts.fixed).filter_map(Counter::fixed) {
            let bits = value >> (4 * counter.index());
            self.with_slot(counter, |slot| {
                slot.kernel = bits & 0b0001 != 0;
                slot.user = bits & 0b0010 != 0;
                slot.interrupts = bits & 0b1000 != 0;
            });
            self.set_enabled(counter, bits & 0b0011 != 0);
        }
    }

    /// Returns `IA32_PERF_GLOBAL_INUSE`: which counters have an event set up, and whether any can interrupt.
    pub(super) fn in_use(&self) -> u64 {
        let mut bits = 0;
        for counter in self.counters().iter() {
            let slot = self.slot(counter);
            let in_use = if counter.is_fixed() { slot.counts_somewhere() } else { slot.select & 0xff != 0 };
            bits |= if in_use { counter.set().0 } else { 0 };
            bits |= if slot.interrupts { 1 << 63 } else { 0 };
        }
        bits | if self.pebs_enable != 0 { 1 << 63 } else { 0 }
    }
}
