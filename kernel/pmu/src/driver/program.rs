//! What counters count: event selects, and the control bits of fixed counters.
//!
//! Sources: SDM volume 3, `IA32_PERFEVTSELx` and `IA32_FIXED_CTR_CTRL`; APM volume 2, `PERF_CTLn`. An encoding can't
//! reach a bit that its interface does not have, because a reserved bit is a #GP on Intel and a surprise on AMD.

use super::registers::{Fixed, GENERAL_MAX};
use super::run::EN;
use super::{Defect, Driver, FIXED_MAX};
use crate::bus::MsrBus;
use crate::counter::{Counter, CounterSet};
use crate::unit::Encoding;

/// Event select: count at CPL above 0.
const USR: u64 = 1 << 16;
/// Event select: count at CPL 0.
const OS: u64 = 1 << 17;
/// Event select: interrupt at overflow.
const INT: u64 = 1 << 20;
/// Bits of `IA32_FIXED_CTR_CTRL` for each counter, of which bit 2 (any thread) is never set.
const FIXED_BITS: u8 = 4;
const FIXED_MASK: u64 = 0xf;
const FIXED_OS: u64 = 1 << 0;
const FIXED_USR: u64 = 1 << 1;
const FIXED_PMI: u64 = 1 << 3;
/// `IA32_DEBUGCTL`: freeze the counters at a PMI.
const FREEZE_PERFMON_ON_PMI: u64 = 1 << 12;

impl<B: MsrBus, D: Defect> Driver<B, D> {
    pub(super) fn program_general(&mut self, counter: Counter, encoding: Option<Encoding>) {
        let select = encoding.map_or(0, |encoding| self.select_of(encoding));
        if let Some(copy) = self.selects.get_mut(usize::from(counter.index())) {
            *copy = select;
        }
        // Where there is a global register, that one stops and starts; EN stays set.
        let is_gated = self.registers.global.is_some() && encoding.is_some();
        self.access.write(self.select_msr(counter), if is_gated { select | EN } else { select });
    }

    /// Returns the event select of an encoding, without EN.
    fn select_of(&self, encoding: Encoding) -> u64 {
        let mut select = encoding.select & self.registers.select_valid;
        let (user, kernel) = privileges::<D>(encoding);
        select |= if user { USR } else { 0 } | if kernel { OS } else { 0 };
        select |= if D::FORGETS_INTERRUPT { 0 } else { INT };
        select | if D::WRITES_RESERVED_BIT { 1 << 63 } else { 0 }
    }

    pub(super) fn program_fixed(&mut self, fixed: Fixed, counter: Counter, encoding: Option<Encoding>) {
        let bits = encoding.map_or(0, fixed_bits::<D>);
        let shift = counter.index() % FIXED_MAX * FIXED_BITS;
        let others =
            if D::OVERWRITES_FIXED_NEIGHBOURS { 0 } else { self.fixed_control & !(FIXED_MASK << shift) };
        self.fixed_control = others | bits << shift;
        self.access.write(fixed.control, self.fixed_control);
    }

    /// Takes all events back, and with them the EN bits; all counts become 0.
    pub(super) fn forget_events(&mut self) {
        for counter in self.capabilities.general.iter() {
            self.access.write(self.select_msr(counter), 0);
        }
        if let Some(fixed) = self.registers.fixed {
            self.access.write(fixed.control, 0);
        }
        for counter in self.capabilities.counters().iter() {
            self.access.write(self.count_msr(counter), 0);
        }
        self.selects = [0; GENERAL_MAX];
        self.fixed_control = 0;
        self.programmed = CounterSet::EMPTY;
        self.enabled = CounterSet::EMPTY;
        self.running = CounterSet::EMPTY;
        self.armed = CounterSet::EMPTY;
        self.in_pmi = false;
    }

    /// Says whether a PMI freezes the counters. The other bits of the register are not ours, so it is read.
    pub(super) fn set_freeze(&mut self, freeze: bool) {
        let Some(msr) = self.registers.debug_control else { return };
        let Some(old) = self.access.read(msr) else { return };
        let bit = if freeze { FREEZE_PERFMON_ON_PMI } else { 0 };
        let new = old & !FREEZE_PERFMON_ON_PMI | bit;
        if new != old {
            self.access.write(msr, new);
        }
    }

    /// Tells whether PMIs freeze the counters: where a status bit says that they have.
    pub(super) fn freezes(&self) -> bool {
        self.handling.freeze && self.registers.global.is_some_and(|global| global.frozen != 0)
    }
}

/// Returns whether to count at CPL above 0, and at CPL 0.
const fn privileges<D: Defect>(encoding: Encoding) -> (bool, bool) {
    if D::SWAPS_PRIVILEGES { (encoding.kernel, encoding.user) } else { (encoding.user, encoding.kernel) }
}

/// Returns the four control bits of a fixed counter.
const fn fixed_bits<D: Defect>(encoding: Encoding) -> u64 {
    let (user, kernel) = privileges::<D>(encoding);
    let pmi = if D::FORGETS_INTERRUPT { 0 } else { FIXED_PMI };
    pmi | if user { FIXED_USR } else { 0 } | if kernel { FIXED_OS } else { 0 }
}
